"""Messages between a process and its supervisor: lines of ASCII over a stream.

::

    process                      supervisor
       │ ── loaded ──────────────────> │    the process has a model
       │ <─────────────────── ready ── │    all processes have a model
       │ ── beat, every second ──────> │    its own server has just answered it
       │ ── abort CANARY ────────────> │    a canary left its bounds
       │ <──────────── abort CANARY ── │    as another process has found
       │ ── leaving ─────────────────> │    the process takes no more requests
       │ ── error MESSAGE ───────────> │    the process ends for this reason
       │ ── end of stream ───────────> │    the process has ended
       │ <─────────── end of stream ── │    end now, without a drain
"""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict

from grpc_server.canary.status import Abort

# From a process: its own server has just answered it. The second one also says that some of its
# metrics are not on the disk.
BEAT = "beat"
BEAT_UNCOUNTED = "beat, metrics incomplete"
# From a process: it has a model.
LOADED = "loaded"
# From a process: it stops, so it must get no more requests of the HTTP port.
LEAVING = "leaving"
# To a process: all processes have a model, so it may report ready.
READY = "ready"
_ERROR = "error "
_ABORT = "abort "


def send_line(control: socket.socket, line: str) -> None:
    """Send one line; ignore a closed stream, since this process ends then as well."""
    with suppress(ConnectionError):
        control.sendall(f"{line}\n".encode("ascii"))


def send_error(control: socket.socket, message: str) -> None:
    """Send the reason why this process ends; the message may have any characters."""
    send_line(control, _ERROR + json.dumps(message))


def listen(control: socket.socket) -> Iterator[str]:
    """Yield the received lines until the other end closes the stream.

    A reset counts as a close: the other end ended without reading all that it was sent.
    """
    with control.makefile(encoding="ascii", errors="replace") as lines:
        with suppress(ConnectionError):
            for line in lines:
                yield line.rstrip("\n")


def read_error(line: str) -> str | None:
    """Return the message of an error line, None for any other line."""
    if not line.startswith(_ERROR):
        return None
    # A process that died while sending leaves a line that is cut off.
    with suppress(ValueError):
        return str(json.loads(line.removeprefix(_ERROR)))
    return None


def write_abort(abort: Abort) -> str:
    """Return the line that says which canary must not serve any more."""
    return _ABORT + json.dumps(asdict(abort))


def read_abort(line: str) -> Abort | None:
    """Return the abort of a line, None for any other line."""
    if not line.startswith(_ABORT):
        return None
    # A process that died while sending leaves a line that is cut off.
    with suppress(ValueError, TypeError):
        return Abort(**json.loads(line.removeprefix(_ABORT)))
    return None
