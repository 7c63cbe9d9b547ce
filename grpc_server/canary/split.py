"""Decides which calls go to the canary: by the hash of a key, or by chance.

::

    0 ──────── share ────────────────────── 1 - control ──────── 1
      canary           champion, not compared           control

A call's place in [0, 1) is fixed by its key. So a larger share keeps all keys that it has, and
every process and every restart decides alike.
"""

from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b

# Metadata of a call that holds its key.
KEY_NAME = "prediction-key"
# Metadata of a call that only the champion may answer, with its value.
WITHOUT_CANARY = ("prediction-canary", "never")
_N_BYTES = 8
_N_PLACES = 2 ** (8 * _N_BYTES)
# The control group is that many times as large as the canary's: its error hardly counts then.
_CONTROL_FACTOR = 2


class Arm(Enum):
    """What a call is used for."""

    CANARY = "canary"
    CONTROL = "control"
    REST = "rest"


def find_place(key: str) -> float:
    """Return the place of a key in [0, 1): its BLAKE2b digest of 8 bytes as a fraction.

    Parameters
    ----------
    key : str
        Any text; its UTF-8 bytes count.

    Returns
    -------
    float
        First 8 bytes, the highest first, divided by 2 ** 64 and rounded down to 53 bits.
    """
    digest = blake2b(key.encode("utf-8", "replace"), digest_size=_N_BYTES).digest()
    # Dropping 11 bits keeps the fraction below 1.
    return float(int.from_bytes(digest, "big") >> 11) / float(_N_PLACES >> 11)


@dataclass(frozen=True, slots=True)
class Split:
    """How the calls are shared out.

    Parameters
    ----------
    share : float
        Share of the canary, [0, 1].
    """

    share: float

    @property
    def control_share(self) -> float:
        """Share of the control group, [0, 1]."""
        return min(1.0 - self.share, _CONTROL_FACTOR * self.share)

    def find_arm(self, place: float) -> Arm:
        """Return the arm of a call at a place in [0, 1)."""
        if place < self.share:
            return Arm.CANARY
        return Arm.CONTROL if place >= 1.0 - self.control_share else Arm.REST
