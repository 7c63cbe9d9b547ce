"""The columns and classes of a data set, as every later step knows them."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What the values of a column are."""

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
        What its values are.
    nullable : bool
        Whether a value may be missing.
    categories : tuple of str or tuple of int
        Categories that the model knows, sorted and unique; empty unless categorical.
    refuse_unknown : bool
        Whether another category is an error when the model is asked, rather than a missing value.
    """

    name: str
    kind: Kind = Kind.NUMERIC
    nullable: bool = False
    categories: tuple[str, ...] | tuple[int, ...] = ()
    refuse_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns and classes of a data set.

    Parameters
    ----------
    features : tuple of Feature
        Columns in the order of the matrix: numeric, then boolean, then categorical ones.
    class_labels : tuple of int or tuple of str
        Labels in the order of their codes, sorted; two or more.
    is_sparse : bool
        Whether the rows are a sparse matrix, whose columns are numeric and have no real names.
    """

    features: tuple[Feature, ...]
    class_labels: tuple[int, ...] | tuple[str, ...]
    is_sparse: bool = False

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns in their order."""
        return tuple(feature.name for feature in self.features)

    @property
    def nullable(self) -> tuple[bool, ...]:
        """Whether a value may be missing, per column."""
        return tuple(feature.nullable for feature in self.features)

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes."""
        return len(self.class_labels) == 2

    @property
    def categorical(self) -> tuple[Feature, ...]:
        """The categorical columns, which come last."""
        return self.of_kind(Kind.CATEGORICAL)

    @property
    def n_numeric(self) -> int:
        """How many columns are numbers or truth values; they come first."""
        return len(self.features) - len(self.categorical)

    def of_kind(self, kind: Kind) -> tuple[Feature, ...]:
        """Return the columns of a kind."""
        return tuple(feature for feature in self.features if feature.kind == kind)
