"""A call in flight, while its caller does something else."""

from typing import Any, Generic, TypeVar

import grpc

from prediction._statuses import to_exception

_ResponseT = TypeVar("_ResponseT")


class PendingCall(Generic[_ResponseT]):
    """A unary call whose answer is read later.

    Parameters
    ----------
    call : grpc.Future and grpc.Call
        Result of a stub's `future` method.
    """

    def __init__(self, call: Any) -> None:
        self._call = call

    def result(self) -> _ResponseT:
        """Wait for the answer.

        Returns
        -------
        message
            The answer.

        Raises
        ------
        PredictionError
            If the call failed.
        """
        # Read first, because grpcio's `result` hides the details of a call that ended as CANCELLED.
        if self._call.code() is not grpc.StatusCode.OK:
            raise to_exception(self._call) from self._call
        response: _ResponseT = self._call.result()
        return response

    def cancel(self) -> None:
        """Cancel the call, unless it is over."""
        self._call.cancel()
