"""Our server with the prediction log of every call, beside the same server without it."""

import re
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve.load import Figures, Target, measure
from benchmarks.serve.models import Model
from benchmarks.serve.servers import serving

PLAIN, LOGGED = "without the log", "with the log of every call"
_N_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class LoggedResult:
    """The figures by server and calls in flight, and what became of the log.

    Parameters
    ----------
    figures : dict
        Figures by server and calls in flight.
    ratio : float
        Calls per second with the log, in units of those without, with most calls in flight.
    n_rows, n_dropped : int
        Rows in the log, and calls that are not in it.
    """

    figures: dict[str, dict[int, Figures]]
    ratio: float
    n_rows: int
    n_dropped: int


def measure_logged(h2load: str, model: Model, work: Path) -> LoggedResult:
    """Measure both servers, in turn, in many short rounds."""
    options = ["--prediction-log", str(work / "log")]
    with ExitStack() as stack:
        plain = stack.enter_context(serving(PLAIN, model, work))
        logged = stack.enter_context(serving(LOGGED, model, work, options))
        figures = measure(h2load, [plain, logged], _N_ROUNDS)
        most = max(figures[PLAIN])
        return LoggedResult(
            figures,
            figures[LOGGED][most].calls_per_second
            / figures[PLAIN][most].calls_per_second,
            _sum(logged, "prediction_log_rows_total"),
            _sum(logged, "prediction_log_dropped_total"),
        )


def _sum(target: Target, name: str) -> int:
    page = f"http://127.0.0.1:{target.http_port}/metrics"
    with urllib.request.urlopen(page) as response:
        text = response.read().decode()
    numbers = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return round(sum(map(float, numbers)))
