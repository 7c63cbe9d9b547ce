"""What a shadow's process reports, as metrics and for GetModel."""

from collections.abc import Mapping
from dataclasses import replace
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge

from grpc_server.histograms import ManyHistogram, ManySummary
from grpc_server.metrics import LATENCY_BUCKETS_SECONDS
from grpc_server.model.shadow_status import ShadowStatus
from grpc_server.model.sync_status import clean_text
from grpc_server.observe.reports import Report

_REASONS = (
    "queue_full",
    "observer_gone",
    "no_shadow",
    "own_answer",
    "canary_answer",
    "unknown_model",
    "failed",
    "other",
)
_AGREEMENTS = ("same", "other", "misfit", "failed")
# Series of several processes stay until they end, so versions must not make any number of them.
_MAX_VERSIONS = 100
_OTHER = "other"
_MAX_VERSION_CHARACTERS = 100


class ShadowMetrics:
    """Counts what the shadow's process reports.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the metrics.
    share : float
        Share of the calls that the shadow scores, [0, 1].

    Attributes
    ----------
    status : ShadowStatus
        The shadow as it is now; replaced in one step.
    """

    def __init__(self, registry: CollectorRegistry, share: float) -> None:
        self.status = ShadowStatus(share=share)
        self._lock = Lock()
        self._rows = Counter(
            "prediction_shadow_rows",
            "Rows that the shadow scored, by its version: same or other label, misfit if they do "
            "not fit it, failed if it failed.",
            ("model_version", "agreement"),
            registry=registry,
        )
        self._difference = ManySummary(
            "prediction_shadow_absolute_difference",
            "Largest absolute difference of a row's probabilities between shadow and answer.",
            ("model_version",),
            registry=registry,
        )
        self._seconds = ManyHistogram(
            "prediction_shadow_seconds",
            "Time that the shadow took to score a call.",
            registry=registry,
            buckets=LATENCY_BUCKETS_SECONDS,
        )
        self._dropped = Counter(
            "prediction_shadow_dropped",
            "Answered calls, or chunks of streams, that the shadow did not score, by reason.",
            ("reason",),
            registry=registry,
        )
        for reason in _REASONS:
            self._dropped.labels(reason)  # the series exists before the first
        self._info = Gauge(
            "prediction_shadow_info",
            "1 for the version that scores.",
            ("model_version",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._restarts = Counter(
            "prediction_shadow_restarts",
            "Times that the shadow's process ended by itself.",
            registry=registry,
        )
        self._refused = Counter(
            "prediction_shadow_load_failures",
            "Files that were refused as a shadow; GetModel has the reason.",
            registry=registry,
        )
        self._versions: set[str] = set()

    def take_report(self, report: Report) -> None:
        """Add what the shadow's process reports."""
        counts = dict(report.counts)
        self._refused.inc(counts.pop("refused", 0.0))
        seconds_sum, n_by_bucket = counts.pop("seconds_sum", 0.0), {}
        for name, number in counts.items():
            kind, _, rest = name.partition(".")
            if kind == "rows":
                self._count_rows(rest, number)
            elif kind == "compared":
                total = counts.get(f"difference.{rest}", 0.0)
                self._difference.labels(self._label(rest)).add(number, total)
            elif kind == "seconds":
                n_by_bucket[int(rest)] = number
            elif kind == "dropped":
                self.count_dropped(rest, number)
        self._seconds.add(n_by_bucket, seconds_sum)
        self._show(report.texts)

    def count_dropped(self, reason: str, n_calls: float) -> None:
        """Count calls that the shadow did not score."""
        known = reason if reason in _REASONS else _REASONS[-1]
        self._dropped.labels(known).inc(n_calls)

    def count_restart(self) -> None:
        """Count an end of the process that nobody asked for."""
        self._restarts.inc()
        self._show({"version": "", "refusal": "its process ended and starts again"})

    def _count_rows(self, name: str, n_rows: float) -> None:
        agreement, _, version = name.partition(".")
        if agreement not in _AGREEMENTS:
            return
        self._rows.labels(self._label(version), agreement).inc(n_rows)
        with self._lock:
            status = self.status
            if version == status.version:
                self.status = replace(
                    status,
                    n_rows=status.n_rows + int(n_rows),
                    n_same=status.n_same + int(n_rows) * (agreement == "same"),
                )

    def _show(self, texts: Mapping[str, str]) -> None:
        with self._lock:
            before = self.status
            version = texts.get("version", before.version)
            refusal = clean_text(texts.get("refusal", before.refusal))
            if version != before.version:
                self.status = ShadowStatus(version, before.share, refusal)
            else:
                self.status = replace(before, refusal=refusal)
        if version != before.version:
            if before.version:
                self._info.labels(self._label(before.version)).set(0)
            if version:
                self._info.labels(self._label(version)).set(1)

    def _label(self, version: str) -> str:
        version = version[:_MAX_VERSION_CHARACTERS]
        if version not in self._versions:
            if len(self._versions) >= _MAX_VERSIONS:
                return _OTHER
            self._versions.add(version)
        return version
