"""A call that is on its way, while its caller does something else."""

from typing import Any, Generic, TypeVar

import grpc

from prediction._statuses import to_exception

_ResponseT = TypeVar("_ResponseT")


class PendingCall(Generic[_ResponseT]):
    """The answer of a unary call, when it has come.

    Parameters
    ----------
    call : grpc.Future and grpc.Call
        What the `future` method of a stub returns.
    """

    def __init__(self, call: Any) -> None:
        self._call = call

    def result(self) -> _ResponseT:
        """Wait for the answer and return it.

        Raises
        ------
        PredictionError
            If the call failed.
        """
        # Asked first: of a call that ended as CANCELLED, grpcio's `result` tells no more than that.
        if self._call.code() is not grpc.StatusCode.OK:
            raise to_exception(self._call) from self._call
        response: _ResponseT = self._call.result()
        return response

    def cancel(self) -> None:
        """Let the server know that nobody waits any more, unless the call is over."""
        self._call.cancel()
