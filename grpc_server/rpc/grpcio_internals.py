"""The private parts of grpcio that this server rests on, and nothing else.

grpcio's own server holds a thread for each call from its headers on, decodes messages where no
error can be answered well, and hands every call to another thread. The parts here take calls off
its completion queue instead. They rest on three facts. The serving loop calls any tag that it does
not recognise. Its function for one event may be called from inside such a tag. A batch of
operations may be started by any thread.

This is the one module that imports private names of grpcio, which is therefore bounded in
setup.cfg. `rpc_check` proves at every start that they work.
"""

import logging
from collections.abc import Callable
from math import inf
from time import monotonic, time
from typing import Any, TypeAlias

import grpc
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in the stubs

_AT_ONCE = 0.0  # a deadline that has passed
_NO_FLAGS = 0

_log = logging.getLogger(__name__)

# What the serving loop makes of an event: the tag that is done for good, if any, and callbacks.
Outcome: TypeAlias = tuple[Any, tuple[()]]
NOT_DONE: Outcome = (None, ())
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
OnEvent: TypeAlias = Callable[[Any], Outcome]


class CallQueue:
    """The completion queue of a server, shared with the server's own serving thread.

    Parameters
    ----------
    server : grpc.Server
        Server that is not started yet, with all its methods registered. From then on it asks for
        no call of a registered method itself.
    """

    def __init__(self, server: grpc.Server) -> None:
        self._state = server._state  # type: ignore[attr-defined]  # private
        self._process = _server._process_event_and_continue
        self.handlers: dict[str, Handler] = dict(self._state.registered_method_handlers)
        self._state.registered_method_handlers.clear()
        # Lets the server's stop wait until a tag is done for good.
        self.keep: Callable[[Any], None] = self._state.rpc_states.add

    def list_kept(self) -> list[Any]:
        """Return the tags that are kept, as of now; for any thread."""
        return list(self._state.rpc_states)

    def request(self, path: str, tag: OnEvent) -> bool:
        """Ask for one more call of a method, which comes to `tag`; False once the server stops."""
        # Whoever stops the server holds the lock, too: a request after that would raise an error.
        with self._state.lock:
            if self._state.stage is not _server._ServerStage.STARTED:
                return False
            queue = self._state.completion_queue
            self._state.server.request_registered_call(queue, queue, path, tag)
            return True

    def handle_event(self) -> bool:
        """Handle one event that is there, on the serving thread; return whether there was one.

        The event is freed before the next one is polled.
        """
        event = self._state.completion_queue.poll(_AT_ONCE)
        if event.completion_type == cygrpc.CompletionType.queue_timeout:
            return False
        # Never the server's last event, since the server waits for the calls that are here.
        self._process(self._state, event)
        return True


class RawCall:
    """One call as grpc-core knows it: operations to start, and the end of it.

    Each kind of operation may be under way once. All events come on the serving thread.

    Parameters
    ----------
    event : grpc._cython.cygrpc.RequestCallEvent
        What came of `CallQueue.request`.
    """

    # Values on the class are defaults: setting each on every call would cost more than the rest.
    message: bytes | None = None
    is_cancelled = False
    is_receiving = False
    is_sending = False
    _is_watched = False  # from then on: grpc-core tells of the close once
    _is_watching = False
    _has_sent = False
    _has_ended = False
    _is_broken = False

    def __init__(self, event: Any) -> None:
        self._call = event.call
        self.arrival = monotonic()
        deadline: float = event.call_details.deadline
        # Of the clock that nobody sets: grpcio tells it by the time of day.
        self.deadline = inf if deadline == inf else self.arrival + deadline - time()

    def start(self) -> None:
        """Begin with the call, on the serving thread."""
        try:
            self.begin()
        except Exception:
            self._break_off()

    def watch(self) -> None:
        """Ask to be told when the caller hangs up, or when the call is over."""
        if self._is_watched:
            return
        self._is_watched = self._is_watching = True
        close = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
        self._call.start_server_batch((close,), self._on_close)

    def receive_message(self) -> None:
        """Ask for one message."""
        self.is_receiving = True
        operation = cygrpc.ReceiveMessageOperation(_NO_FLAGS)
        self._call.start_server_batch((operation,), self._on_message)

    def send_message(self, message: bytes) -> None:
        """Send one of several messages."""
        self.is_sending = True
        operations = [cygrpc.SendMessageOperation(message, _NO_FLAGS)]
        if not self._has_sent:
            self._has_sent = True
            start = cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)
            operations.insert(0, start)
        self._call.start_server_batch(operations, self._on_sent)

    def send_end(
        self, message: bytes | None, code: int, details: bytes, trailers: Any
    ) -> None:
        """Send a last message, if any, and the status, and learn that the call is over."""
        self.is_sending = True
        status = cygrpc.SendStatusFromServerOperation(
            trailers, code, details, _NO_FLAGS
        )
        operations = [status]
        if message is not None:
            operations.insert(0, cygrpc.SendMessageOperation(message, _NO_FLAGS))
        if not self._has_sent:
            start = cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS)
            operations.insert(0, start)
        if not self._is_watched:
            operations.append(cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._call.start_server_batch(operations, self._on_end)

    def cancel(self) -> None:
        """Cut the call off, whatever is under way."""
        self._call.cancel()

    def begin(self) -> None:
        """Ask for the message, or refuse the call."""
        raise NotImplementedError

    def on_message(self, is_refused: bool) -> None:
        """Go on with `message`; None stands for the end of the caller's messages.

        Where `is_refused`, grpc-core has refused the message, such as one that is too large, and
        has told the caller.
        """
        raise NotImplementedError

    def on_sent(self) -> None:
        """Go on after one of several messages was sent."""
        raise NotImplementedError

    def on_cancelled(self) -> None:
        """Go on after the caller hung up."""

    def on_over(self) -> None:
        """Forget the call."""
        raise NotImplementedError

    def _on_message(self, event: Any) -> Outcome:
        self.is_receiving = False
        if self._has_ended:
            return self._finish()
        self.message = event.batch_operations[0].message()
        try:
            self.on_message(not event.success)
        except Exception:
            self._break_off()
        return NOT_DONE

    def _on_sent(self, event: Any) -> Outcome:
        self.is_sending = False
        try:
            self.on_sent()
        except Exception:
            self._break_off()
        return NOT_DONE

    def _on_close(self, event: Any) -> Outcome:
        self._is_watching = False
        self.is_cancelled = event.batch_operations[0].cancelled()
        if self._has_ended or self._is_broken:
            return self._finish()
        if self.is_cancelled:
            try:
                self.on_cancelled()
            except Exception:
                self._break_off()
        return NOT_DONE

    def _on_end(self, event: Any) -> Outcome:
        self._has_ended = True
        if not self._is_watched and event.batch_operations[-1].cancelled():
            self.is_cancelled = True
        return self._finish()

    def _finish(self) -> Outcome:
        if self.is_receiving or self._is_watching:
            return NOT_DONE
        try:
            self.on_over()
        except Exception:
            _log.exception("call not counted")
        return self, ()

    def _break_off(self) -> None:
        """End a call that failed outside of its error boundary; the serving thread goes on."""
        _log.exception("call cut off")
        self._is_broken = True
        self._call.cancel()
        self.watch()  # so that an event comes, with which it is over
