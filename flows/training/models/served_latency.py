"""How long the server's model takes for one row: training is told, because it cannot measure it.

Training does not import the server. The flow measures, and hands the figures over.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServedLatency:
    """Time for one row on the machine that trained, in the server's own code without gRPC.

    Parameters
    ----------
    median_us, p99_us : float
        Median and 99th percentile of the calls in microseconds.
    n_calls : int
        Number of calls that were timed.
    """

    median_us: float
    p99_us: float
    n_calls: int

    @property
    def figures(self) -> Mapping[str, float]:
        """Names and values of the metrics in MLflow."""
        return {
            "row_latency_median_us": self.median_us,
            "row_latency_p99_us": self.p99_us,
        }

    def __str__(self) -> str:
        """Tell the figures in words."""
        return (
            f"{self.median_us:.3g} µs (median), {self.p99_us:.3g} µs (99th percentile)"
        )
