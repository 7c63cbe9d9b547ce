"""The outcome of a registration. To read it takes no import of MLflow, which is slow."""

from dataclasses import dataclass

CHAMPION, CHALLENGER = "champion", "challenger"


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
    """

    run_id: str
    version: str
    alias: str
    reason: str
    has_champion: bool = True
