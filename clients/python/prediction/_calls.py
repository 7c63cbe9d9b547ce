"""What the clients do with each call, on either transport: limits, names, checks, conversions.

`PredictionClient` documents the methods. Those of `AsyncPredictionClient` have the same signatures.
"""

import re
import time

import grpc

from prediction import _health
from prediction._channel import MAX_ATTEMPTS_LIMIT
from prediction._errors import (
    DeadlineExceededError,
    OverloadedError,
    PredictionError,
    UnavailableError,
)
from prediction._frames import FrameCall
from prediction._messages import Instance, to_model, to_prediction, to_request
from prediction._models import HealthStatus, Model, Prediction
from prediction._tables import FrameTable
from prediction._tracing import TraceContext, read_context
from prediction._transport import Metadata, Pending, Transport
from prediction.v1 import prediction_service_pb2 as pb

DEFAULT_TIMEOUT_SECONDS = 5.0
DEFAULT_MAX_ATTEMPTS = 4
# gRPC takes some hundred years as no limit. A time of more than a day is in the wrong unit.
MAX_TIMEOUT_SECONDS = 86_400.0
_POLL_SECONDS = 0.1
# The server takes no other identifier, and would make one of its own without a word.
_REQUEST_ID = re.compile(r"[!-~]{1,128}")
# A colon and the first row of a chunk come after it.
_FRAME_ID = re.compile(r"[!-~]{1,100}")
# The calls of one frame must be answered by one model, which a canary would break up.
_WITHOUT_CANARY = (("prediction-canary", "never"),)


class Calls:
    """The calls of one client.

    Parameters
    ----------
    target : str
        Address of the servers, as errors name it.
    transport : Transport
        The channel to them.
    timeout_seconds : float
        Time limit of a call that has none of its own, (0, 86400].
    trace_context : callable or None
        Returns the caller's trace, as `PredictionClient` documents it.
    """

    def __init__(
        self,
        target: str,
        transport: Transport,
        timeout_seconds: float,
        trace_context: TraceContext | None = None,
    ) -> None:
        self._target = target
        self._transport = transport
        self._timeout_seconds = timeout_seconds
        self._trace_context = trace_context
        # The last answer of get_model. Frames are checked against it.
        self._known_model: Model | None = None

    async def predict(
        self,
        instance: Instance,
        explain_top_k: int,
        request_id: str | None,
        timeout_seconds: float | None,
    ) -> Prediction:
        """Predict the class of one instance."""
        request = to_request(instance, explain_top_k)
        metadata = _name_call(request_id) + self._find_trace()
        timeout = self._timeout_of(timeout_seconds)
        return to_prediction(await self._transport.predict(request, timeout, metadata))

    async def predict_frame(
        self,
        table: FrameTable,
        *,
        ignore_extra: bool,
        rows_per_call: int,
        calls_at_once: int,
        request_id: str | None,
        timeout_seconds: float | None,
    ) -> object:
        """Predict the class of each row of a frame."""
        _check_positive("rows_per_call", rows_per_call)
        _check_positive("calls_at_once", calls_at_once)
        _check_frame_id(request_id)
        timeout = self._timeout_of(timeout_seconds)
        call = FrameCall(
            table,
            send=lambda request, name: self._begin(request, name, timeout),
            fetch_model=lambda: self.get_model(timeout),
            compute=self._transport.compute,
            rows_per_call=rows_per_call,
            calls_at_once=calls_at_once,
            ignore_extra=ignore_extra,
            request_id=request_id,
        )
        answer: object = await call.run(self._known_model)
        return answer

    async def get_model(self, timeout_seconds: float | None) -> Model:
        """Describe the model that answers."""
        timeout = self._timeout_of(timeout_seconds)
        request, trace = pb.GetModelRequest(), self._find_trace()
        model = to_model(await self._transport.get_model(request, timeout, trace))
        self._known_model = model
        return model

    async def health(self, service: str, timeout_seconds: float | None) -> HealthStatus:
        """Ask one server about the health of a service, once."""
        request = _health.to_request(service)
        timeout = self._timeout_of(timeout_seconds)
        try:
            response = await self._transport.check_health(
                request, timeout, self._find_trace()
            )
        except PredictionError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return HealthStatus.SERVICE_UNKNOWN
            raise
        return _health.to_health_status(response)

    async def why_not_ready(
        self, service: str, timeout_seconds: float | None
    ) -> str | None:
        """Return why no server answers predictions now, or None if one does."""
        try:
            status = await self.health(service, timeout_seconds)
        except (UnavailableError, DeadlineExceededError, OverloadedError) as error:
            return str(error)
        return None if status is HealthStatus.SERVING else f"its health is {status}"

    async def wait_until_ready(self, service: str, timeout_seconds: float) -> None:
        """Return as soon as a server answers predictions."""
        end = time.monotonic() + check_timeout(timeout_seconds)
        while reason := await self.why_not_ready(
            service, max(end - time.monotonic(), 0.001)
        ):
            if time.monotonic() + _POLL_SECONDS >= end:
                raise DeadlineExceededError(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"{self._target} was not ready within {timeout_seconds:g} s: {reason}",
                )
            await self._transport.sleep(_POLL_SECONDS)

    def _begin(
        self, request: pb.BatchPredictRequest, name: str | None, timeout: float
    ) -> Pending[pb.BatchPredictResponse]:
        metadata = _WITHOUT_CANARY + _name_call(name) + self._find_trace()
        return self._transport.begin_batch(request, timeout, metadata)

    def _find_trace(self) -> Metadata:
        context = self._trace_context
        return () if context is None else read_context(context)

    def _timeout_of(self, timeout_seconds: float | None) -> float:
        if timeout_seconds is None:
            return self._timeout_seconds
        return check_timeout(timeout_seconds)


def check_timeout(seconds: float) -> float:
    """Return a time limit, or raise ValueError if it is none."""
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise ValueError(
            f"timeout_seconds is {seconds}; it must be above 0 and at most a day, "
            f"{MAX_TIMEOUT_SECONDS:.0f}"
        )
    return seconds


def check_attempts(count: int) -> int:
    """Return a number of attempts, or raise ValueError if gRPC does not take it."""
    if not 1 <= count <= MAX_ATTEMPTS_LIMIT:
        raise ValueError(
            f"max_attempts is {count}; it must be from 1 to {MAX_ATTEMPTS_LIMIT}"
        )
    return count


def _name_call(request_id: str | None) -> Metadata:
    if request_id is None:
        return ()
    if not _REQUEST_ID.fullmatch(request_id):
        raise ValueError(
            f"request_id is {request_id[:200]!r}; it must be 1 to 128 visible ASCII characters"
        )
    return (("x-request-id", request_id),)


def _check_frame_id(request_id: str | None) -> None:
    if request_id is not None and not _FRAME_ID.fullmatch(request_id):
        raise ValueError(
            f"request_id is {request_id[:200]!r}; a frame's must be 1 to 100 visible ASCII "
            "characters"
        )


def _check_positive(name: str, number: int) -> None:
    if number < 1:
        raise ValueError(f"{name} is {number}; it must be 1 or more")
