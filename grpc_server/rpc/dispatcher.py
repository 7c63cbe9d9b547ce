"""Takes calls off the completion queue of a server, and gives each to its method's desk."""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import grpc

from grpc_server.metrics import CallCounter
from grpc_server.observe.tap import Tap
from grpc_server.rpc.calls import Call, Desk, Gate, Method
from grpc_server.rpc.grpcio_internals import NOT_DONE, CallQueue, Handler, Outcome
from grpc_server.rpc.observed import ObservedMethod
from grpc_server.rpc.patience import Patience, Timekeeper
from grpc_server.rpc.statuses import ERROR_DOMAIN
from grpc_server.rpc.traced import TracedMethod
from grpc_server.tracing.start import Tracing

# Calls of one method that grpc-core accepts without the serving loop; further ones wait there.
N_OUTSTANDING_ACCEPTS = 128
# Time for calls to end after grpc-core has cut them off.
_STOP_MARGIN_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Beginner(Protocol):
    """Begins the calls of a method."""

    def begin(self, event: Any) -> Call:
        """Create the call that `event` announces."""
        ...


class Dispatcher:
    """The methods of one server, from `start` to `stop`.

    Parameters
    ----------
    server : grpc.Server
        Server with all its methods registered, not started yet.
    patience : Patience
        Time limits of calls.
    goodbye_seconds : float
        How long replies are held around a stop. Requests under way arrive in the first half; the
        announcement of the stop reaches callers in the second half.
    """

    def __init__(
        self,
        server: grpc.Server,
        patience: Patience,
        *,
        goodbye_seconds: float = 0.05,
    ) -> None:
        self.queue = CallQueue(server)
        self._server = server
        self._goodbye_seconds = goodbye_seconds
        self._gate = Gate()
        self._patience = patience
        self._timekeeper = Timekeeper(self._look)
        self._method_by_path: dict[str, Beginner] = {}

    def serve(
        self,
        path: str,
        desk: Desk,
        counter: CallCounter,
        decode: Callable[[bytes], Any],
        tap: Tap | None = None,
        domain: str = ERROR_DOMAIN,
        tracing: Tracing | None = None,
    ) -> None:
        """Serve a registered method.

        Parameters
        ----------
        path : str
            Path of the method, such as "/prediction.v1.PredictionService/Predict".
        desk : Desk
            Computes the calls.
        counter : CallCounter
            Counts the calls.
        decode : callable
            Decodes a message; raises domain errors.
        tap : Tap or None
            Takes the answered calls for observers, if there are any.
        domain : str
            Domain of the reasons of its errors.
        tracing : Tracing or None
            Takes records of the calls that it chooses, if they are traced.
        """
        handler: Handler = self.queue.handlers.pop(path)
        parts = (handler, decode, desk, counter, self._patience, self._gate)
        method = Method(*parts) if tap is None else ObservedMethod(*parts, tap=tap)
        method.domain = domain
        self._method_by_path[path] = (
            method if tracing is None else TracedMethod(path, method, tracing)
        )

    def start(self) -> None:
        """Start the server, and accept calls."""
        assert not self.queue.handlers, "each registered method needs a desk"
        self._server.start()
        self._timekeeper.start()
        for path, method in self._method_by_path.items():
            for _ in range(N_OUTSTANDING_ACCEPTS):
                accept = _Accept(self.queue, path, method)
                # `grpc.Server.stop` waits for it, too.
                self.queue.keep(accept)
                self.queue.request(path, accept)

    def stop(self, grace_seconds: float) -> None:
        """Accept no new calls, finish those in flight, and cancel the rest after the grace time."""
        self._gate.close()
        time.sleep(self._goodbye_seconds / 2)
        stopped = self._server.stop(grace_seconds)
        time.sleep(self._goodbye_seconds / 2)
        self._gate.open()
        if not stopped.wait(grace_seconds + _STOP_MARGIN_SECONDS):
            _log.error("calls left behind")  # a bug; the process ends all the same
        self._timekeeper.stop()

    def _look(self, now: float) -> None:
        for kept in self.queue.list_kept():
            if isinstance(kept, Call):
                kept.look(now)


class _Accept:
    """Tag of one request for a call; it requests the next call until the server stops."""

    __slots__ = ("_method", "_path", "_queue")

    def __init__(self, queue: CallQueue, path: str, method: Beginner) -> None:
        self._queue = queue
        self._path = path
        self._method = method

    def __call__(self, event: Any) -> Outcome:
        if not event.success:
            return self, ()
        # A call that arrives while the server begins to stop is answered like any other.
        call = self._method.begin(event)
        self._queue.keep(call)
        call.start()
        return NOT_DONE if self._queue.request(self._path, self) else (self, ())
