"""What is known of a shadow: a second model that scores the calls that another has answered."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShadowStatus:
    """A shadow, as `GetModel` shows it.

    Parameters
    ----------
    version : str
        Version that scores; empty if none does.
    share : float
        Share of the calls that it scores, [0, 1].
    refusal : str
        Why no version, or no newer one, scores; empty if nothing is in its way.
    n_rows, n_same : int
        Rows of this version since it was loaded, and those of them with the same label, 0 or more.
    """

    version: str = ""
    share: float = 0.0
    refusal: str = ""
    n_rows: int = 0
    n_same: int = 0
