"""The client that blocks: one channel, a deadline for every call, errors as exceptions."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self, cast

import grpc

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
from prediction._transport import BlockingTransport, run_now


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
    trace_context : callable or None, default=None
        Returns the ``traceparent`` and ``tracestate`` of the caller's trace, and is asked before
        each call. `opentelemetry_context` takes them from OpenTelemetry. None sends none.

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
        trace_context: TraceContext | None = None,
    ) -> None:
        self._target = target
        limit = check_timeout(timeout_seconds)
        self._transport = BlockingTransport(
            repr(self), target, credentials, check_attempts(max_attempts), options
        )
        self._calls = Calls(target, self._transport, limit, trace_context)

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
        self._transport.close()

    def predict(
        self,
        instance: Instance,
        *,
        explain_top_k: int = 0,
        request_id: str | None = None,
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
        request_id : str or None, default=None
            Your name of the call, 1 to 128 visible ASCII characters, such as an order's number. The
            server's logs have it, so that its prediction log can be joined with outcomes. None
            leaves it to the server.
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
            If `explain_top_k` is out of its range, or `request_id` has other characters.
        PredictionError
            If the call fails for another reason, which the subclass names.
        """
        return run_now(
            self._calls.predict(instance, explain_top_k, request_id, timeout_seconds)
        )

    def predict_frame(
        self,
        frame: FrameT,
        *,
        ignore_extra: bool = False,
        rows_per_call: int = DEFAULT_ROWS_PER_CALL,
        calls_at_once: int = DEFAULT_CALLS_AT_ONCE,
        request_id: str | None = None,
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
        request_id : str or None, default=None
            Your name of the frame, 1 to 100 visible ASCII characters. Each chunk's call is named
            after it and its first row, such as ``import-7:5000``. The answer has the names, so
            that the prediction log can be joined with outcomes. None leaves it to the server.
        timeout_seconds : float or None, default=None
            Time for the call of each chunk, (0, 86400]. None takes the client's.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            One row for each of `frame`, in its order and with its index. Columns: `label`, text;
            `probability_<class>` for each of `Model.classes`, float64, [0, 1]; `model_version`,
            text, the same in all rows. With a `request_id` also: `request_id`, text, and `row`,
            int64, from 0, the row's key in the prediction log.

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
            If `rows_per_call` or `calls_at_once` is below 1, or `request_id` has other characters.
        PredictionError
            If a call fails for another reason, which the subclass names.
        """
        answer = run_now(
            self._calls.predict_frame(
                to_table(frame),
                ignore_extra=ignore_extra,
                rows_per_call=rows_per_call,
                calls_at_once=calls_at_once,
                request_id=request_id,
                timeout_seconds=timeout_seconds,
            )
        )
        return cast(FrameT, answer)

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
        return run_now(self._calls.get_model(timeout_seconds))

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
        return run_now(self._calls.health(service, timeout_seconds))

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
        return run_now(self._calls.why_not_ready(SERVICE_NAME, timeout_seconds)) is None

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
        run_now(self._calls.wait_until_ready(SERVICE_NAME, timeout_seconds))
