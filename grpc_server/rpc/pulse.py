"""Shows that this process answers calls, by making one about every second.

Liveness is told over HTTP by a thread that knows nothing of gRPC, and to a supervisor by another. A
call takes the way that every caller's call takes: a connection, the serving thread, an answer.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import grpc

# Without an answer for so long, a process is taken for one that hangs. Under ten times the load
# that a server can take, an answer needs 0.1 s.
MAX_SILENCE_SECONDS = 10.0
_INTERVAL_SECONDS = 1.0
_CALL_SECONDS = 2.0
METHOD = "Beat"
_OPTIONS = [
    # A connection of its own: other channels of this process must not share it.
    ("grpc.use_local_subchannel_pool", 1),
    # By default a channel waits for up to two minutes before it connects again.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


@dataclass(frozen=True, slots=True)
class PulsePoint:
    """Where a process feels its pulse: an address and a method that nobody else knows.

    A port may be shared by many processes, and a call of a method that others know would be counted
    among theirs.
    """

    _token: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def address(self) -> str:
        """Address that only this process listens on."""
        return f"unix-abstract:prediction-{self._token}"

    @property
    def service(self) -> str:
        """Name of the service."""
        return f"pulse.{self._token}"

    @property
    def path(self) -> str:
        """Path of the one method of the service."""
        return f"/{self.service}/{METHOD}"


class Pulse:
    """Calls this process's own server, from `start` to `stop`.

    Parameters
    ----------
    point : PulsePoint
        Where this process's own server listens, and what it answers there.
    on_answer : callable
        Is called, by a thread of the pulse, after each answer.
    """

    def __init__(
        self, point: PulsePoint, on_answer: Callable[[], None] = lambda: None
    ) -> None:
        self._point = point
        self._on_answer = on_answer
        self._answered_at = monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin to call, once the server has started."""
        self._answered_at = monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Call no more."""
        self._stop.set()

    def why_not_alive(self) -> str | None:
        """Return the reason, or None if the server answers."""
        silence_seconds = monotonic() - self._answered_at
        if self._stop.is_set() or silence_seconds <= MAX_SILENCE_SECONDS:
            return None
        return f"the gRPC server has not answered for {silence_seconds:.0f} s"

    def _run(self) -> None:
        with grpc.insecure_channel(self._point.address, _OPTIONS) as channel:
            beat: grpc.UnaryUnaryMultiCallable[bytes, bytes]
            beat = channel.unary_unary(self._point.path)
            while not self._stop.wait(_INTERVAL_SECONDS):
                try:
                    beat(b"", timeout=_CALL_SECONDS)
                except grpc.RpcError:
                    continue  # `why_not_alive` tells of it, if it lasts
                self._answered_at = monotonic()
                self._on_answer()
