"""Shows that this process answers calls, by making one about every second.

Liveness is told over HTTP by a thread that knows nothing of gRPC, and to a supervisor by another. A
call takes the way that every caller's call takes: a connection, the serving thread, an answer.
"""

import secrets
import threading
from collections.abc import Callable
from time import monotonic

import grpc

# Without an answer for so long, a process is taken for one that hangs. Under ten times the load
# that a server can take, an answer needs 0.1 s.
MAX_SILENCE_SECONDS = 10.0
# A method of its own, so that these calls are not counted among those of others.
SERVICE, METHOD = "prediction.internal.Pulse", "Beat"
_INTERVAL_SECONDS = 1.0
_CALL_SECONDS = 2.0


def make_handler() -> "grpc.RpcMethodHandler[bytes, bytes]":
    """Return the handler of the method: it gives back what it gets."""
    return grpc.unary_unary_rpc_method_handler(
        lambda request, context: request, bytes, bytes
    )


def private_address() -> str:
    """Return an address that only one process listens on, where a port may be shared by many."""
    return f"unix-abstract:prediction-{secrets.token_hex(16)}"


class Pulse:
    """Calls this process's own server, from `start` to `stop`.

    Parameters
    ----------
    address : str
        Where only this process listens.
    on_answer : callable
        Is called, by a thread of the pulse, after each answer.
    """

    def __init__(
        self, address: str, on_answer: Callable[[], None] = lambda: None
    ) -> None:
        self._address = address
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
        # A connection of its own: other channels of this process must not share it.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self._address, options) as channel:
            beat: grpc.UnaryUnaryMultiCallable[bytes, bytes]
            beat = channel.unary_unary(f"/{SERVICE}/{METHOD}")
            while not self._stop.wait(_INTERVAL_SECONDS):
                try:
                    beat(b"", timeout=_CALL_SECONDS)
                except grpc.RpcError:
                    continue  # `why_not_alive` tells of it, if it lasts
                self._answered_at = monotonic()
                self._on_answer()
