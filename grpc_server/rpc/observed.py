"""Calls that observers see once they are answered."""

from typing import Any

from grpc_server.observe.tap import Tap
from grpc_server.request_id import REQUEST_ID
from grpc_server.rpc.calls import Call, Method, StreamCall, UnaryCall


class ObservedMethod(Method):
    """A method whose answered calls observers see; the others do not pay for it.

    Parameters
    ----------
    *arguments
        Those of `Method`.
    tap : Tap
        Takes the answered calls.
    """

    def __init__(self, *arguments: Any, tap: Tap) -> None:
        super().__init__(*arguments)
        self.tap = tap
        self.kind = _OBSERVED[self.kind]


class ObservedUnaryCall(UnaryCall):
    """One message, one reply, and a record of both."""

    def _compute(self) -> None:
        message = self.message
        super()._compute()
        assert message is not None and self._answer is not None
        tap = _tap(self)
        tap.put(_tell_id(self, tap), _name_caller(self), message, self._answer)


class ObservedStreamCall(StreamCall):
    """Messages and replies in turn, and a record of each pair."""

    def _compute(self) -> None:
        message, n_rows_before = self.message, self.n_rows
        super()._compute()
        if message is None:
            return
        assert self._answer is not None
        tap = _tap(self)
        tap.put(
            _tell_id(self, tap),
            _name_caller(self),
            message,
            self._answer,
            n_rows_before,
        )


_OBSERVED: dict[type[Call], type[Call]] = {
    UnaryCall: ObservedUnaryCall,
    StreamCall: ObservedStreamCall,
}


def observe(call: Call, tap: Tap, request: bytes, reply: bytes) -> None:
    """Let observers see an answered call, told as messages of prediction.v1."""
    tap.put(_tell_id(call, tap), _name_caller(call), request, reply)


def _tap(call: Call) -> Tap:
    method = call._method
    assert isinstance(method, ObservedMethod)
    return method.tap


def _tell_id(call: Call, tap: Tap) -> str:
    """Return the call's identifier, and tell it to the caller if that is asked for."""
    if not tap.needs_id:
        return ""
    request_id = call.request_id()
    if tap.tells_id:
        call.initial_metadata = ((REQUEST_ID, request_id),)
    return request_id


def _name_caller(call: Call) -> str:
    return "" if call.caller is None else call.caller.name
