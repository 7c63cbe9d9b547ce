"""Our server beside bare grpcio, for a model of each size."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve.load import Figures, measure
from benchmarks.serve.models import Model
from benchmarks.serve.servers import ECHOES, IMAGE_ENVIRON, QUEUE, echoing, serving

OURS = "this server"
IN_IMAGE = "this server, as in its image"
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
        image = serving(IN_IMAGE, model, work, environ=IMAGE_ENVIRON)
        pool = serving(POOL, model, work, ["--lane", "pool"])
        targets = [ours, *map(stack.enter_context, (image, pool))]
        for name in (*ECHOES, QUEUE):
            targets.append(stack.enter_context(echoing(name, model, work)))
        figures = measure(h2load, targets)
        return LaneResult(figures, ours.processes.resident_mib())
