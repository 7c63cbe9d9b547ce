"""What a process and its supervisor tell each other over a stream: one line of ASCII each."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress

# From a process: its server has answered it just now, and whether all its metrics are on the disk.
BEAT = "beat"
BEAT_UNCOUNTED = "beat, metrics incomplete"
# From a process: it has a model.
LOADED = "loaded"
# To a process: all have one, so it may be ready.
READY = "ready"
_ERROR = "error "


def tell(control: socket.socket, line: str) -> None:
    """Send one line; without anybody at the other end, this one is about to end as well."""
    with suppress(ConnectionError):
        control.sendall(f"{line}\n".encode("ascii"))


def tell_error(control: socket.socket, message: str) -> None:
    """Send why a process ends; the message may have any characters."""
    tell(control, _ERROR + json.dumps(message))


def listen(control: socket.socket) -> Iterator[str]:
    """Yield the lines that come, until the other end is gone.

    It is gone, too, where the connection is reset: it ended without reading what it had been sent.
    """
    with control.makefile(encoding="ascii", errors="replace") as lines:
        with suppress(ConnectionError):
            for line in lines:
                yield line.rstrip("\n")


def read_error(line: str) -> str | None:
    """Return the message of a line that tells an error, None for any other line."""
    if not line.startswith(_ERROR):
        return None
    # What is cut off was the last word of a process that died over it.
    with suppress(ValueError):
        return str(json.loads(line.removeprefix(_ERROR)))
    return None
