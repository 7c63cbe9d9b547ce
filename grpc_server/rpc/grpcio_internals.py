"""The private parts of grpcio that this server uses, and nothing else.

grpcio's own server holds a thread for each call from its headers on, decodes messages where errors
cannot become good statuses, and hands every call to another thread. The classes here take calls off
its completion queue instead. They rely on three facts. The serving loop calls any tag that it does
not recognise. Its function for one event may be called from inside such a tag. Any thread may start
a batch of operations.

Only this module imports private names of grpcio, so setup.cfg limits grpcio's version. At every
start, `self_test` checks that they work.
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
# grpc-core's properties of a connection; it sets them from a verified certificate only.
_IDENTITY_KEYS = (("uri:", b"peer_uri"), ("dns:", b"peer_dns"))

_log = logging.getLogger(__name__)

# What a tag returns to the serving loop: the tag if it is finished, otherwise None; and callbacks.
Outcome: TypeAlias = tuple[Any, tuple[()]]
NOT_DONE: Outcome = (None, ())
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
OnEvent: TypeAlias = Callable[[Any], Outcome]


class CallQueue:
    """The completion queue of a server, shared with the server's own serving thread.

    Parameters
    ----------
    server : grpc.Server
        Server with all its methods registered, not started yet. It no longer requests calls of
        registered methods itself.
    """

    def __init__(self, server: grpc.Server) -> None:
        self._state = server._state  # type: ignore[attr-defined]  # private
        self._process = _server._process_event_and_continue
        self.handlers: dict[str, Handler] = dict(self._state.registered_method_handlers)
        self._state.registered_method_handlers.clear()
        # `grpc.Server.stop` waits until every kept tag is finished.
        self.keep: Callable[[Any], None] = self._state.rpc_states.add

    def list_kept(self) -> list[Any]:
        """Return the kept tags; for any thread."""
        return list(self._state.rpc_states)

    def request(self, path: str, tag: OnEvent) -> bool:
        """Request one more call of a method.

        Parameters
        ----------
        path : str
            Path of the method.
        tag : callable
            Receives the event of the call.

        Returns
        -------
        bool
            False once the server stops.
        """
        # `grpc.Server.stop` holds this lock, too: a request after it would raise an error.
        with self._state.lock:
            if self._state.stage is not _server._ServerStage.STARTED:
                return False
            queue = self._state.completion_queue
            self._state.server.request_registered_call(queue, queue, path, tag)
            return True

    def handle_event(self) -> bool:
        """Handle one pending event, on the serving thread, and free it.

        Returns
        -------
        bool
            False if no event was pending.
        """
        event = self._state.completion_queue.poll(_AT_ONCE)
        if event.completion_type == cygrpc.CompletionType.queue_timeout:
            return False
        # This is never the server's last event, since the server waits for the kept calls.
        self._process(self._state, event)
        return True


class RawCall:
    """One call of grpc-core, as operations and their events.

    ::

        start ──> receive_message ──> on_message ──> send_end ──────────────> on_over
                        ^                  │                                     ^
                        │            send_message ──> on_sent ──> send_end ──────┘
                        └─────────────────────────────────┘

    `watch` adds `on_cancelled`, at any time. One operation of each kind may be in progress. All
    events arrive on the serving thread.

    Parameters
    ----------
    event : grpc._cython.cygrpc.RequestCallEvent
        Result of `CallQueue.request`.
    """

    # Defaults are on the class: setting each attribute on every call would be slower.
    message: bytes | None = None
    # Pairs of text that go to the caller ahead of the first reply, if any.
    initial_metadata: Any = None
    is_cancelled = False
    is_receiving = False
    is_sending = False
    _is_watched = False  # stays True: grpc-core reports the close once
    _is_watching = False
    _has_sent = False
    _has_ended = False
    _is_broken = False

    def __init__(self, event: Any) -> None:
        self._call = event.call
        self.arrival = monotonic()
        deadline: float = event.call_details.deadline
        # Monotonic, because grpcio gives the deadline in wall-clock time, which may be set.
        self.deadline = inf if deadline == inf else self.arrival + deadline - time()

    def start(self) -> None:
        """Begin the call, on the serving thread."""
        try:
            self.begin()
        except Exception:
            self._break_off()

    def watch(self) -> None:
        """Request an event when the caller hangs up, or when the call is over."""
        if self._is_watched:
            return
        self._is_watched = self._is_watching = True
        close = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
        self._call.start_server_batch((close,), self._on_close)

    def receive_message(self) -> None:
        """Receive one message."""
        self.is_receiving = True
        operation = cygrpc.ReceiveMessageOperation(_NO_FLAGS)
        self._call.start_server_batch((operation,), self._on_message)

    def send_message(self, message: bytes) -> None:
        """Send a message that is not the last."""
        self.is_sending = True
        operations = [cygrpc.SendMessageOperation(message, _NO_FLAGS)]
        if not self._has_sent:
            self._has_sent = True
            start = cygrpc.SendInitialMetadataOperation(
                self.initial_metadata, _NO_FLAGS
            )
            operations.insert(0, start)
        self._call.start_server_batch(operations, self._on_sent)

    def send_end(
        self, message: bytes | None, code: int, details: bytes, trailers: Any
    ) -> None:
        """Send the last message, if any, and the status, which ends the call.

        Parameters
        ----------
        message : bytes or None
            Encoded message.
        code : int
            Number of the status code, [0, 16].
        details : bytes
            Message of the status, UTF-8.
        trailers : tuple of pairs of str and str or bytes, or None
            Trailing metadata.
        """
        self.is_sending = True
        status = cygrpc.SendStatusFromServerOperation(
            trailers, code, details, _NO_FLAGS
        )
        operations = [status]
        if message is not None:
            operations.insert(0, cygrpc.SendMessageOperation(message, _NO_FLAGS))
        if not self._has_sent:
            start = cygrpc.SendInitialMetadataOperation(
                self.initial_metadata, _NO_FLAGS
            )
            operations.insert(0, start)
        if not self._is_watched:
            operations.append(cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._call.start_server_batch(operations, self._on_end)

    def connection(self) -> bytes:
        """Return the kind of the caller's address, the address and the port."""
        peer: bytes = self._call.peer() or b""
        return peer

    def identities(self) -> list[str]:
        """Return the names in the caller's verified certificate, as ``dns:`` or ``uri:`` names."""
        properties = cygrpc.auth_context(self._call)
        return [
            kind + name.decode("utf-8", "replace")
            for kind, key in _IDENTITY_KEYS
            for name in properties.get(key, ())
        ]

    def cancel(self) -> None:
        """Cut the call off, whatever operation is in progress."""
        self._call.cancel()

    def begin(self) -> None:
        """Receive the message, or refuse the call."""
        raise NotImplementedError

    def on_message(self, is_refused: bool) -> None:
        """Continue with `message`, which is None at the end of the caller's messages.

        Parameters
        ----------
        is_refused : bool
            Whether grpc-core has refused the message, for example because it is too large, and has
            ended the call.
        """
        raise NotImplementedError

    def on_sent(self) -> None:
        """Continue after a message was sent that is not the last."""
        raise NotImplementedError

    def on_cancelled(self) -> None:
        """Continue after the caller hung up."""

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
        """End a call that failed outside of its error boundary; the serving thread continues."""
        _log.exception("call cut off")
        self._is_broken = True
        self._call.cancel()
        self.watch()  # its event ends the call
