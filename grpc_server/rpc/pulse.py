"""Shows that this process answers calls, by calling itself about once a second.

Other threads report liveness, over HTTP and to a supervisor, and know nothing of gRPC. The pulse
takes the path of every caller's call: a connection, the serving thread, a reply.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

import grpc

from grpc_server.rpc.forwarded import GatewayKey

# A process without a reply for longer counts as hanging. Under ten times the load that a server
# can handle, a reply takes 0.1 s.
MAX_SILENCE_SECONDS = 10.0
_INTERVAL_SECONDS = 1.0
_CALL_SECONDS = 2.0
METHOD = "Beat"
_OPTIONS = [
    # Its own connection, which other channels of this process must not share.
    ("grpc.use_local_subchannel_pool", 1),
    # By default, a channel waits up to two minutes before it reconnects.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


@dataclass(frozen=True, slots=True)
class PulsePoint:
    """Address and method of a process's pulse, which no other process knows.

    The server's port may belong to many processes, and calls of public methods are counted as
    callers' calls. The gateway calls the same address for clients of the HTTP port, and proves with
    its key that it does.
    """

    _token: str = field(default_factory=lambda: secrets.token_hex(16))
    gateway_key: GatewayKey = field(default_factory=GatewayKey)

    @property
    def address(self) -> str:
        """Address on which only this process listens."""
        return f"unix-abstract:prediction-{self._token}"

    @property
    def service(self) -> str:
        """Name of the service."""
        return f"pulse.{self._token}"

    @property
    def path(self) -> str:
        """Path of the service's only method."""
        return f"/{self.service}/{METHOD}"


class Pulse:
    """Calls this process's own server, from `start` to `stop`.

    Parameters
    ----------
    point : PulsePoint
        Address and method of the pulse.
    on_answer : callable
        Called after each reply, on the pulse's thread.
    max_silence_seconds : float
        Time without a reply after which the process counts as hanging, > 0.
    """

    def __init__(
        self,
        point: PulsePoint,
        on_answer: Callable[[], None] = lambda: None,
        *,
        max_silence_seconds: float = MAX_SILENCE_SECONDS,
    ) -> None:
        self._point = point
        self._on_answer = on_answer
        self._max_silence_seconds = max_silence_seconds
        self._answered_at = monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Start calling; the server has started before."""
        self._answered_at = monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Stop calling."""
        self._stop.set()

    def why_not_alive(self) -> str | None:
        """Return the reason, None if the server answers."""
        silence_seconds = monotonic() - self._answered_at
        if self._stop.is_set() or silence_seconds <= self._max_silence_seconds:
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
                    continue  # `why_not_alive` reports it, if it lasts
                self._answered_at = monotonic()
                self._on_answer()
