"""What a call needs of a channel, and the blocking kind of it.

The logic of the clients is written once, as coroutines over a `Transport`. The coroutines of a
blocking transport never wait for an event loop, so `run_now` runs them without one.
"""

import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from prediction import _health
from prediction._channel import ChannelOption, open_channel
from prediction._statuses import check_answer, to_exception
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

Metadata: TypeAlias = tuple[tuple[str, str], ...]

_T = TypeVar("_T")
_RequestT = TypeVar("_RequestT")
_ResponseT = TypeVar("_ResponseT")
_ResponseT_co = TypeVar("_ResponseT_co", covariant=True)


class Pending(Protocol[_ResponseT_co]):
    """A unary call in flight, while its caller does something else."""

    async def result(self) -> _ResponseT_co:
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
        ...

    def cancel(self) -> None:
        """Cancel the call, unless it is over."""


class Transport(Protocol):
    """A channel to the servers. All times are in seconds.

    Each call raises PredictionError if it fails, and RuntimeError if the transport is closed.
    """

    async def predict(
        self, request: pb.PredictRequest, timeout: float, metadata: Metadata
    ) -> pb.PredictResponse:
        """Call Predict."""
        ...

    async def get_model(
        self, request: pb.GetModelRequest, timeout: float, metadata: Metadata
    ) -> pb.GetModelResponse:
        """Call GetModel."""
        ...

    async def check_health(
        self, request: StringValue, timeout: float, metadata: Metadata
    ) -> Int32Value:
        """Call Check of the health service."""
        ...

    def begin_batch(
        self, request: pb.BatchPredictRequest, timeout: float, metadata: Metadata
    ) -> Pending[pb.BatchPredictResponse]:
        """Begin a call of BatchPredict."""
        ...

    async def compute(self, work: Callable[[], _T]) -> _T:
        """Return the result of work that takes the processor for longer."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after this time."""


class BlockingTransport:
    """Calls that block their thread. Any number of threads can share it.

    Parameters
    ----------
    owner : str
        The client, as errors name it.
    target, credentials, max_attempts, options
        As in `open_channel`.
    """

    def __init__(
        self,
        owner: str,
        target: str,
        credentials: grpc.ChannelCredentials | None,
        max_attempts: int,
        options: Iterable[ChannelOption],
    ) -> None:
        self._owner = owner
        self._channel = open_channel(target, credentials, max_attempts, options)
        self._stub = PredictionServiceStub(self._channel)
        self._check_health = _health.health_check(self._channel)

    async def predict(
        self, request: pb.PredictRequest, timeout: float, metadata: Metadata
    ) -> pb.PredictResponse:
        return self._call(self._stub.Predict, request, timeout, metadata)

    async def get_model(
        self, request: pb.GetModelRequest, timeout: float, metadata: Metadata
    ) -> pb.GetModelResponse:
        return self._call(self._stub.GetModel, request, timeout, metadata)

    async def check_health(
        self, request: StringValue, timeout: float, metadata: Metadata
    ) -> Int32Value:
        return self._call(self._check_health, request, timeout, metadata)

    def begin_batch(
        self, request: pb.BatchPredictRequest, timeout: float, metadata: Metadata
    ) -> "_BlockingPending[pb.BatchPredictResponse]":
        try:
            return _BlockingPending(
                self._stub.BatchPredict.future(
                    request, timeout=timeout, metadata=metadata
                )
            )
        except ValueError as error:
            raise self._closed() from error

    async def compute(self, work: Callable[[], _T]) -> _T:
        return work()

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        """Close the connections; calls in flight in other threads fail with CANCELLED."""
        self._channel.close()

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_RequestT, _ResponseT]",
        request: _RequestT,
        timeout: float,
        metadata: Metadata,
    ) -> _ResponseT:
        try:
            return check_answer(method(request, timeout=timeout, metadata=metadata))
        except grpc.RpcError as error:
            raise to_exception(error) from error
        except ValueError as error:
            raise self._closed() from error

    def _closed(self) -> RuntimeError:
        # A stub raises ValueError for this reason alone, never for a value of the caller.
        return RuntimeError(f"{self._owner} is closed")


class _BlockingPending(Generic[_ResponseT]):
    def __init__(self, call: Any) -> None:
        # A grpc.Future that is also a grpc.Call, which no declared type says.
        self._call = call

    async def result(self) -> _ResponseT:
        # Read first, because grpcio's `result` hides the details of a call that ended as CANCELLED.
        if self._call.code() is not grpc.StatusCode.OK:
            raise to_exception(self._call) from self._call
        response: _ResponseT = self._call.result()
        return check_answer(response)

    def cancel(self) -> None:
        self._call.cancel()


def run_now(coroutine: Coroutine[object, None, _T]) -> _T:
    """Run a coroutine of a blocking transport to its end, in this thread.

    Parameters
    ----------
    coroutine : coroutine
        One that awaits nothing but coroutines of a `BlockingTransport`.

    Returns
    -------
    object
        What the coroutine returns.

    Raises
    ------
    RuntimeError
        If the coroutine waits for an event loop.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waits for an event loop")
