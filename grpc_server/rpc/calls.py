"""The calls of one server, from their headers to their status, and the error boundary around each.

::

    headers ── the desk has no room ───────────────> refused; the message is never read
       │
    waiting for the message ── too long ───────────> refused; the wait held no thread
       │
    at its desk: decode, handler, encode ──────────> an error becomes a status of the table
       │
    replied ── the caller receives too slowly ─────> cut off
       │
    over ──────────────────────────────────────────> counted by the status that the caller saw

A unary call has one message and one reply. A stream repeats this for each message; between
messages it holds neither a thread nor a message. A watch gets a reply whenever there is news.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic, perf_counter
from typing import Any, Protocol

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from grpc_server.callers import Caller
from grpc_server.errors import (
    CallCancelled,
    CallError,
    DeadlineExceeded,
    MessageMissing,
    MessageOverdue,
    MessageRefused,
    ServerStops,
)
from grpc_server.metrics import CallCounter
from grpc_server.request_id import find_request_id
from grpc_server.rpc.grpcio_internals import Handler, RawCall
from grpc_server.rpc.patience import Patience
from grpc_server.rpc.statuses import (
    ERROR_DOMAIN,
    internal_status,
    name_call,
    to_status,
)
from grpc_server.tracing.context import find_context

# A caller's clock ends a call slightly before the server's: the request took a moment to arrive,
# and gRPC rounds the time that it sends up.
_DEADLINE_TOLERANCE = 0.02  # share of the time between arrival and deadline
_DEADLINE_TOLERANCE_SECONDS = 0.02

_log = logging.getLogger(__name__)


class Desk(Protocol):
    """Computes the calls of a method, and limits their number."""

    def admit(self, call: "Call") -> bool:
        """Return whether there is room for a call; refuse it otherwise, before its message is read.

        Parameters
        ----------
        call : Call
            A call whose headers have arrived.

        Returns
        -------
        bool
            False if the call was refused.
        """
        ...

    def take(self, call: "Call") -> None:
        """Compute the reply to a call's message and send it, now or later."""
        ...

    def forget(self, call: "Call") -> None:
        """Release the room of a call that is over, if the desk counted it."""
        ...


class Gate:
    """Holds replies back while it is closed.

    A caller that waits for a reply sends nothing. So a stopping server closes the gate, announces
    the stop to its callers, and opens the gate again. Then no call is under way to a server that
    has stopped.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._held: deque[UnaryCall] = deque()

    def close(self) -> None:
        """Hold replies from now on."""
        self.is_closed = True

    def open(self) -> None:
        """Send the held replies, and hold no more."""
        self.is_closed = False
        self._release()

    def hold(self, call: "UnaryCall") -> None:
        """Hold the reply to `call` until the gate opens."""
        self._held.append(call)
        # Another thread may have opened the gate just now, before it could see this call.
        if not self.is_closed:
            self._release()

    def _release(self) -> None:
        while True:
            try:
                call = self._held.popleft()
            except IndexError:
                return
            call.send_end_now()


class Method:
    """One method of the server.

    Parameters
    ----------
    handler : grpc.RpcMethodHandler
        Standard handler. A stream's behavior yields one reply per message; a watch's behavior
        returns a `Subscription`.
    decode : callable
        Decodes a message. It replaces the handler's deserializer, because it raises domain errors.
    desk : Desk
        Computes the calls.
    counter : CallCounter
        Counts the calls.
    patience : Patience
        Time limits of the calls.
    gate : Gate
        Replies of unary calls pass it.

    Attributes
    ----------
    domain : str
        Domain of the reasons of its errors.
    """

    domain = ERROR_DOMAIN

    def __init__(
        self,
        handler: Handler,
        decode: Callable[[bytes], Any],
        desk: Desk,
        counter: CallCounter,
        patience: Patience,
        gate: Gate,
    ) -> None:
        assert handler.response_serializer
        self.desk = desk
        self.counter = counter
        self.patience = patience
        self.gate = gate
        self.decode = decode
        self.encode = handler.response_serializer
        kind, behavior = next(
            (kind, behavior)
            for kind, behavior in (
                (UnaryCall, handler.unary_unary),
                (StreamCall, handler.stream_stream),
                (WatchCall, handler.unary_stream),
            )
            if behavior is not None
        )
        self.kind: type[Call] = kind
        self.behavior: Callable[..., Any] = behavior

    def begin(self, event: Any) -> "Call":
        """Create the call that `event` announces."""
        call = self.kind(event)
        call._method = self
        call.metadata = event.invocation_metadata
        self.counter.count_started()
        return call


class Call(RawCall):
    """One call, and the context of its handler; the base of the three kinds."""

    is_counted = False
    metadata: Any
    # Only calls of a `GuardedDesk` have these.
    caller: Caller | None = None
    is_admitted = False
    _needs_message = True
    _method: Method  # `Method.begin` sets it: a second __init__ would be slower
    _code: grpc.StatusCode | None = None
    _details = b""
    _trailers: Any = None
    # Time that the server worked on the call, and that its messages waited for it.
    seconds = 0.0
    waited_seconds = 0.0
    _message_at: float  # when its message arrived; `on_message` sets it
    n_rows = 0  # that were answered
    _request_id = ""
    _is_ended_by_core = False
    _is_in_pause = False
    # Time at which `look` first saw the call wait.
    _receiving_since: float | None = None
    _sending_since: float | None = None

    def begin(self) -> None:
        """Ask for the message, or refuse the call."""
        if self._method.desk.admit(self):
            self._is_unclaimed = True
            self.receive_message()

    def look(self, now: float) -> None:
        """Cut the call off if it has waited too long for its caller; for one thread only."""
        if self.is_receiving:
            self._receiving_since = since = self._receiving_since or now
            if now - since > self._receiving_seconds() and self._claim():
                self._expire()
        if self.is_sending:
            self._sending_since = since = self._sending_since or now
            if now - since > self._method.patience.taking_seconds:
                self.cancel()

    def request_id(self) -> str:
        """Return the call's `x-request-id`, or one that is made for it."""
        if not self._request_id:
            self._request_id = find_request_id(self.metadata)
        return self._request_id

    def trace_id(self) -> str:
        """Return the identifier of the trace that the caller names, empty if it names none."""
        context = find_context(self.metadata)
        return "" if context is None else context.trace_id

    def note_decoded(self) -> None:
        """Note that the message is decoded; only calls that are traced do."""

    def authorizations(self) -> list[str]:
        """Return the values of the metadata `authorization`."""
        return [str(value) for key, value in self.metadata if key == "authorization"]

    def time_remaining(self) -> float:
        """Return the seconds until the deadline; infinite without a deadline."""
        if self.deadline == inf:
            return inf
        return max(self.deadline - monotonic(), 0.0)

    def is_active(self) -> bool:
        """Return False if the caller is known to have hung up."""
        return not self.is_cancelled

    def refuse(self, status: grpc.Status) -> None:
        """End the call with a prepared status: an overloaded server refuses many calls."""
        self._code, self._details = status.code, status.details.encode()
        self._trailers = status.trailing_metadata

    def fail(self, error: CallError) -> None:
        """End the call with the status of `error`."""
        self._fail(to_status(error, self._method.domain))

    @property
    def domain(self) -> str:
        """Domain of the reasons of its errors."""
        return self._method.domain

    def on_message(self, is_refused: bool) -> None:
        """Hand the call to its desk, unless it was overdue and is refused already."""
        try:
            # Like `_claim`, inlined because it runs for each message.
            del self._is_unclaimed
        except AttributeError:
            return
        self._message_at = perf_counter()
        if is_refused or (self.message is None and self._needs_message):
            self._fail_without_message(is_refused)
            self.send()
        else:
            self._method.desk.take(self)

    def on_over(self) -> None:
        """Count the call by the status that its caller saw."""
        method = self._method
        is_plain = self._code is None and not self.is_cancelled
        code = "OK" if is_plain else self.seen_code()
        method.counter.record(code, self.seconds, self.waited_seconds)
        method.desk.forget(self)

    def compute(self) -> None:
        """Compute the reply to the message; an error becomes a status of the table."""
        start = perf_counter()
        self.waited_seconds += start - self._message_at
        try:
            self._check_is_waited_for()
            self._compute()
        except CallError as error:
            self.fail(error)
        except Exception:
            status, error_id = internal_status(self._method.domain)
            fields = {"error_id": error_id, "request_id": self.request_id()}
            _log.exception("call failed", extra={"fields": fields})
            self._fail(status)
        finally:
            self.seconds += perf_counter() - start

    def send(self) -> None:
        """Send the reply, or the status of the error."""
        raise NotImplementedError

    def _compute(self) -> None:
        raise NotImplementedError

    def _check_is_waited_for(self) -> None:
        """Refuse a call that its caller has given up, before it costs a prediction.

        Raises
        ------
        DeadlineExceeded
            If the deadline has passed.
        CallCancelled
            If the caller has hung up.
        """
        if self.deadline <= monotonic():
            raise DeadlineExceeded(
                "the deadline passed before the call could be answered"
            )
        if self.is_cancelled:
            raise CallCancelled("the call was cancelled before it could be answered")

    def _claim(self) -> bool:
        """Claim the call: the message arrived, or it is overdue, but never both.

        Deleting an attribute is atomic, so that one thread only succeeds.

        Returns
        -------
        bool
            False if the call was claimed before.
        """
        try:
            del self._is_unclaimed
        except AttributeError:
            return False
        return True

    def _receiving_seconds(self) -> float:
        patience = self._method.patience
        return patience.pause_seconds if self._is_in_pause else patience.message_seconds

    def _expire(self) -> None:
        what = "further message" if self._is_in_pause else "message"
        seconds = self._receiving_seconds()
        message = f"no {what} arrived within {seconds:g} s"
        self.fail(MessageOverdue(message, max_seconds=f"{seconds:g}"))
        self.send()

    def _send_end(self, answer: bytes | None) -> None:
        code = 0 if self._code is None else self._code.value[0]
        self.send_end(answer, code, self._details, self._trailers)

    def _fail_without_message(self, is_refused: bool) -> None:
        self._is_ended_by_core = is_refused
        self.fail(
            MessageRefused("the message is too large or cannot be decompressed")
            if is_refused
            else MessageMissing("no message arrived; the method takes exactly one")
        )

    def _fail(self, status: Status) -> None:
        name_call(status, self.request_id())
        self.refuse(rpc_status.to_status(status))

    def seen_code(self) -> str:
        """Return the name of the status code that the caller saw, once the call is over."""
        if self.is_cancelled and not self._is_ended_by_core:
            return "DEADLINE_EXCEEDED" if self._is_late() else "CANCELLED"
        return "OK" if self._code is None else self._code.name

    def _is_late(self) -> bool:
        tolerance_seconds = max(
            _DEADLINE_TOLERANCE_SECONDS,
            _DEADLINE_TOLERANCE * (self.deadline - self.arrival),
        )
        return self.deadline != inf and self.time_remaining() <= tolerance_seconds


class UnaryCall(Call):
    """One message, one reply."""

    _answer: bytes | None = None

    def send(self) -> None:
        """Send the reply or the status, unless the gate is closed."""
        if self._method.gate.is_closed:
            self._method.gate.hold(self)
        elif self._code is None:
            self.send_end(self._answer, 0, b"", None)
        else:
            self._send_end(None)

    def send_end_now(self) -> None:
        """Send the reply or the status."""
        self._send_end(self._answer)

    def _compute(self) -> None:
        assert self.message is not None
        method = self._method
        request = method.decode(self.message)
        self.message = None
        self._answer = method.encode(method.behavior(request, self))


class _Inbox(Iterator[Any]):
    """Iterates over the messages of a stream that have arrived."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()

    def put(self, message: Any) -> None:
        self._messages.append(message)

    def __next__(self) -> Any:
        if not self._messages:
            raise StopIteration
        return self._messages.popleft()


class StreamCall(Call):
    """Messages and replies in turn; the next message is read once the reply was sent."""

    _needs_message = False  # None, the end of the messages, ends the stream
    _inbox: _Inbox
    _answers: Any
    _answer: bytes | None = None

    def begin(self) -> None:
        """Ask for the first message, or refuse the stream."""
        self._inbox = _Inbox()
        self._answers = self._method.behavior(self._inbox, self)
        self.watch()
        super().begin()

    def on_sent(self) -> None:
        """Wait for the next message."""
        self._is_in_pause = True
        self._receiving_since = None
        self._is_unclaimed = True
        self.receive_message()

    def send(self) -> None:
        """Send the reply, or end the stream with its status."""
        answer, self._answer = self._answer, None
        if answer is None or self._code is not None:
            self._answers.close()
            self._send_end(None)
            return
        self._sending_since = None
        self.send_message(answer)

    def _compute(self) -> None:
        """Run the handler to its next reply, or to its end."""
        if self.message is None:
            self._exhaust()
            return
        self._inbox.put(self._method.decode(self.message))
        self.message = None
        self._answer = self._method.encode(next(self._answers))

    def _exhaust(self) -> None:
        for _ in self._answers:
            raise RuntimeError("a stream has more replies than messages")
        # A caller that hung up ends its messages, too.
        self._check_is_waited_for()


class Subscription(Protocol):
    """The source of a watch's replies: the current one, and another one whenever there is news."""

    def open(self, notify: Callable[[], None]) -> None:
        """Call `notify`, from any thread, whenever there may be news."""
        ...

    def read(self) -> Any:
        """Return the current reply, None once there will be no more."""
        ...

    def close(self) -> None:
        """Stop calling `notify`."""
        ...


class WatchCall(Call):
    """One message, and a reply whenever there is news.

    The lock is held only while an operation is started, which does not block. News that arrives
    while a reply is being sent is sent after it.
    """

    _is_sending_news = False
    _has_begun_to_end = False
    _subscription: Subscription | None = None
    _sent_news: Any = None

    def begin(self) -> None:
        """Ask for the message, or refuse the watch."""
        self._lock = threading.Lock()
        self.watch()
        super().begin()

    def on_sent(self) -> None:
        """Send what has changed meanwhile."""
        self._is_sending_news = False
        self.send()

    def on_cancelled(self) -> None:
        """End the watch."""
        # Without a subscription, the message has not arrived yet, and will arrive as None.
        if self._subscription is not None:
            self.fail(CallCancelled("the watch was cancelled"))
            self.send()

    def send(self) -> None:
        """Send the news, if any, or end the watch with its status."""
        if self._code is None:
            self._send_news()
        if self._code is not None:
            self._end()

    def _compute(self) -> None:
        """Subscribe to the service that the message names."""
        assert self.message is not None
        request = self._method.decode(self.message)
        self._subscription = self._method.behavior(request, self)
        self._subscription.open(self.send)

    def _send_news(self) -> None:
        assert self._subscription is not None
        if (news := self._subscription.read()) is None:
            self.fail(ServerStops("the server stops"))
            return
        with self._lock:
            if (
                self._is_sending_news
                or self._has_begun_to_end
                or news == self._sent_news
            ):
                return
            self._is_sending_news, self._sent_news = True, news
            self._sending_since = None
            self.send_message(self._method.encode(news))

    def _end(self) -> None:
        with self._lock:
            if self._has_begun_to_end:
                return
            self._has_begun_to_end = True
            self._send_end(None)
        if self._subscription is not None:
            self._subscription.close()
