"""The kind of transport that waits in an event loop: grpc.aio."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from prediction import _health
from prediction._channel import ChannelOption, channel_arguments, open_async_channel
from prediction._errors import DeadlineExceededError, PredictionError
from prediction._statuses import check_answer, to_exception
from prediction._transport import Metadata
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

if TYPE_CHECKING:
    # Only the type stubs have it.
    from prediction.v1.prediction_service_pb2_grpc import PredictionServiceAsyncStub

_T = TypeVar("_T")
_ResponseT = TypeVar("_ResponseT")
# gRPC ends a call at its deadline. Only if it does not, the loop ends it, so much later.
_SPARE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Connection:
    """An open channel, and where it may be used: grpc.aio binds it to one loop of one process."""

    loop: asyncio.AbstractEventLoop
    pid: int
    channel: grpc.aio.Channel
    stub: "PredictionServiceAsyncStub"
    check_health: _health.AsyncHealthCheck


class AsyncTransport:
    """Calls that wait in the event loop of the first of them.

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
        self._arguments = channel_arguments(target, max_attempts, options)
        self._credentials = credentials
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._is_closed = False

    async def predict(
        self, request: pb.PredictRequest, timeout: float, metadata: Metadata
    ) -> pb.PredictResponse:
        method = self._connect().stub.Predict
        call = method(request, timeout=timeout, metadata=metadata)
        return await AsyncPending(self, call, timeout).result()

    async def get_model(
        self, request: pb.GetModelRequest, timeout: float, metadata: Metadata
    ) -> pb.GetModelResponse:
        method = self._connect().stub.GetModel
        call = method(request, timeout=timeout, metadata=metadata)
        return await AsyncPending(self, call, timeout).result()

    async def check_health(
        self, request: StringValue, timeout: float, metadata: Metadata
    ) -> Int32Value:
        method = self._connect().check_health
        call = method(request, timeout=timeout, metadata=metadata)
        return await AsyncPending(self, call, timeout).result()

    def begin_batch(
        self, request: pb.BatchPredictRequest, timeout: float, metadata: Metadata
    ) -> "AsyncPending[pb.BatchPredictResponse]":
        method = self._connect().stub.BatchPredict
        call = method(request, timeout=timeout, metadata=metadata)
        return AsyncPending(self, call, timeout)

    async def compute(self, work: Callable[[], _T]) -> _T:
        # Other tasks of the loop go on meanwhile.
        return await asyncio.to_thread(_run, work)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connections; calls in flight in other tasks fail with CANCELLED."""
        connection = self._connection
        if connection is not None and not connection.loop.is_closed():
            self._check_place(connection)
        self._is_closed = True
        self._connection = None
        if connection is not None and not connection.loop.is_closed():
            await connection.channel.close()

    def _connect(self) -> _Connection:
        if self._is_closed:
            raise RuntimeError(f"{self._owner} is closed")
        connection = self._connection
        if connection is None:
            with self._lock:
                connection = self._connection = self._connection or self._open()
        self._check_place(connection)
        return connection

    def _open(self) -> _Connection:
        channel = open_async_channel(self._arguments, self._credentials)
        return _Connection(
            loop=asyncio.get_running_loop(),
            pid=os.getpid(),
            channel=channel,
            stub=PredictionServiceStub(channel),
            check_health=_health.async_health_check(channel),
        )

    def _check_place(self, connection: _Connection) -> None:
        # In another loop or process, grpc.aio waits for ever.
        if connection.pid != os.getpid():
            raise RuntimeError(
                f"{self._owner} was used before a fork; make a client after it"
            )
        if connection.loop is not asyncio.get_running_loop():
            raise RuntimeError(
                f"{self._owner} belongs to the event loop of its first call; make a client for "
                "each loop"
            )

    def why_ended(self) -> PredictionError | None:
        """Return the error of a call that no task and no server has cancelled, if it is closed."""
        if not self._is_closed:
            return None
        # grpc.aio ends calls of a closed channel as if their tasks had been cancelled.
        return PredictionError(
            grpc.StatusCode.CANCELLED,
            f"{self._owner} was closed while the call was in flight",
        )


class AsyncPending(Generic[_ResponseT]):
    """A call in flight, with a limit that does not depend on gRPC's own threads.

    Parameters
    ----------
    transport : AsyncTransport
        The transport of the call.
    call : grpc.aio.UnaryUnaryCall
        The call.
    timeout : float
        Its time limit in seconds.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        call: "grpc.aio.UnaryUnaryCall[Any, _ResponseT]",
        timeout: float,
    ) -> None:
        self._transport = transport
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._limit = self._loop.call_later(timeout + _SPARE_SECONDS, call.cancel)

    async def result(self) -> _ResponseT:
        n_cancels = _count_cancels()
        try:
            # Shielded: grpc.aio drops the message of a cancel, by which anyio knows its own.
            response = await asyncio.shield(asyncio.ensure_future(self._call))
        except grpc.aio.AioRpcError as error:
            raise to_exception(error) from error
        except asyncio.CancelledError:
            self._call.cancel()
            # If its task was cancelled, the call has no error.
            ended = self._why_ended() if _count_cancels() == n_cancels else None
            if ended is None:
                raise
            raise ended from None
        finally:
            self._limit.cancel()
        return check_answer(response)

    def cancel(self) -> None:
        self._limit.cancel()
        self._call.cancel()

    def _why_ended(self) -> PredictionError | None:
        if self._loop.time() >= self._limit.when():
            return _overdue()
        return self._transport.why_ended()


def _run(work: Callable[[], _T]) -> _T:
    try:
        return work()
    except StopIteration as error:
        # A future cannot hold it, so the task would wait for ever. A cell's method may raise it.
        raise RuntimeError("the frame's cells raised StopIteration") from error


def _overdue() -> PredictionError:
    return DeadlineExceededError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "gRPC did not end the call at its deadline; its threads do not run in a process that was "
        "forked while a client was open",
    )


def _count_cancels() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
