"""Shows the counts as Prometheus metrics, with the version of the model on each series.

The series of a version go when no process has it any more, because they are made for each page.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from grpc_server.drift.counts import Counts
from grpc_server.drift.layout import Layout
from grpc_server.drift.store import Snapshot
from prediction_common.stability import index_stability

# With fewer rows, chance alone may lift the index above what is a sign of drift.
MIN_ROWS = 1_000
_VERSION = "model_version"


class DriftCollector(Collector):
    """The metrics of drift and of the expected performance.

    Parameters
    ----------
    read : callable
        Returns the counts of each process.
    """

    def __init__(self, read: Callable[[], Sequence[Snapshot]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all versions that some process serves."""
        families = _Families()
        for layout, counts in merge(self._read()):
            families.add(layout, counts)
        return families.list_filled()


def merge(snapshots: Iterable[Snapshot]) -> list[tuple[Layout, Counts]]:
    """Sum the counts of each layout.

    Parameters
    ----------
    snapshots : iterable of Snapshot
        Counts of each process.

    Returns
    -------
    list of (Layout, Counts)
        One for each version. If two models have the same version, the one loaded last counts.
    """
    newest: dict[str, Layout] = {}
    summed: dict[str, Counts] = {}
    for snapshot in sorted(snapshots, key=lambda s: s.load_time, reverse=True):
        layout, version = snapshot.layout, snapshot.layout.version
        if newest.setdefault(version, layout) != layout:
            continue
        if version not in summed:
            summed[version] = Counts.empty(layout)
        summed[version].add(snapshot.counts)
    return [(newest[version], summed[version]) for version in sorted(newest)]


class _Families:
    """The families of metrics of one page."""

    def __init__(self) -> None:
        self._make_features()
        self._make_scores()
        self._make_outcomes()

    def _make_features(self) -> None:
        binned = ("feature", "bin", _VERSION)
        self.rows = CounterMetricFamily(
            "prediction_drift_rows",
            "Answered rows that were looked at for drift: all, or a uniform sample.",
            labels=(_VERSION,),
        )
        self.bins = CounterMetricFamily(
            "prediction_feature_bin",
            "Rows in each bin of a feature, of those looked at.",
            labels=binned,
        )
        self.reference = GaugeMetricFamily(
            "prediction_feature_reference_ratio",
            "Share of the training rows in each bin of a feature.",
            labels=binned,
        )
        self.index = GaugeMetricFamily(
            "prediction_feature_psi",
            "Population stability index of a feature whose bins are not shown, over the last "
            "5,000 to 10,000 rows looked at; not shown below 1,000.",
            labels=("feature", _VERSION),
        )

    def _make_scores(self) -> None:
        scored = ("bin", _VERSION)
        self.scores = CounterMetricFamily(
            "prediction_score_bin",
            "Rows in each bin of the score, of those looked at.",
            labels=scored,
        )
        self.score_reference = GaugeMetricFamily(
            "prediction_score_reference_ratio",
            "Share of the hold-out's rows in each bin of the score.",
            labels=scored,
        )
        self.fine_rows = CounterMetricFamily(
            "prediction_score_rows",
            "Rows in each fine bin of the score, of those looked at.",
            labels=scored,
        )
        self.fine_probability = CounterMetricFamily(
            "prediction_score_probability",
            "Sum of the scores in each fine bin.",
            labels=scored,
        )
        self.fine_squares = CounterMetricFamily(
            "prediction_score_probability_squares",
            "Sum of the squares of the scores in each fine bin.",
            labels=scored,
        )
        self.fine_below = CounterMetricFamily(
            "prediction_score_probability_below",
            "Sum of the scores in all lower fine bins.",
            labels=scored,
        )

    def _make_outcomes(self) -> None:
        self.outcomes = CounterMetricFamily(
            "prediction_expected_outcomes",
            "Sum of the probabilities of the actual class, by predicted class, of the rows looked "
            "at; with more than 20 classes only where both are the same.",
            labels=("predicted", "actual", _VERSION),
        )
        self.valid = GaugeMetricFamily(
            "prediction_expected_valid",
            "1 if the expected outcomes are an estimate of the true ones, else 0 with the reason.",
            labels=("reason", _VERSION),
        )
        self.error = GaugeMetricFamily(
            "prediction_expected_calibration_error",
            "Expected calibration error of the model on its hold-out; above 0.05, the expected "
            "outcomes are no estimate.",
            labels=(_VERSION,),
        )

    def list_filled(self) -> list[Metric]:
        """Return the families that have series."""
        return [family for family in vars(self).values() if family.samples]

    def add(self, layout: Layout, counts: Counts) -> None:
        """Add the series of one model."""
        version = layout.version
        self.rows.add_metric((version,), counts.n_rows)
        for feature, numbers in zip(layout.features, counts.bins, strict=True):
            for name, n_rows, share in zip(
                feature.bins, numbers, feature.shares, strict=True
            ):
                self.bins.add_metric((feature.label, name, version), n_rows)
                self.reference.add_metric((feature.label, name, version), share)
        self._add_scores(layout, counts)
        self._add_outcomes(layout, counts)
        self._add_others(layout, counts)

    def _add_scores(self, layout: Layout, counts: Counts) -> None:
        version, scores = layout.version, layout.scores
        for name, n_rows, share in zip(
            scores.bins, counts.scores, scores.shares, strict=True
        ):
            self.scores.add_metric((name, version), n_rows)
            self.score_reference.add_metric((name, version), share)
        below = accumulate(counts.fine_probability, initial=0.0)
        for name, n_rows, total, squares, lower in zip(
            layout.fine_bins,
            counts.fine_rows,
            counts.fine_probability,
            counts.fine_squares,
            below,
        ):
            self.fine_rows.add_metric((name, version), n_rows)
            self.fine_probability.add_metric((name, version), total)
            self.fine_squares.add_metric((name, version), squares)
            self.fine_below.add_metric((name, version), lower)

    def _add_outcomes(self, layout: Layout, counts: Counts) -> None:
        version, doubt = layout.version, layout.doubt
        for predicted, sums in zip(layout.classes, counts.outcomes, strict=True):
            actuals = layout.classes if layout.is_square else (predicted,)
            for actual, total in zip(actuals, sums, strict=True):
                self.outcomes.add_metric((predicted, actual, version), total)
        self.valid.add_metric((doubt, version), float(not doubt))
        if layout.calibration_error is not None:
            self.error.add_metric((version,), layout.calibration_error)

    def _add_others(self, layout: Layout, counts: Counts) -> None:
        windows = zip(counts.window, counts.past_window, strict=True)
        for feature, (lately, before) in zip(layout.others, windows, strict=True):
            numbers = [a + b for a, b in zip(lately, before, strict=True)]
            if sum(numbers) >= MIN_ROWS:
                index = index_stability(numbers, feature.shares)
                self.index.add_metric((feature.label, layout.version), index)
