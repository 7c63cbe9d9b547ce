"""Our server beside bare grpcio, for a model of each size."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve.load import LOADS, Figures, Target, measure
from benchmarks.serve.models import Model
from benchmarks.serve.servers import ECHOES, QUEUE, echoing, serving

OURS = "this server"
POOL = "this server, --lane pool"


@dataclass(frozen=True, slots=True)
class LaneResult:
    """The figures by server and calls in flight, and the memory of our server under load."""

    figures: dict[str, dict[int, Figures]]
    resident_mib: float


def measure_lanes(h2load: str, model: Model, work: Path) -> LaneResult:
    """Measure both lanes and the bare servers, all running, in turn."""
    with ExitStack() as stack:
        ours = stack.enter_context(serving(OURS, model, work))
        pool = serving(POOL, model, work, ["--lane", "pool"])
        targets: list[Target] = [ours, stack.enter_context(pool)]
        for name in (*ECHOES, QUEUE):
            targets.append(stack.enter_context(echoing(name, model, work)))
        figures = measure(h2load, targets)
        return LaneResult(figures, ours.processes.resident_mib())


def best_echo(figures: dict[str, dict[int, Figures]], load: int) -> str:
    """Return the name of the better bare server."""
    assert load in LOADS
    return max(ECHOES, key=lambda name: figures[name][load].calls_per_second)
