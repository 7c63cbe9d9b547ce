"""Prometheus metrics; the names of the RPC metrics are those of common gRPC dashboards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from grpc_server.model import LoadedModel

# 50 us to 3.3 s, doubling: a prediction takes tens of microseconds.
LATENCY_BUCKETS_SECONDS = tuple(50e-6 * 2**power for power in range(17))
# 1 to 65,536 rows, by factors of 4; the default of --max-batch-rows is 10,000.
BATCH_BUCKETS_ROWS = tuple(4**power for power in range(9))


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC, as metrics label it."""

    service: str
    name: str

    @classmethod
    def from_path(cls, path: str) -> "Method":
        """Return the method of a path such as "/prediction.v1.PredictionService/Predict"."""
        service, _, name = path.lstrip("/").partition("/")
        return cls(service, name)


class CallCounter(Protocol):
    """Counts the calls of one method."""

    def count_started(self) -> None:
        """Count one call that began."""
        ...

    def record(self, code: str, seconds: float) -> None:
        """Count one call that ended.

        Parameters
        ----------
        code : str
            Name of the status code, such as "OK".
        seconds : float
            Time that the server worked on the call, 0 or more.
        """
        ...


class Uncounted:
    """Counts nothing; for calls that the server makes to itself."""

    def count_started(self) -> None:
        """Do nothing."""

    def record(self, code: str, seconds: float) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


class CallMetrics:
    """The metrics of all calls, under the names that other gRPC servers use."""

    def __init__(self, registry: CollectorRegistry) -> None:
        rpc = ("grpc_type", "grpc_service", "grpc_method")
        self.started = Counter(
            "grpc_server_started", "Calls that began.", rpc, registry=registry
        )
        self.handled = Counter(
            "grpc_server_handled",
            "Calls that ended, by status.",
            (*rpc, "grpc_code"),
            registry=registry,
        )
        self.handling_seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time that the server worked on a call, without waiting.",
            rpc,
            registry=registry,
            buckets=LATENCY_BUCKETS_SECONDS,
        )


class MethodMetrics:
    """Metrics of one method, with its labels bound once: binding costs more than counting."""

    def __init__(
        self, metrics: "Metrics", method: Method, grpc_type: str = "unary"
    ) -> None:
        labels = (grpc_type, method.service, method.name)
        self._handled = metrics.calls.handled
        self._labels = labels
        self._handled_by_code: dict[str, Counter] = {}
        self._started = metrics.calls.started.labels(*labels)
        self._observe_seconds = metrics.calls.handling_seconds.labels(*labels).observe
        self._counter("OK")  # the series exists before the first call

    def count_started(self) -> None:
        """Count one call that began."""
        self._started.inc()

    def record(self, code: str, seconds: float) -> None:
        """Count one call that ended with `code`, such as "OK", after `seconds`."""
        self._counter(code).inc()
        self._observe_seconds(seconds)

    def _counter(self, code: str) -> Counter:
        try:
            return self._handled_by_code[code]
        except KeyError:
            counter = self._handled_by_code[code] = self._handled.labels(
                *self._labels, code
            )
            return counter


class DeferredMethodMetrics(MethodMetrics):
    """Collects calls and counts many at a time, at a quarter of the cost; for one thread only."""

    def __init__(self, metrics: "Metrics", method: Method) -> None:
        super().__init__(metrics, method)
        self._n_started = 0
        self._ended: list[tuple[str, float]] = []

    def count_started(self) -> None:
        """Collect one call that began."""
        self._n_started += 1

    def record(self, code: str, seconds: float) -> None:
        """Collect one call that ended with `code`, such as "OK", after `seconds`."""
        self._ended.append((code, seconds))

    def flush(self) -> None:
        """Count the collected calls."""
        if self._n_started:
            self._started.inc(self._n_started)
            self._n_started = 0
        for code, seconds in self._ended:
            super().record(code, seconds)
        self._ended.clear()


class Metrics:
    """The metrics of one server.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the metrics.
    is_merged : bool
        Whether the values are kept in files that `MergedMetrics` reads. Their series cannot be
        removed, so the series of a replaced model becomes 0.
    """

    def __init__(self, registry: CollectorRegistry, *, is_merged: bool = False) -> None:
        self._is_merged = is_merged
        self.calls = CallMetrics(registry)
        self._instances = Counter(
            "prediction_instances",
            "Instances predicted, by predicted label.",
            ("label",),
            registry=registry,
        )
        # Bound once: binding a label costs more than counting.
        self._count_by_label: dict[str, Callable[[], None]] = {}
        self._batch_rows = Histogram(
            "prediction_batch_rows",
            "Instances of each answered batch, or chunk of a stream.",
            registry=registry,
            buckets=BATCH_BUCKETS_ROWS,
        )
        self._model_info = Gauge(
            "prediction_model_info",
            "1 for the model that answers.",
            ("registered_model", "model_version", "family", "run_id"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._shown_model: Gauge | None = None
        self._loaded_timestamp_seconds = Gauge(
            "prediction_model_loaded_timestamp_seconds",
            "When the model that answers was loaded, in seconds since the epoch.",
            registry=registry,
            multiprocess_mode="livemax",
        )

        self._load_failures = Counter(
            "prediction_model_load_failures",
            "Models that were refused; the previous one kept answering.",
            registry=registry,
        )

        self._lane_info = Gauge(
            "prediction_lane_info",
            "1 for the lane that answers Predict, with the lane of the settings.",
            ("lane", "asked"),
            registry=registry,
            multiprocess_mode="livemax",
        )

    def show_lane(self, lane: str, asked: str) -> None:
        """Show the lane that answers, and the lane of the settings."""
        self._lane_info.labels(lane, asked).set(1)

    def count_load_failure(self) -> None:
        """Count one model that was refused."""
        self._load_failures.inc()

    def count_prediction(self, label: str) -> None:
        """Count one instance predicted as `label`; the model's classes bound the labels."""
        try:
            self._count_by_label[label]()
        except KeyError:
            count = self._count_by_label[label] = self._instances.labels(label).inc
            count()

    def count_batch(self, n_by_label: Mapping[str, int]) -> None:
        """Count the instances of one batch by predicted label."""
        self._batch_rows.observe(sum(n_by_label.values()))
        for label, n_rows in n_by_label.items():
            self._instances.labels(label).inc(n_rows)

    def show_model(self, model: LoadedModel) -> None:
        """Show `model` as the only one that answers."""
        source = model.source
        self._hide_model()
        self._shown_model = self._model_info.labels(
            source.registered_model,
            source.version,
            model.provenance.family,
            source.run_id,
        )
        self._shown_model.set(1)
        self._loaded_timestamp_seconds.set(model.load_time.timestamp())

    def _hide_model(self) -> None:
        if not self._is_merged:
            self._model_info.clear()
        elif self._shown_model is not None:
            self._shown_model.set(0)
