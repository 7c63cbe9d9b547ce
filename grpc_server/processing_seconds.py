"""The time of Predict under the name that dashboards of the FastAPI predecessor know.

It is computed from `grpc_server_handling_seconds` when a page is read: calls pay nothing for it.
"""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

SOURCE = "grpc_server_handling_seconds"
_METHOD = "Predict"


def derive(metric: Metric) -> Metric:
    """Return `request_processing_seconds`, a summary without labels, as the predecessor had it.

    Parameters
    ----------
    metric : Metric
        The histogram of `SOURCE`, which has other methods besides.

    Returns
    -------
    Metric
        Count and sum of the Predict calls: the predecessor had only that one.
    """
    return SummaryMetricFamily(
        "request_processing_seconds",
        "Time that the server worked on Predict calls; grpc_server_handling_seconds has more.",
        count_value=int(_total(metric, "_count")),
        sum_value=_total(metric, "_sum"),
    )


def _total(metric: Metric, suffix: str) -> float:
    return sum(
        sample.value
        for sample in metric.samples
        if sample.name == SOURCE + suffix and sample.labels["grpc_method"] == _METHOD
    )


class ProcessingSeconds(Collector):
    """Shows the summary on the page of one process.

    Parameters
    ----------
    source : Collector
        The histogram of `SOURCE`.
    """

    def __init__(self, source: Collector) -> None:
        self._source = source

    def describe(self) -> Iterable[Metric]:
        """Return the empty summary: it needs no calls to be registered."""
        return (derive(Metric(SOURCE, "", "histogram")),)

    def collect(self) -> Iterable[Metric]:
        """Return the summary."""
        return [derive(metric) for metric in self._source.collect()]
