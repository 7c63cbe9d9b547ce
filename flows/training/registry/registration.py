"""What became of a registered model; apart from MLflow, so that to read it costs no import."""

from dataclasses import dataclass

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True, slots=True)
class Registration:
    """What became of a candidate.

    Parameters
    ----------
    run_id : str
        Tracking run.
    version : str
        Version of the registered model.
    alias : str
        "champion" or "challenger".
    reason : str
        Why, in words.
    """

    run_id: str
    version: str
    alias: str
    reason: str
