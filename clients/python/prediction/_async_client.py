"""The client that is awaited: the methods of `PredictionClient` for an event loop."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self, cast

import grpc

from prediction._async_transport import AsyncTransport
from prediction._calls import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_TIMEOUT_SECONDS,
    Calls,
    check_attempts,
    check_timeout,
)
from prediction._channel import SERVICE_NAME, ChannelOption
from prediction._frames import DEFAULT_CALLS_AT_ONCE, DEFAULT_ROWS_PER_CALL
from prediction._messages import Instance
from prediction._models import HealthStatus, Model, Prediction
from prediction._tables import FrameT, to_table
from prediction._tracing import TraceContext


class AsyncPredictionClient:
    """Client of prediction.v1.PredictionService for asyncio.

    Any number of tasks of one event loop can share a client, and its connections with it. It can be
    made outside of a loop, connects at its first call, and belongs to the loop of that call.

    Parameters
    ----------
    target, timeout_seconds, credentials, max_attempts, options, trace_context
        As of `PredictionClient`.

    Raises
    ------
    ValueError
        If the target, the timeout or the number of attempts is out of its range.

    Notes
    -----
    Methods have the parameters, results and errors of `PredictionClient`. To cancel the task that
    awaits a call cancels the call. A call on a closed client, in another loop, or in a process that
    was forked off raises RuntimeError.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        options: Iterable[ChannelOption] = (),
        trace_context: TraceContext | None = None,
    ) -> None:
        self._target = target
        limit = check_timeout(timeout_seconds)
        self._transport = AsyncTransport(
            repr(self), target, credentials, check_attempts(max_attempts), options
        )
        self._calls = Calls(target, self._transport, limit, trace_context)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls in flight in other tasks fail with CANCELLED."""
        await self._transport.close()

    async def predict(
        self,
        instance: Instance,
        *,
        explain_top_k: int = 0,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Prediction:
        """Predict the class of one instance, as `PredictionClient.predict` does."""
        return await self._calls.predict(
            instance, explain_top_k, request_id, timeout_seconds
        )

    async def predict_frame(
        self,
        frame: FrameT,
        *,
        ignore_extra: bool = False,
        rows_per_call: int = DEFAULT_ROWS_PER_CALL,
        calls_at_once: int = DEFAULT_CALLS_AT_ONCE,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> FrameT:
        """Predict the class of each row of a frame, as `PredictionClient.predict_frame` does.

        A thread reads the frame and makes the answer, so that other tasks go on meanwhile. Leave
        the frame unchanged until then.
        """
        answer = await self._calls.predict_frame(
            to_table(frame),
            ignore_extra=ignore_extra,
            rows_per_call=rows_per_call,
            calls_at_once=calls_at_once,
            request_id=request_id,
            timeout_seconds=timeout_seconds,
        )
        return cast(FrameT, answer)

    async def get_model(self, *, timeout_seconds: float | None = None) -> Model:
        """Describe the model that answers, as `PredictionClient.get_model` does."""
        return await self._calls.get_model(timeout_seconds)

    async def health(
        self, service: str = SERVICE_NAME, *, timeout_seconds: float | None = None
    ) -> HealthStatus:
        """Ask one server about the health of a service, as `PredictionClient.health` does."""
        return await self._calls.health(service, timeout_seconds)

    async def is_ready(self, *, timeout_seconds: float | None = None) -> bool:
        """Tell whether a server answers predictions now, as `PredictionClient.is_ready` does."""
        return (await self._calls.why_not_ready(SERVICE_NAME, timeout_seconds)) is None

    async def wait_until_ready(self, timeout_seconds: float) -> None:
        """Return as soon as a server answers, as `PredictionClient.wait_until_ready` does."""
        await self._calls.wait_until_ready(SERVICE_NAME, timeout_seconds)
