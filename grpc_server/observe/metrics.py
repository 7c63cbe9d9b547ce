"""The metrics of the prediction log."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from grpc_server.observe.reports import Report

# Why a call is not in the log; a reason that is not listed counts as the last.
_REASONS = (
    "queue_full",
    "observer_gone",
    "disk_full",
    "read_only",
    "no_folder",
    "no_room",
    "io_error",
    "too_large",
    "unknown_model",
    "failed",
    "other",
)
_DROPPED = "dropped."


class PredictionLogMetrics:
    """What the prediction log has written, and what it has not.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the metrics.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "prediction_log_rows", "Rows written to the log.", registry=registry
        )
        self._bytes = Counter(
            "prediction_log_bytes", "Bytes written to the log.", registry=registry
        )
        self._dropped = Counter(
            "prediction_log_dropped",
            "Answered calls, or chunks of streams, that are not whole in the log, by reason.",
            ("reason",),
            registry=registry,
        )
        for reason in _REASONS:
            self._dropped.labels(reason)  # the series exists before the first
        self._deleted_files = Counter(
            "prediction_log_deleted_files",
            "Files of the log that were deleted to keep the folder within its bound.",
            registry=registry,
        )
        self._restarts = Counter(
            "prediction_log_restarts",
            "Times that the process that writes the log ended by itself.",
            registry=registry,
        )
        self._last_write_seconds = Gauge(
            "prediction_log_last_write_timestamp_seconds",
            "When rows were last written, in seconds since the epoch; 0 before the first.",
            registry=registry,
            multiprocess_mode="livemax",
        )

    def take_report(self, report: Report) -> None:
        """Add what the observer reports."""
        counts = dict(report.counts)
        self._rows.inc(counts.pop("rows", 0))
        self._bytes.inc(counts.pop("bytes", 0))
        self._deleted_files.inc(counts.pop("deleted_files", 0))
        for name, number in counts.items():
            if name.startswith(_DROPPED):
                self.count_dropped(name.removeprefix(_DROPPED), number)
        if "last_write" in report.values:
            self._last_write_seconds.set(report.values["last_write"])

    def count_dropped(self, reason: str, n_calls: float) -> None:
        """Count calls that are not in the log."""
        known = reason if reason in _REASONS else _REASONS[-1]
        self._dropped.labels(known).inc(n_calls)

    def count_restart(self) -> None:
        """Count an end of the process that nobody asked for."""
        self._restarts.inc()
