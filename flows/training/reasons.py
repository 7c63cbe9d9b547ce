"""The reasons that the registry keeps: one line each, for whoever reads them later."""

from training.errors import RegistryError
from training.text import escape

MAX_REASON = 1000  # characters


def check_reason(reason: str) -> str:
    """Return a reason without spaces at its ends; RegistryError if it says nothing, or too much."""
    reason = reason.strip()
    if not reason or not reason.isprintable():
        raise RegistryError(
            f"--reason {escape(reason[:100])!r} is not allowed: it is one line of characters that "
            "show, for whoever reads the history later"
        )
    if len(reason) > MAX_REASON:
        raise RegistryError(
            f"--reason has {len(reason)} characters, and the history takes {MAX_REASON}; shorten it"
        )
    return reason
