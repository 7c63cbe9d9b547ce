"""`make bench-clients`: calls a second of the blocking client, beside the asynchronous one."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.ensembles import read_row, serve
from benchmarks.serve.models import train
from benchmarks.tables import print_table

from prediction import AsyncPredictionClient, PredictionClient
from prediction.artifact import FILE_NAME, seal
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

N_ROUNDS, ROUND_SECONDS = 7, 2.0
Row = Sequence[float]


def main() -> None:
    """Print a row for each client and number of calls in flight; they take turns."""
    with tempfile.TemporaryDirectory(prefix="bench-") as work, ExitStack() as stack:
        folder = make_model(Path(work))
        cases = make_cases(serve(stack, folder), read_row(folder))
        rates: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(N_ROUNDS):
            for name, measure in cases.items():
                rates[name].append(measure())
    report(rates)


def make_model(work: Path) -> Path:
    """Write a logistic regression of the embedded data set, and return its folder."""
    artifact = ModelArtifact.FromString(train("logistic_regression", {}, work))
    artifact.ClearField("sha256")
    folder = work / "model"
    folder.mkdir()
    (folder / FILE_NAME).write_bytes(seal(artifact.SerializeToString()))
    return folder


def make_cases(target: str, row: Row) -> Mapping[str, Callable[[], float]]:
    """Return a measurement by name, the base of all ratios first."""
    threads = {f"{n} threads": partial(measure_threads, target, row, n) for n in (1, 8)}
    tasks = {f"{n} tasks": partial(measure_tasks, target, row, n) for n in (1, 8, 64)}
    return threads | tasks


def measure_threads(target: str, row: Row, n_threads: int) -> float:
    """Return the calls a second of threads that share a blocking client."""
    with PredictionClient(target) as client, ThreadPoolExecutor(n_threads) as pool:
        client.predict(row)
        end = time.perf_counter() + ROUND_SECONDS

        def call_on(_: int) -> int:
            count = 0
            while time.perf_counter() < end:
                client.predict(row)
                count += 1
            return count

        return sum(pool.map(call_on, range(n_threads))) / ROUND_SECONDS


def measure_tasks(target: str, row: Row, n_tasks: int) -> float:
    """Return the calls a second of tasks that share an asynchronous client."""
    return asyncio.run(_measure_tasks(target, row, n_tasks))


async def _measure_tasks(target: str, row: Row, n_tasks: int) -> float:
    async with AsyncPredictionClient(target) as client:
        await client.predict(row)
        end = time.perf_counter() + ROUND_SECONDS

        async def call_on() -> int:
            count = 0
            while time.perf_counter() < end:
                await client.predict(row)
                count += 1
            return count

        counts = await asyncio.gather(*(call_on() for _ in range(n_tasks)))
    return sum(counts) / ROUND_SECONDS


def report(rates: dict[str, list[float]]) -> None:
    """Print the medians, and their ratio to the first."""
    medians = {name: statistics.median(values) for name, values in rates.items()}
    base = next(iter(medians.values()))
    print_table(
        f"One row a call, median of {N_ROUNDS} rounds, taking turns",
        ("calls in flight", "calls/s", "min", "max", "times one thread"),
        [
            (
                name,
                *(f"{x:.0f}" for x in (medians[name], min(values), max(values))),
                f"{medians[name] / base:.2f}",
            )
            for name, values in rates.items()
        ],
    )


if __name__ == "__main__":
    main()
