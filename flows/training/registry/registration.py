"""The outcome of a registration. To read it takes no import of MLflow, which is slow."""

from collections.abc import Mapping
from dataclasses import dataclass, field

CHAMPION, CHALLENGER = "champion", "challenger"
# Tag of a version: which rows it has learned from.
FINAL_FIT_TAG = "final_fit"
# Tag of a version: the champion before it.
PREVIOUS_CHAMPION_TAG = "previous_champion"
# Tags of a version that begin so are figures of the comparison.
FIGURE_PREFIX = "promotion_"


@dataclass(frozen=True, slots=True)
class Registration:
    """The outcome of a registration.

    Parameters
    ----------
    run_id : str
        MLflow's run.
    version : str
        Version of the registered model.
    alias : str
        "champion" or "challenger".
    reason : str
        Why, in words.
    has_champion : bool
        Whether the registered model has a champion, this version or another.
    compared_with : str
        Version that was champion before; empty if there was none.
    figures : mapping of str to float
        Figures of the comparison with it, by name; empty if there was none.
    """

    run_id: str
    version: str
    alias: str
    reason: str
    has_champion: bool = True
    compared_with: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
