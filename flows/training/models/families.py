"""The two families of classifiers, and their names."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of classifier: its name in files, and its name for people."""

    name: str
    display_name: str


LOGISTIC_REGRESSION = Family("logistic_regression", "Logistic Regression")
LIGHTGBM = Family("lightgbm", "LightGBM")
# The simpler family comes first: it wins if both have the same score.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in (LOGISTIC_REGRESSION, LIGHTGBM)}
)
