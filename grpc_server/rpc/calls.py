"""The calls of one server, from their headers to their status, and the error boundary around each.

::

    headers ── no room at the desk ────────────────> refused, the message is never read
       │
    waits for its message ── too long ─────────────> refused; nothing was held for it
       │
    taken by its desk: decode, handler, encode ────> errors become statuses of the table
       │
    answered ── the caller takes it too slowly ────> cut off
       │
    over ──────────────────────────────────────────> counted by the status that the caller saw

A unary call has one message and one answer. A stream repeats that for each message; while it waits
for the next one, it holds neither a thread nor a message. A watch is answered whenever there is
news.
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
from grpc_server.rpc.grpcio_internals import Handler, RawCall
from grpc_server.rpc.patience import Patience
from grpc_server.rpc.statuses import internal_status, to_status

# A caller's clock ends a call a little before the server's would: the request was under way for a
# moment, and gRPC rounds the time that it sends up.
_DEADLINE_TOLERANCE = 0.02  # of the time that the call had
_DEADLINE_TOLERANCE_SECONDS = 0.02

_log = logging.getLogger(__name__)


class Desk(Protocol):
    """Where the calls of a method are computed, and how many of them there may be."""

    def admit(self, call: "Call") -> bool:
        """Return whether there is room for a call; refuse it if not, before its message is read."""
        ...

    def take(self, call: "Call") -> None:
        """Compute what has come for a call, and send what comes of it, now or later."""
        ...

    def forget(self, call: "Call") -> None:
        """Make room if the desk has counted the call, which is over."""
        ...


class Gate:
    """Holds answers back while it is closed.

    A caller that waits for an answer sends nothing. So a server that stops closes the gate, tells
    its callers that it goes, and opens the gate again: no call is on its way to a server that has
    stopped meanwhile.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._held: deque[UnaryCall] = deque()

    def close(self) -> None:
        """Hold answers from now on."""
        self.is_closed = True

    def open(self) -> None:
        """Send what was held, and hold no more."""
        self.is_closed = False
        self._release()

    def hold(self, call: "UnaryCall") -> None:
        """Keep the answer of `call` until the gate opens."""
        self._held.append(call)
        if (
            not self.is_closed
        ):  # opened just now by another thread, which may not have seen it
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
        Standard handler. The behavior of a stream yields one answer for each message; that of a
        watch returns a `Subscription`.
    decode : callable
        Decodes a message, in place of the handler's deserializer: it raises errors of the domain.
    desk : Desk
        Where its calls are computed.
    counter : CallCounter
        Where its calls are counted.
    patience : Patience
        How long its calls may keep others waiting.
    gate : Gate
        What answers of unary calls pass.
    """

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
        self._kind: type[Call] = kind
        self.behavior: Callable[..., Any] = behavior

    def begin(self, event: Any) -> "Call":
        """Begin the call that `event` brings."""
        call = self._kind(event)
        call._method = self
        self.counter.count_started()
        return call


class Call(RawCall):
    """One call, and the context of its handler; the base of the three kinds."""

    is_counted = False
    _needs_message = True
    _method: Method  # set by it: one more __init__ would cost more than the rest
    _code: grpc.StatusCode | None = None
    _details = b""
    _trailers: Any = None
    _seconds = 0.0
    _is_ended_by_core = False
    _is_in_pause = False
    # When `look` first saw that it waits.
    _receiving_since: float | None = None
    _sending_since: float | None = None

    def begin(self) -> None:
        """Ask for the message, or refuse the call."""
        if self._method.desk.admit(self):
            self._is_unclaimed = True
            self.receive_message()

    def look(self, now: float) -> None:
        """Cut the call off if its caller has kept it waiting for too long; for one thread."""
        if self.is_receiving:
            self._receiving_since = since = self._receiving_since or now
            if now - since > self._receiving_seconds() and self._claim():
                self._expire()
        if self.is_sending:
            self._sending_since = since = self._sending_since or now
            if now - since > self._method.patience.taking_seconds:
                self.cancel()

    def time_remaining(self) -> float:
        """Return the seconds until the deadline, infinite without one."""
        if self.deadline == inf:
            return inf
        return max(self.deadline - monotonic(), 0.0)

    def is_active(self) -> bool:
        """Return False for a call whose caller is known to have hung up."""
        return not self.is_cancelled

    def refuse(self, status: grpc.Status) -> None:
        """Let the call end with `status`, which is ready: in a storm they are many."""
        self._code, self._details = status.code, status.details.encode()
        self._trailers = status.trailing_metadata

    def fail(self, error: CallError) -> None:
        """Let the call end with the status of `error`."""
        self._fail(to_status(error))

    def on_message(self, is_refused: bool) -> None:
        """Hand the call to its desk, unless it is overdue, and was answered already."""
        try:
            del (
                self._is_unclaimed
            )  # as `_claim` does, without a call: each message comes here
        except AttributeError:
            return
        if is_refused or (self.message is None and self._needs_message):
            self._fail_without_message(is_refused)
            self.send()
        else:
            self._method.desk.take(self)

    def on_over(self) -> None:
        """Count the call by the status that its caller saw."""
        method = self._method
        is_plain = self._code is None and not self.is_cancelled
        method.counter.record("OK" if is_plain else self._seen_code(), self._seconds)
        method.desk.forget(self)

    def compute(self) -> None:
        """Make of the message that came what is to be sent; errors become statuses of the table."""
        start = perf_counter()
        try:
            self._check_is_waited_for()
            self._compute()
        except CallError as error:
            self.fail(error)
        except Exception:
            status, error_id = internal_status()
            _log.exception("call failed", extra={"fields": {"error_id": error_id}})
            self._fail(status)
        finally:
            self._seconds += perf_counter() - start

    def send(self) -> None:
        """Send what was computed, or the status that the call has failed with."""
        raise NotImplementedError

    def _compute(self) -> None:
        raise NotImplementedError

    def _check_is_waited_for(self) -> None:
        """Refuse what nobody waits for any more, before it costs a prediction.

        Raises
        ------
        DeadlineExceeded
            If the deadline of the call passed.
        CallCancelled
            If its caller hung up.
        """
        if self.deadline <= monotonic():
            raise DeadlineExceeded(
                "the deadline passed before the call could be answered"
            )
        if self.is_cancelled:
            raise CallCancelled("the call was cancelled before it could be answered")

    def _claim(self) -> bool:
        """Return whether nobody else has: the message has come, or is overdue, and never both.

        To remove an attribute is one step, whichever threads try.
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
        message = f"no {what} came within {seconds:g} s"
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
            else MessageMissing("no message came; the method takes exactly one")
        )

    def _fail(self, status: Status) -> None:
        self.refuse(rpc_status.to_status(status))

    def _seen_code(self) -> str:
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
    """One message, one answer."""

    _answer: bytes | None = None

    def send(self) -> None:
        """Send answer or status, unless the gate is closed."""
        if self._method.gate.is_closed:
            self._method.gate.hold(self)
        elif self._code is None:
            self.send_end(self._answer, 0, b"", None)
        else:
            self._send_end(None)

    def send_end_now(self) -> None:
        """Send answer or status."""
        self._send_end(self._answer)

    def _compute(self) -> None:
        assert self.message is not None
        method = self._method
        request = method.decode(self.message)
        self.message = None
        self._answer = method.encode(method.behavior(request, self))


class _Inbox(Iterator[Any]):
    """The messages of a stream as its handler iterates over them: those that have come."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()

    def put(self, message: Any) -> None:
        self._messages.append(message)

    def __next__(self) -> Any:
        if not self._messages:
            raise StopIteration
        return self._messages.popleft()


class StreamCall(Call):
    """Messages and answers by turns; whoever takes no answer is asked for no message."""

    _needs_message = False  # the end of the messages is the end of the stream
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
        """Send the answer, or end the stream with its status."""
        answer, self._answer = self._answer, None
        if answer is None or self._code is not None:
            self._answers.close()
            self._send_end(None)
            return
        self._sending_since = None
        self.send_message(answer)

    def _compute(self) -> None:
        """Run the handler up to its next answer, or to its end."""
        if self.message is None:
            self._exhaust()
            return
        self._inbox.put(self._method.decode(self.message))
        self.message = None
        self._answer = self._method.encode(next(self._answers))

    def _exhaust(self) -> None:
        for _ in self._answers:
            raise RuntimeError("a stream has more answers than messages")
        # A caller that is gone ends its messages, too.
        self._check_is_waited_for()


class Subscription(Protocol):
    """What a watch is told of: a response now, and another one whenever there is news."""

    def open(self, tell: Callable[[], None]) -> None:
        """Let `tell` be called, by any thread, whenever there may be news."""
        ...

    def read(self) -> Any:
        """Return the response as of now, None once there will be no more."""
        ...

    def close(self) -> None:
        """Call `tell` no more."""
        ...


class WatchCall(Call):
    """One message, and an answer whenever there is news.

    The lock is held while an operation is started, which does not wait, and never while one is
    waited for: news that comes meanwhile is told after the answer before it was sent.
    """

    _is_telling = False
    _has_begun_to_end = False
    _subscription: Subscription | None = None
    _told: Any = None

    def begin(self) -> None:
        """Ask for the message, or refuse the watch."""
        self._lock = threading.Lock()
        self.watch()
        super().begin()

    def on_sent(self) -> None:
        """Tell what has changed meanwhile."""
        self._is_telling = False
        self.send()

    def on_cancelled(self) -> None:
        """End the watch."""
        # Without one, the message is not there yet, and will come as none.
        if self._subscription is not None:
            self.fail(CallCancelled("the watch was cancelled"))
            self.send()

    def send(self) -> None:
        """Tell the news, if there are any, or end the watch with its status."""
        if self._code is None:
            self._tell()
        if self._code is not None:
            self._end()

    def _compute(self) -> None:
        """Subscribe to what the message names."""
        assert self.message is not None
        request = self._method.decode(self.message)
        self._subscription = self._method.behavior(request, self)
        self._subscription.open(self.send)

    def _tell(self) -> None:
        assert self._subscription is not None
        if (news := self._subscription.read()) is None:
            self.fail(ServerStops("the server stops"))
            return
        with self._lock:
            if self._is_telling or self._has_begun_to_end or news == self._told:
                return
            self._is_telling, self._told = True, news
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
