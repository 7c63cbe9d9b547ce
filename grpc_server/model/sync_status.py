"""The status of `model_sync`: it writes the file beside its link, and the server reads it.

::

    STORE/NAME@ALIAS                 link that a server reads
    STORE/.NAME@ALIAS.status.json    when the registry answered, and why its version is not there

The server trusts nothing in the file: whoever can write the folder can write it.
"""

import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from grpc_server.errors import ArtifactCorrupt, ArtifactMissing
from grpc_server.model.files import read_file

# A status is below 8 KiB; a larger file is none.
_MAX_STATUS_BYTES = 64 * 1024
_MAX_CHARACTERS = 1000
# The writer may run on another machine, whose clock is a little ahead.
_MAX_CLOCK_SKEW_SECONDS = 60.0
_VERSION = re.compile(r"[0-9]{1,19}|sha256:[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """What `model_sync` did last.

    Parameters
    ----------
    uri : str
        Model that it follows; empty if unknown.
    contact_time : float or None
        When the registry last said which version that is, in seconds since the epoch. None if
        never, or unknown.
    wanted_version : str
        That version; empty if unknown.
    held_version : str
        Version that the link points at; empty if there is none.
    reason : str
        Why `wanted_version` is not there, or why the registry does not name one. Empty after a
        success.
    """

    uri: str = ""
    contact_time: float | None = None
    wanted_version: str = ""
    held_version: str = ""
    reason: str = ""

    def to_json(self) -> str:
        """Return the content of the file."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def find_status_file(link: Path) -> Path:
    """Return the path of the status beside a link."""
    return link.parent / f".{link.name}.status.json"


def read_status(link: Path) -> SyncStatus | None:
    """Read the status beside a link; never raise, and never wait for a named pipe.

    Parameters
    ----------
    link : Path
        Link to the model's folder.

    Returns
    -------
    SyncStatus or None
        The status. If the file is unreadable, a status whose reason says so. None without a file.
    """
    path = find_status_file(link)
    try:
        content = read_file(path, _MAX_STATUS_BYTES)
        values = json.loads(content)
    except ArtifactMissing:
        return None
    except ArtifactCorrupt as error:
        return _unreadable(str(error))
    except (ValueError, RecursionError) as error:
        return _unreadable(f"{path} is not JSON: {error}")
    if not isinstance(values, dict):
        return _unreadable(f"{path} is not a JSON object")
    return _parse(values, path)


def _unreadable(words: str) -> SyncStatus:
    return SyncStatus(
        reason=clean_text(f"the status of model_sync is unreadable: {words}")
    )


def _parse(values: dict[str, object], path: Path) -> SyncStatus:
    given, now = values.get("contact_time"), time.time()
    contact_time, reason = None, clean_text(values.get("reason"))
    # Compared before the conversion: an integer may be too large for a double, and NaN fails.
    if isinstance(given, int | float) and 0 <= given <= now + _MAX_CLOCK_SKEW_SECONDS:
        contact_time = min(float(given), now)
    elif given is not None:
        reason = reason or f"{path} has the time {str(given)[:40]!r}; check the clocks"
    return SyncStatus(
        clean_text(values.get("uri")),
        contact_time,
        clean_version(values.get("wanted_version")),
        clean_version(values.get("held_version")),
        clean_text(reason),
    )


def clean_version(value: object) -> str:
    """Return a version as the registry or `ModelSource` writes it; empty for anything else."""
    return value if isinstance(value, str) and _VERSION.fullmatch(value) else ""


def clean_text(value: object) -> str:
    """Return a text as one line of printable characters, cut at a limit; empty if it is none."""
    if not isinstance(value, str):
        return ""
    text = value[: 4 * _MAX_CHARACTERS]
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_MAX_CHARACTERS]
