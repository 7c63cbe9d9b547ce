"""The client: one channel, a deadline for every call, errors as exceptions of this package."""

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TypeVar, cast

import grpc

from prediction import _health
from prediction._channel import (
    MAX_ATTEMPTS_LIMIT,
    SERVICE_NAME,
    ChannelOption,
    open_channel,
)
from prediction._errors import (
    DeadlineExceededError,
    OverloadedError,
    PredictionError,
    UnavailableError,
)
from prediction._frames import (
    DEFAULT_CALLS_AT_ONCE,
    DEFAULT_ROWS_PER_CALL,
    FrameCall,
)
from prediction._messages import Instance, to_model, to_prediction, to_request
from prediction._models import HealthStatus, Model, Prediction
from prediction._pending import PendingCall
from prediction._statuses import to_exception
from prediction._tables import FrameT, to_table
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

DEFAULT_TIMEOUT_SECONDS = 5.0
DEFAULT_MAX_ATTEMPTS = 4
# gRPC takes some hundred years as no limit. A time of more than a day is in the wrong unit.
MAX_TIMEOUT_SECONDS = 86_400.0
_POLL_SECONDS = 0.1

_RequestT = TypeVar("_RequestT")
_ResponseT = TypeVar("_ResponseT")


class PredictionClient:
    """Client of prediction.v1.PredictionService.

    Any number of threads can share a client, and its connections with it. It connects at its first
    call. Create it after a fork, never before.

    Parameters
    ----------
    target : str
        Address of the servers: ``host:port``, which DNS may resolve to many, or a name with one of
        gRPC's schemes, such as ``unix:/run/prediction.sock``. Calls go to all servers in turn.
    timeout_seconds : float, default=5.0
        Time limit of a call with all its attempts, (0, 86400]. No call is without a limit.
    credentials : grpc.ChannelCredentials or None, default=None
        Such as ``grpc.ssl_channel_credentials()``. None sends in plain text.
    max_attempts : int, default=4
        Attempts of a call, [1, 5], while servers answer UNAVAILABLE or cannot be reached. No other
        error is retried, and health checks never are.
    options : iterable of (str, str or int), default=()
        gRPC channel arguments, which replace this client's defaults. For example, gRPC takes
        proxies from the environment; ``("grpc.enable_http_proxy", 0)`` uses none. For loopback
        addresses, that is the default.

    Raises
    ------
    ValueError
        If the target, the timeout or the number of attempts is out of its range.

    Notes
    -----
    A call on a closed client raises RuntimeError.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        credentials: grpc.ChannelCredentials | None = None,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
        options: Iterable[ChannelOption] = (),
    ) -> None:
        self._target = target
        self._timeout_seconds = _checked_timeout(timeout_seconds)
        self._channel = open_channel(
            target, credentials, _checked_attempts(max_attempts), options
        )
        self._stub = PredictionServiceStub(self._channel)
        # The last answer of get_model. Frames are checked against it.
        self._known_model: Model | None = None
        self._check_health = _health.health_check(self._channel)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls in flight in other threads fail with CANCELLED."""
        self._channel.close()

    def predict(
        self,
        instance: Instance,
        *,
        explain_top_k: int = 0,
        timeout_seconds: float | None = None,
    ) -> Prediction:
        """Predict the class of one instance.

        Parameters
        ----------
        instance : sequence, mapping, ndarray of shape (n_features,) or Series
            Numbers by position, in the order of `Model.features`; or values by name, with all of
            the model's names and no other. `Feature.kind` decides whether a value is a number, a
            bool or a text. A pandas Series is read by its names. None and NaN are missing values.
            Any real number or Decimal is converted to a double; a bool is not a number.
        explain_top_k : int, default=0
            Number of features in the explanation, those of the largest contributions, from 0.
        timeout_seconds : float or None, default=None
            Time for this call, (0, 86400]. None takes the client's.

        Returns
        -------
        Prediction
            The class, its label, the probability of each class, and the explanation if requested.

        Raises
        ------
        InvalidInstanceError
            If the instance does not fit the model, or has a value that cannot be sent.
        TypeError
            If `instance` is of a type that cannot be an instance, such as a text or a set.
        ValueError
            If `explain_top_k` is out of its range.
        PredictionError
            If the call fails for another reason, which the subclass names.
        """
        request = to_request(instance, explain_top_k)
        return to_prediction(self._call(self._stub.Predict, request, timeout_seconds))

    def predict_frame(
        self,
        frame: FrameT,
        *,
        ignore_extra: bool = False,
        rows_per_call: int = DEFAULT_ROWS_PER_CALL,
        calls_at_once: int = DEFAULT_CALLS_AT_ONCE,
        timeout_seconds: float | None = None,
    ) -> FrameT:
        """Predict the class of each row of a pandas or polars DataFrame, or of none.

        The client checks all cells against the model's schema before it sends any. It sends the
        rows in chunks, and all answers come from one version of the model. If the model changes
        meanwhile, the client sends all rows again, once.

        Parameters
        ----------
        frame : pandas.DataFrame or polars.DataFrame
            One column for each of `Model.features`, by name, in any order. Cells are of the
            feature's kind; the column may be of any type. Whole floats count as integers. None,
            NaN, NA, NaT and null are missing values. Numbers that a double cannot hold, times, and
            truth values in place of numbers are errors.
        ignore_extra : bool, default=False
            Whether to leave out columns that the model does not have. If not, they are an error.
        rows_per_call : int, default=5000
            Most rows of a chunk, [1, inf). A chunk has fewer where it would exceed 2 MiB.
        calls_at_once : int, default=2
            Most chunks in flight at a time, [1, inf). With two, the server answers one while the
            client writes and sends the next; more keep more servers busy.
        timeout_seconds : float or None, default=None
            Time for the call of each chunk, (0, 86400]. None takes the client's.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            One row for each of `frame`, in its order and with its index. Columns: `label`, text;
            `probability_<class>` for each of `Model.classes`, float64, [0, 1]; `model_version`,
            text, the same in all rows.

        Raises
        ------
        InvalidInstanceError
            If the frame does not fit the model. A violation names column, row (from 0, in the whole
            frame), value, and what is allowed.
        ModelChangedError
            If the model changes a second time.
        TypeError
            If `frame` is not a DataFrame of pandas or polars.
        ValueError
            If `rows_per_call` or `calls_at_once` is below 1.
        PredictionError
            If a call fails for another reason, which the subclass names.
        """
        _check_positive("rows_per_call", rows_per_call)
        _check_positive("calls_at_once", calls_at_once)
        call = FrameCall(
            to_table(frame),
            send=lambda request: self._begin(
                self._stub.BatchPredict, request, timeout_seconds
            ),
            fetch_model=lambda: self.get_model(timeout_seconds=timeout_seconds),
            rows_per_call=rows_per_call,
            calls_at_once=calls_at_once,
            ignore_extra=ignore_extra,
        )
        return cast(FrameT, call.run(self._known_model))

    def get_model(self, *, timeout_seconds: float | None = None) -> Model:
        """Describe the model that answers: its input schema, classes, origin and quality.

        Parameters
        ----------
        timeout_seconds : float or None, default=None
            Time for this call, (0, 86400]. None takes the client's.

        Returns
        -------
        Model
            The model that the server has loaded.

        Raises
        ------
        PredictionError
            If the call fails, for the reason that the subclass names.
        """
        request = pb.GetModelRequest()
        model = to_model(self._call(self._stub.GetModel, request, timeout_seconds))
        self._known_model = model
        return model

    def health(
        self, service: str = SERVICE_NAME, *, timeout_seconds: float | None = None
    ) -> HealthStatus:
        """Ask one server about the health of a service, once.

        Parameters
        ----------
        service : str, default="prediction.v1.PredictionService"
            The default asks whether a model is loaded; "" asks whether the process answers.
        timeout_seconds : float or None, default=None
            Time for this call, (0, 86400]. None takes the client's.

        Returns
        -------
        HealthStatus
            The status; SERVICE_UNKNOWN if the server has no such service.

        Raises
        ------
        PredictionError
            If the server cannot be reached or does not say.
        """
        request = _health.to_request(service)
        try:
            response = self._call(self._check_health, request, timeout_seconds)
        except PredictionError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                return HealthStatus.SERVICE_UNKNOWN
            raise
        return _health.to_health_status(response)

    def is_ready(self, *, timeout_seconds: float | None = None) -> bool:
        """Tell whether a server answers predictions now.

        Parameters
        ----------
        timeout_seconds : float or None, default=None
            Time for this call, (0, 86400]. None takes the client's.

        Returns
        -------
        bool
            False also if no server is reached in time.

        Raises
        ------
        PredictionError
            If the answer says neither: UNAUTHENTICATED, for example, or UNIMPLEMENTED if the target
            has no health service.
        """
        return self._why_not_ready(timeout_seconds) is None

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Return as soon as a server answers predictions.

        Parameters
        ----------
        timeout_seconds : float
            Time to wait, (0, 86400].

        Raises
        ------
        DeadlineExceededError
            If no server is ready in time. The message has the last reason.
        PredictionError
            As in `is_ready`.
        """
        end = time.monotonic() + _checked_timeout(timeout_seconds)
        while reason := self._why_not_ready(max(end - time.monotonic(), 0.001)):
            if time.monotonic() + _POLL_SECONDS >= end:
                raise DeadlineExceededError(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"{self._target} was not ready within {timeout_seconds:g} s: {reason}",
                )
            time.sleep(_POLL_SECONDS)

    def _why_not_ready(self, timeout_seconds: float | None) -> str | None:
        try:
            status = self.health(timeout_seconds=timeout_seconds)
        except (UnavailableError, DeadlineExceededError, OverloadedError) as error:
            return str(error)
        return None if status is HealthStatus.SERVING else f"its health is {status}"

    def _call(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_RequestT, _ResponseT]",
        request: _RequestT,
        timeout_seconds: float | None,
    ) -> _ResponseT:
        timeout = self._timeout_of(timeout_seconds)
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise to_exception(error) from error
        except ValueError as error:
            raise self._closed() from error

    def _begin(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_RequestT, _ResponseT]",
        request: _RequestT,
        timeout_seconds: float | None,
    ) -> PendingCall[_ResponseT]:
        timeout = self._timeout_of(timeout_seconds)
        try:
            return PendingCall(method.future(request, timeout=timeout))
        except ValueError as error:
            raise self._closed() from error

    def _timeout_of(self, timeout_seconds: float | None) -> float:
        if timeout_seconds is None:
            return self._timeout_seconds
        return _checked_timeout(timeout_seconds)

    def _closed(self) -> RuntimeError:
        # A stub raises ValueError for this reason alone, never for a value of the caller.
        return RuntimeError(f"{self!r} is closed")


def _checked_timeout(seconds: float) -> float:
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise ValueError(
            f"timeout_seconds is {seconds}; it must be above 0 and at most a day, "
            f"{MAX_TIMEOUT_SECONDS:.0f}"
        )
    return seconds


def _check_positive(name: str, number: int) -> None:
    if number < 1:
        raise ValueError(f"{name} is {number}; it must be 1 or more")


def _checked_attempts(count: int) -> int:
    if not 1 <= count <= MAX_ATTEMPTS_LIMIT:
        raise ValueError(
            f"max_attempts is {count}; it must be from 1 to {MAX_ATTEMPTS_LIMIT}"
        )
    return count
