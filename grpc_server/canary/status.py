"""Values that describe a canary."""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What becomes of the canary's calls; the champion answers them unless the canary serves."""

    # No model was loaded yet, or its file is gone.
    WAITING = "waiting"
    # It answers its share of the calls.
    SERVING = "serving"
    # It is the champion's version.
    SAME = "same"
    # It would read calls differently from the champion.
    INCOMPATIBLE = "incompatible"
    # It left its bounds.
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Status:
    """A canary, as `GetModel` and the metrics show it.

    Parameters
    ----------
    state : State
        What becomes of its calls.
    version : str
        Version that is loaded; empty if there is none.
    share : float
        Share of the calls that it gets while it serves, [0, 1].
    reason : str
        Why it does not serve, or why a newer version does not; empty if nothing is in its way.
    n_calls : int
        Calls that were given to this version since it was loaded, 0 or more.
    n_rows : int
        Rows of the calls that it answered, 0 or more.
    """

    state: State = State.WAITING
    version: str = ""
    share: float = 0.0
    reason: str = ""
    n_calls: int = 0
    n_rows: int = 0


@dataclass(frozen=True, slots=True)
class Abort:
    """A version that must not serve any more.

    Parameters
    ----------
    sha256 : str
        Digest of its file, 64 lower-case hexadecimal digits.
    reason : str
        Why, with numbers.
    """

    sha256: str
    reason: str
