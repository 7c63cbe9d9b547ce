"""`python -m grpc_server.model.row_latency FOLDER`: times a model on one row after another.

The time is that of a `Predict` call between its decoded request and its reply: the row is checked
against the schema, scored, and its class is decided. What gRPC takes is not in it. The rows are the
golden examples of the artifact, in turn, so that no answer is that of the row before.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from math import ceil
from pathlib import Path
from statistics import median

from grpc_server.model.artifact_limits import MAX_ARTIFACT_BYTES
from grpc_server.model.files import find_folder, read_file
from grpc_server.model.loaded import LoadedModel
from grpc_server.model.loading import load_model, read_example
from grpc_server.model.trial import run_limited
from prediction.artifact import FILE_NAME
from prediction.artifact.v1 import model_artifact_pb2

N_WARM_UP, N_CALLS = 500, 5000
# A slow model is called less often.
WARM_UP_SECONDS, CALLS_SECONDS = 0.2, 1.0
_NS_PER_SECOND, _NS_PER_US = 10**9, 1000

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class RowLatency:
    """Time that a model takes for one row.

    Parameters
    ----------
    median_us, p99_us : float
        Median and 99th percentile of the calls in microseconds, above 0.
    n_calls : int
        Number of calls that were timed, 1 or more.
    """

    median_us: float
    p99_us: float
    n_calls: int


def measure_file(folder: Path) -> RowLatency:
    """Load the model in `folder`, which checks its golden examples, and time it on their rows.

    Parameters
    ----------
    folder : Path
        See `load_model`.

    Returns
    -------
    RowLatency
        Of `N_CALLS` calls, or of as many as fit into `CALLS_SECONDS`.

    Raises
    ------
    ArtifactError
        If the model cannot be loaded.
    """
    model = load_model(folder)
    content = read_file(find_folder(folder, FILE_NAME) / FILE_NAME, MAX_ARTIFACT_BYTES)
    artifact = model_artifact_pb2.ModelArtifact.FromString(content)
    return measure(model, artifact.golden_examples)


def measure(
    model: LoadedModel,
    examples: Iterable[model_artifact_pb2.GoldenExample],
    clock: Clock = time.perf_counter_ns,
) -> RowLatency:
    """Time a model on examples, in turn, after a warm-up.

    Parameters
    ----------
    model : LoadedModel
        The model.
    examples : iterable of GoldenExample
        Rows that fit its schema, one or more.
    clock : callable
        Returns the time in nanoseconds.

    Returns
    -------
    RowLatency
        Of the calls after the warm-up.
    """
    rows = cycle(examples)

    def call() -> None:
        row = read_example(next(rows), model.input_schema)
        model.classes.decide(model.estimator.predict_probabilities(row))

    _time(call, N_WARM_UP, WARM_UP_SECONDS, clock)
    return _summarize(_time(call, N_CALLS, CALLS_SECONDS, clock))


def _time(
    call: Callable[[], None], n_calls: int, seconds: float, clock: Clock
) -> list[int]:
    """Return the nanoseconds of each call; the first one that ends too late is the last."""
    times: list[int] = []
    end = clock() + seconds * _NS_PER_SECOND
    for _ in range(n_calls):
        begun = clock()
        call()
        done = clock()
        times.append(done - begun)
        if done >= end:
            break
    return times


def _summarize(times: Sequence[int]) -> RowLatency:
    p99 = sorted(times)[ceil(0.99 * len(times)) - 1]
    return RowLatency(median(times) / _NS_PER_US, p99 / _NS_PER_US, len(times))


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    return run_limited(lambda: asdict(measure_file(Path(arguments[0]))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
