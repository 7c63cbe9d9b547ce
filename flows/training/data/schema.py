"""The columns and classes of a data set: values that all later steps share."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The type of a column's cells."""

    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    CATEGORICAL = "categorical"


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
        Categories that the model knows, sorted and unique; empty unless the column is categorical.
    refuse_unknown : bool
        Whether the server refuses a category that the model does not know. By default the server
        treats it as missing.
    gaps : tuple of str or None
        Texts that the user's schema file calls gaps; None if it does not say.
    decimal : str
        The decimal mark that the user's schema file states; empty if it does not say.
    """

    name: str
    kind: Kind = Kind.NUMERIC
    nullable: bool = False
    categories: tuple[str, ...] | tuple[int, ...] = ()
    refuse_unknown: bool = False
    gaps: tuple[str, ...] | None = None
    decimal: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns and classes of a data set.

    Parameters
    ----------
    features : tuple of Feature
        Columns in the order of the matrix: numeric, then boolean, then categorical.
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
        """The categorical columns; they come last in the matrix."""
        return self.of_kind(Kind.CATEGORICAL)

    @property
    def n_numeric(self) -> int:
        """How many columns are numeric or boolean; they come first in the matrix."""
        return len(self.features) - len(self.categorical)

    def of_kind(self, kind: Kind) -> tuple[Feature, ...]:
        """Return the columns of one kind."""
        return tuple(feature for feature in self.features if feature.kind == kind)
