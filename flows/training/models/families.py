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
# Of members of both families; it has no search of its own.
ENSEMBLE = Family("ensemble", "Ensemble")
# The simpler family comes first: it wins if both have the same score.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in (LOGISTIC_REGRESSION, LIGHTGBM)}
)


def find_display_name(name: str) -> str:
    """Return the name for people of a family, or of an ensemble."""
    return (
        ENSEMBLE.display_name if name == ENSEMBLE.name else FAMILIES[name].display_name
    )
