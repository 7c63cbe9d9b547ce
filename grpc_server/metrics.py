"""Prometheus metrics; the names of the RPC metrics are those of common gRPC dashboards."""

from collections import Counter as TallyCounter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from grpc_server.histograms import ManyHistogram
from grpc_server.model import LoadedModel
from grpc_server.model.standing import Standing

# 50 us to 3.3 s, doubling: a prediction takes tens of microseconds.
LATENCY_BUCKETS_SECONDS = tuple(50e-6 * 2**power for power in range(17))
# 1 to 65,536 rows, by factors of 4; the default of --max-batch-rows is 10,000.
BATCH_BUCKETS_ROWS = tuple(4**power for power in range(9))
# Statuses for which the server, not its caller, is to blame.
ERROR_CODES = (
    "INTERNAL",
    "UNKNOWN",
    "UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "DEADLINE_EXCEEDED",
    "DATA_LOSS",
)
# Classes of the errors for which a model is refused, with the labels of their counts.
_REASONS: Mapping[str, str] = {
    "ArtifactCorrupt": "corrupt",
    "ArtifactMissing": "missing",
    "ArtifactUntried": "untried",
    "ArtifactUnverified": "unverified",
    "GoldenMismatch": "golden_mismatch",
    "OtherModel": "other_model",
}
_OTHER = "other"
# Classes of a model with a series of their own, and those of all models of a process.
MAX_LABELS, _MAX_ALL_LABELS = 50, 500
# The series of several processes stay until they end, so a folder must not make any number of them.
_MAX_WANTED_VERSIONS = 100


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

    def record(self, code: str, seconds: float, waited_seconds: float) -> None:
        """Count one call that ended.

        Parameters
        ----------
        code : str
            Name of the status code, such as "OK".
        seconds : float
            Time that the server worked on the call, 0 or more.
        waited_seconds : float
            Time that its messages waited until the server worked on them, 0 or more.
        """
        ...

    def exemplify(self, seconds: float, trace_id: str) -> None:
        """Name a traced call as an example of those that take as long.

        Parameters
        ----------
        seconds : float
            Time that the server worked on the call, 0 or more.
        trace_id : str
            Its trace, 32 hexadecimal digits.
        """
        ...


class Uncounted:
    """Counts nothing; for calls that the server makes to itself."""

    def count_started(self) -> None:
        """Do nothing."""

    def record(self, code: str, seconds: float, waited_seconds: float) -> None:
        """Do nothing."""

    def exemplify(self, seconds: float, trace_id: str) -> None:
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
        self.handling_seconds = ManyHistogram(
            "grpc_server_handling_seconds",
            "Time that the server worked on a call, without waiting.",
            rpc,
            registry=registry,
            buckets=LATENCY_BUCKETS_SECONDS,
        )
        self.waiting_seconds = ManyHistogram(
            "prediction_waiting_seconds",
            "Time that the messages of a call waited until the server worked on them.",
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
        self._seconds = metrics.calls.handling_seconds.labels(*labels)
        self._waited_seconds = metrics.calls.waiting_seconds.labels(*labels)
        # A series that begins above 0 has no rate: the first errors would be seen by nobody.
        for code in ("OK", *ERROR_CODES):
            self._counter(code)

    def count_started(self) -> None:
        """Count one call that began."""
        self._started.inc()

    def record(self, code: str, seconds: float, waited_seconds: float) -> None:
        """Count one call that ended with `code`, such as "OK"."""
        self._counter(code).inc()
        self._seconds.observe(seconds)
        self._waited_seconds.observe(waited_seconds)

    def exemplify(self, seconds: float, trace_id: str) -> None:
        """Name a traced call as an example; a page in the format of OpenMetrics shows it."""
        self._seconds.exemplify(seconds, {"trace_id": trace_id})

    def _counter(self, code: str) -> Counter:
        try:
            return self._handled_by_code[code]
        except KeyError:
            counter = self._handled_by_code[code] = self._handled.labels(
                *self._labels, code
            )
            return counter


class DeferredMethodMetrics(MethodMetrics):
    """Collects calls and counts many at a time, at a fifth of the cost; for one thread only."""

    def __init__(self, metrics: "Metrics", method: Method) -> None:
        super().__init__(metrics, method)
        self._n_started = 0
        self._ended: list[tuple[str, float, float]] = []

    def count_started(self) -> None:
        """Collect one call that began."""
        self._n_started += 1

    def record(self, code: str, seconds: float, waited_seconds: float) -> None:
        """Collect one call that ended with `code`, such as "OK"."""
        self._ended.append((code, seconds, waited_seconds))

    def flush(self) -> None:
        """Count the collected calls."""
        if self._n_started:
            self._started.inc(self._n_started)
            self._n_started = 0
        if not self._ended:
            return
        codes, seconds, waited_seconds = zip(*self._ended, strict=True)
        self._ended.clear()
        for code, n_calls in TallyCounter(codes).items():
            self._counter(code).inc(n_calls)
        self._seconds.observe_many(seconds)
        self._waited_seconds.observe_many(waited_seconds)


class AccessMetrics:
    """Who calls, and the files that say who may.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._certificate_failures = Counter(
            "prediction_tls_reload_failures",
            "Changes of the files of TLS that were refused; the previous ones kept serving.",
            registry=registry,
        )
        self._callers_failures = Counter(
            "prediction_callers_reload_failures",
            "Changes of the files of callers that were refused; the previous ones kept serving.",
            registry=registry,
        )
        self._calls_by_caller = Counter(
            "prediction_calls_by_caller",
            "Calls that ended, by the caller's name in the files of callers, and by status.",
            ("caller", "grpc_code"),
            registry=registry,
        )

    def count_certificate_failure(self) -> None:
        """Count one change of the files of TLS that was refused."""
        self._certificate_failures.inc()

    def count_callers_failure(self) -> None:
        """Count one change of a file of callers that was refused."""
        self._callers_failures.inc()

    def count_caller(self, name: str, code: str) -> None:
        """Count one call by its caller; the files of callers bound the names."""
        self._calls_by_caller.labels(name, code).inc()


class InstanceMetrics:
    """Predicted instances.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._instances = Counter(
            "prediction_instances",
            f"Instances predicted, by predicted label; labels after a model's first "
            f"{MAX_LABELS} are {_OTHER!r}.",
            ("label",),
            registry=registry,
        )
        # Bound once: binding a label costs more than counting.
        self._count_by_label: dict[str, Callable[[], None]] = {}
        self._own_labels: frozenset[str] = frozenset()
        self._batch_rows = Histogram(
            "prediction_batch_rows",
            "Instances of each answered batch, or chunk of a stream.",
            registry=registry,
            buckets=BATCH_BUCKETS_ROWS,
        )

    def count_prediction(self, label: str) -> None:
        """Count one instance predicted as `label`."""
        try:
            self._count_by_label[label]()
        except KeyError:
            count = self._count_by_label[label] = self._instances_of(label).inc
            count()

    def count_batch(self, n_by_label: Mapping[str, int]) -> None:
        """Count the instances of one batch by predicted label."""
        self._batch_rows.observe(sum(n_by_label.values()))
        for label, n_rows in n_by_label.items():
            self._instances_of(label).inc(n_rows)

    def expect_labels(self, labels: Sequence[str]) -> None:
        """Give labels a series of their own, before the first call of a model with these classes.

        They are chosen by position, so that all processes choose alike.
        """
        new = self._own_labels.union(labels[:MAX_LABELS])
        if len(new) <= _MAX_ALL_LABELS:
            self._own_labels = new
            self._count_by_label = {}

    def _instances_of(self, label: str) -> Counter:
        return self._instances.labels(label if label in self._own_labels else _OTHER)


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
        self.registry = registry  # for metrics of parts that may be off
        self.calls = CallMetrics(registry)
        instances = InstanceMetrics(registry)
        self.count_prediction = instances.count_prediction
        self.count_batch = instances.count_batch
        self.expect_labels = instances.expect_labels
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
            "Models that were refused, by reason; the previous one kept answering.",
            ("reason",),
            registry=registry,
        )
        for reason in (*_REASONS.values(), _OTHER):
            self._load_failures.labels(reason)  # the series exists before the first
        self._wanted = WantedMetrics(registry, is_merged=is_merged)

        self.access = AccessMetrics(registry)

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

    def count_load_failure(self, error: str) -> None:
        """Count one model that was refused, by the name of the error's class."""
        self._load_failures.labels(_REASONS.get(error, _OTHER)).inc()

    def show_standing(self, standing: Standing) -> None:
        """Show which version is wanted, and whether it is refused."""
        self._wanted.show(standing)

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


class WantedMetrics:
    """The version that should answer, and whether it does.

    Several processes read the same status and refuse the same files: the largest value counts.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the metrics.
    is_merged : bool
        As in `Metrics`.
    """

    def __init__(self, registry: CollectorRegistry, *, is_merged: bool) -> None:
        self._is_merged = is_merged
        self._info = Gauge(
            "prediction_model_wanted_info",
            "1 for the version that should answer; prediction_model_info has the one that does.",
            ("model_version",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._refused = Gauge(
            "prediction_model_refused",
            "1 while something keeps the wanted version from answering; GetModel has the reason.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._contact_seconds = Gauge(
            "prediction_registry_last_contact_timestamp_seconds",
            "When the registry last named the wanted version, in seconds since the epoch; 0 if "
            "unknown.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._shown: Gauge | None = None
        self._versions: set[str] = set()

    def show(self, standing: Standing) -> None:
        """Show a standing as the only one."""
        self._refused.set(bool(standing.refusal))
        self._contact_seconds.set(standing.contact_time or 0.0)
        if not self._is_merged:
            self._info.clear()
        elif self._shown is not None:
            self._shown.set(0)
        if standing.wanted_version:
            self._shown = self._info.labels(self._label(standing.wanted_version))
            self._shown.set(1)

    def _label(self, version: str) -> str:
        if not self._is_merged or version in self._versions:
            return version
        if len(self._versions) >= _MAX_WANTED_VERSIONS:
            return _OTHER
        self._versions.add(version)
        return version
