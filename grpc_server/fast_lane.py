"""The fast lane: answers unary calls on the very thread that takes them off the completion queue.

`grpc.server` hands each call to a thread of its pool; the hand-offs cost many times what a
prediction does. Its serving loop calls every tag that is not its own, and the function for one
event of that loop can be called from within: that is all that the lane rests on. It is the one
module that uses private parts of grpcio (`grpc._server` and cygrpc), which is therefore bounded in
setup.cfg and checked by `check_fast_lane` when the server starts. It knows nothing of models: what
it runs is a handler, with the edge around it.

The lane works in rounds: it takes in the calls that have arrived, computes them, and answers them.
Each answer costs a system call, after which the caches are cold and Python takes three to five
times as long; so many in a row are worth half as many calls again. And what waits is known, which
tells when to refuse; left in grpc-core, thousands would be answered long after their callers left.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in the stubs

from grpc_server.errors import FastLaneUnusable

# As many calls are accepted without a turn of the loop; beyond them they wait in grpc-core.
N_OUTSTANDING_ACCEPTS = 128
SELF_TEST_SECONDS = 2.0
# One round: for as long calls are taken in, and computed, before they are answered.
MAX_INTAKE_SECONDS = 0.001
MAX_COMPUTE_SECONDS = 0.001
# A line is long from so many calls on. Then less time goes into new ones, most of which are to be
# refused: as soon as the first in line has waited for so long.
MIN_LINE = 64
SHORT_INTAKE_SECONDS = 0.0001
MAX_WAIT_SECONDS = 0.05
_AT_ONCE = 0.0  # a deadline that has passed
_NO_FLAGS = 0

_log = logging.getLogger(__name__)

# What the serving loop makes of an event: the call that is over, if any, and callbacks to run.
_Outcome: TypeAlias = tuple[Any, tuple[()]]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class FastLane:
    """Takes one unary method of `server` off the pool; to be made before the server starts.

    Parameters
    ----------
    server : grpc.Server
        Standard server, on which the method is registered.
    path : str
        The method, such as "/prediction.v1.PredictionService/Predict".
    admit : callable of RpcMethodHandler
        Returns the handlers of calls that are let in and of those that are refused.
    max_calls_in_flight : int
        Calls beyond it get the second handler, before their message is read.
    before_answers : callable
        Does what can wait until the calls that were computed together are answered.
    """

    def __init__(
        self,
        server: grpc.Server,
        path: str,
        admit: Callable[[_Handler], tuple[_Handler, _Handler]],
        max_calls_in_flight: int,
        before_answers: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = server._state  # type: ignore[attr-defined]  # private
        self._path = path
        # Gone from here, the server itself asks for no call of the method.
        handler = self._state.registered_method_handlers.pop(path)
        self._admitted, self._refused = admit(handler)
        self._max_calls_in_flight = max_calls_in_flight
        self._before_answers = before_answers
        self._process = _server._process_event_and_continue
        # Changed by the serving thread alone.
        self._n_in_flight = 0
        self._is_working = False
        self._is_behind = False
        self._line: deque[_Call] = deque()
        self._computed: list[_Call] = []

    def start(self) -> None:
        """Begin to accept calls, once the server has started."""
        with self._state.lock:
            for _ in range(N_OUTSTANDING_ACCEPTS):
                accept = _Accept(self)
                # The server ends its loop, and its stop, when this set is empty.
                self._state.rpc_states.add(accept)
                self.request(accept)

    def request(self, accept: "_Accept") -> bool:
        """Ask grpc-core for one more call, which comes to `accept`; False once the server stops."""
        # Held by whoever stops the server, too: a request made after that raises an error here.
        with self._state.lock:
            if self._state.stage is not _server._ServerStage.STARTED:
                return False
            queue = self._state.completion_queue
            self._state.server.request_registered_call(queue, queue, self._path, accept)
            return True

    def begin(self, event: Any) -> None:
        """Read the message of a call that came, or refuse it."""
        call = _Call(self, event)
        self._state.rpc_states.add(call)
        self._n_in_flight += 1
        if self._is_full():
            call.run(self._refused, None)
            self._computed.append(call)
            self._work()
            return
        # It may have waited already, in grpc-core, or will do so: its caller may hang up meanwhile.
        if self._is_behind or self._n_in_flight > 2 * MIN_LINE:
            call.watch()
        call.receive_message()

    def line_up(self, call: "_Call") -> None:
        """Compute a call whose message has arrived, when it is its turn."""
        self._line.append(call)
        self._work()

    def end(self) -> None:
        """Forget a call that is over."""
        self._n_in_flight -= 1

    def _is_full(self) -> bool:
        if self._n_in_flight > self._max_calls_in_flight:
            return True
        if len(self._line) < MIN_LINE:
            return False
        return time.monotonic() - self._line[0].arrival > MAX_WAIT_SECONDS

    def _work(self) -> None:
        """Go round until no call is in line, unless something further down the stack does so."""
        if self._is_working:
            return
        self._is_working = True
        while self._line or self._computed:
            if self._n_in_flight > 1:
                self._take_in()
            self._compute()
            self._answer()
        self._is_working = False

    def _take_in(self) -> None:
        """Handle the events that are there: calls that begin, line up, and end."""
        is_long = len(self._line) >= MIN_LINE
        seconds = SHORT_INTAKE_SECONDS if is_long else MAX_INTAKE_SECONDS
        end = time.monotonic() + seconds
        while self._handle_event() and time.monotonic() < end:
            pass

    def _handle_event(self) -> bool:
        """Handle one event; return whether there was one. It is freed before the next is polled."""
        event = self._state.completion_queue.poll(_AT_ONCE)
        if event.completion_type == cygrpc.CompletionType.queue_timeout:
            return False
        # Never the server's last event, since it waits for the calls that are here.
        self._process(self._state, event)
        return True

    def _compute(self) -> None:
        end = time.monotonic() + MAX_COMPUTE_SECONDS
        was_behind, self._is_behind = self._is_behind, False
        while self._line and not self._is_behind:
            call = self._line.popleft()
            call.compute(self._admitted)
            self._computed.append(call)
            self._is_behind = time.monotonic() > end
        if self._is_behind and not was_behind:
            self._watch_line()

    def _watch_line(self) -> None:
        """Watch calls that wait for their turn, as those will be that come while there are some."""
        for call in self._line:
            call.watch()

    def _answer(self) -> None:
        self._before_answers()
        computed, self._computed = self._computed, []
        for call in computed:
            call.send()


class _Accept:
    """Tag of one request for a call, which is made again for as long as the server runs."""

    __slots__ = ("_lane",)

    def __init__(self, lane: FastLane) -> None:
        self._lane = lane

    def __call__(self, event: Any) -> _Outcome:
        if not event.success:
            return self, ()
        # A call that came while the server began to stop is answered like any other.
        self._lane.begin(event)
        return (None if self._lane.request(self) else self), ()


class _Aborted(Exception):
    """The call's status is set."""


class _Call:
    """One call, from its arrival until its status is sent; the context of its handler."""

    __slots__ = (
        "_answer",
        "_call",
        "_code",
        "_deadline",
        "_details",
        "_is_cancelled",
        "_is_watched",
        "_lane",
        "_message",
        "_n_awaited",
        "_trailers",
        "arrival",
    )

    def __init__(self, lane: FastLane, event: Any) -> None:
        self._lane = lane
        self._call = event.call
        self._deadline: float = event.call_details.deadline
        self._code: grpc.StatusCode | None = None
        self._details = b""
        self._trailers: Any = None
        self._message: bytes | None = None
        self._answer: bytes | None = None
        self._is_cancelled = False
        self._is_watched = False
        self._n_awaited = 1  # batches without which it is not over
        self.arrival = time.monotonic()

    def code(self) -> grpc.StatusCode | None:
        """Return the status that was set, None as long as there is none."""
        return self._code

    def time_remaining(self) -> float:
        """Return the seconds until the deadline, infinite without one."""
        if self._deadline == inf:
            return inf
        return max(self._deadline - time.time(), 0.0)

    def is_active(self) -> bool:
        """Return False for a call that had to wait and whose caller hung up."""
        return not self._is_cancelled

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Let the call end with `status`."""
        self._set(status.code, status.details.encode(), status.trailing_metadata)
        raise _Aborted

    def watch(self) -> None:
        """Ask to be told when the caller hangs up: a batch more, for calls that have to wait."""
        if self._is_watched:
            return
        self._is_watched = True
        self._n_awaited += 1
        close = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
        self._call.start_server_batch((close,), self._on_close)

    def receive_message(self) -> None:
        """Ask for the one message of the call."""
        operation = cygrpc.ReceiveMessageOperation(_NO_FLAGS)
        self._call.start_server_batch((operation,), self._on_message)

    def compute(self, handler: _Handler) -> None:
        """Run `handler` on the message that came, and keep what comes of it."""
        assert handler.request_deserializer
        # The texts are those of the standard server.
        if self._message is None:
            details = b'"" requires exactly one request message.'
            self._set(grpc.StatusCode.UNIMPLEMENTED, details)
            return
        try:
            request = handler.request_deserializer(self._message)
        except DecodeError:
            self._set(grpc.StatusCode.INTERNAL, b"Exception deserializing request!")
        else:
            self.run(handler, request)

    def run(self, handler: _Handler, request: Any) -> None:
        """Run `handler`, and keep what comes of it."""
        assert handler.unary_unary and handler.response_serializer
        try:
            response = handler.unary_unary(request, self)  # type: ignore[arg-type]
            self._answer = handler.response_serializer(response)
        except _Aborted:
            pass
        except Exception:
            # The edge lets no error out: this is one of writing the answer.
            _log.exception("answer not sent")
            self._set(grpc.StatusCode.INTERNAL, b"Failed to serialize response!")

    def send(self) -> None:
        """Send answer, if any, and status, and learn that the call is over: one batch."""
        code = 0 if self._code is None else self._code.value[0]
        start = cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)
        status = cygrpc.SendStatusFromServerOperation(
            self._trailers, code, self._details, _NO_FLAGS
        )
        operations = [start, status]
        if self._answer is not None:
            operations.insert(1, cygrpc.SendMessageOperation(self._answer, _NO_FLAGS))
        if not self._is_watched:
            operations.append(cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._call.start_server_batch(operations, self._on_end)

    def _on_message(self, event: Any) -> _Outcome:
        self._message = event.batch_operations[0].message()
        self._lane.line_up(self)
        return None, ()

    def _on_close(self, event: Any) -> _Outcome:
        self._is_cancelled = event.batch_operations[0].cancelled()
        return self._on_end(event)

    def _on_end(self, event: Any) -> _Outcome:
        self._n_awaited -= 1
        if self._n_awaited:
            return None, ()
        self._lane.end()
        return self, ()

    def _set(self, code: grpc.StatusCode, details: bytes, trailers: Any = None) -> None:
        self._code, self._details, self._trailers = code, details, trailers


def check_fast_lane() -> None:
    """Prove on a server of its own that this grpcio carries the lane.

    Raises
    ------
    FastLaneUnusable
        If a private part is missing, or a call over the loopback address is not answered.
    """
    try:
        if not _echo(b"ping") == b"ping":
            raise FastLaneUnusable("a call over the loopback was answered wrongly")
    except (AttributeError, KeyError, TypeError, RuntimeError) as error:
        raise FastLaneUnusable(f"grpcio {grpc.__version__}: {error!r}") from error
    except grpc.RpcError as error:
        raise FastLaneUnusable(f"the loopback call failed: {error!r}") from error


def _echo(message: bytes) -> bytes:
    handler = grpc.unary_unary_rpc_method_handler(
        lambda request, context: request, bytes, bytes
    )
    server = grpc.server(
        ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)]  # not used
    )
    server.add_registered_method_handlers("check.Lane", {"Echo": handler})
    lane = FastLane(server, "/check.Lane/Echo", lambda echo: (echo, echo), 1)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    lane.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/check.Lane/Echo"
            )
            return bytes(echo(message, timeout=SELF_TEST_SECONDS))
    finally:
        # With a grace time, which nothing needs: without one, the client may log that it was cut.
        server.stop(SELF_TEST_SECONDS).wait()
