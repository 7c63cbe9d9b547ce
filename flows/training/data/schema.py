"""The columns and classes of a data set: values that all later steps share."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The type of a column's cells."""

    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"
    # Categories of which the model gets the share of each class among their rows.
    MEANS = "means"
    # Categories as such.
    CATEGORICAL = "categorical"


# Kinds whose columns hold seconds in the matrix, and become several numbers of the model.
TEMPORAL = (Kind.DATE, Kind.TIME)
# Kinds whose columns hold positions of categories in the matrix.
WITH_CATEGORIES = (Kind.MEANS, Kind.CATEGORICAL)


@dataclass(frozen=True, slots=True)
class Feature:
    """A column of the table.

    Parameters
    ----------
    name : str
        Name, unique in the table.
    kind : Kind
        Type of its cells.
    nullable : bool
        Whether a cell may be missing.
    categories : tuple of str or tuple of int
        Categories that the model knows, sorted and unique; empty unless the column has categories.
    refuse_unknown : bool
        Whether the server refuses a category that the model does not know. By default the server
        treats it as missing.
    gaps : tuple of str or None
        Texts that the user's schema file calls gaps; None if it does not say.
    decimal : str
        The decimal mark that the user's schema file states; empty if it does not say.
    format : str
        The form of a column of dates or times, see `date_columns.forms`; else empty.
    parts : tuple of str
        What the model gets of such a column, names in `date_columns.parts.PARTS`; else empty.
    redaction : str
        "drop" or "hash": what the server's prediction log writes of its values; empty for all.
    """

    name: str
    kind: Kind = Kind.NUMERIC
    nullable: bool = False
    categories: tuple[str, ...] | tuple[int, ...] = ()
    refuse_unknown: bool = False
    gaps: tuple[str, ...] | None = None
    decimal: str = ""
    format: str = ""
    parts: tuple[str, ...] = ()
    redaction: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns and classes of a data set.

    Parameters
    ----------
    features : tuple of Feature
        Columns in the order of the matrix: numeric, boolean, dates, times, means, categorical.
    class_labels : tuple of int or tuple of str
        Two labels or more; a label's position is its code. They are sorted, but of two, the
        positive class is the last, see `training.data.positive`.
    is_sparse : bool
        Whether the rows are a sparse matrix. All its columns are numeric, with made-up names.
    """

    features: tuple[Feature, ...]
    class_labels: tuple[int, ...] | tuple[str, ...]
    is_sparse: bool = False

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the matrix."""
        return tuple(feature.name for feature in self.features)

    @property
    def nullable(self) -> tuple[bool, ...]:
        """Whether a cell may be missing, for each column."""
        return tuple(feature.nullable for feature in self.features)

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.class_labels) == 2

    @property
    def categorical(self) -> tuple[Feature, ...]:
        """The columns whose categories the model gets as such; they come last in the matrix."""
        return self.of_kind(Kind.CATEGORICAL)

    @property
    def means(self) -> slice:
        """Where the columns of target means are, among the numbers that come before them."""
        start = sum(
            self.count_numbers(feature)
            for feature in self.features
            if feature.kind not in WITH_CATEGORIES
        )
        return slice(start, start + len(self.of_kind(Kind.MEANS)))

    @property
    def temporal(self) -> tuple[Feature, ...]:
        """The columns of dates and times."""
        return tuple(f for f in self.features if f.kind in TEMPORAL)

    @property
    def n_numeric(self) -> int:
        """How many numbers the model gets before the categories; a date gives several."""
        return sum(
            self.count_numbers(feature)
            for feature in self.features
            if feature.kind != Kind.CATEGORICAL
        )

    @property
    def n_means(self) -> int:
        """How many target means stand for a category: one, or one for each of several classes."""
        return 1 if self.is_binary else len(self.class_labels)

    def count_numbers(self, feature: Feature) -> int:
        """Return how many numbers the model gets of a column."""
        return self.n_means if feature.kind == Kind.MEANS else len(feature.parts) or 1

    def of_kind(self, kind: Kind) -> tuple[Feature, ...]:
        """Return the columns of one kind."""
        return tuple(feature for feature in self.features if feature.kind == kind)
