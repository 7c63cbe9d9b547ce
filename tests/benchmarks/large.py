"""Measures how training's time and memory grow with the rows: `python -m benchmarks.large --help`.

Each step of the flow runs in a process of its own, one after the other, as a cluster's pods do.
Memory is what the kernel cannot drop: a mapped file's pages come back from the disk, so they do
not count.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = 28
ROWS_AT_ONCE = 250_000
GRIDS = {
    "logistic_regression": {"C": [0.01, 1.0]},
    "lightgbm": [{"learning_rate": [0.1], "num_leaves": [31], "n_estimators": [50]}],
}
STEPS = ("start", "logistic_regression", "lightgbm", "select_best")
MIB = 2**20


def write_table(path: Path, n_rows: int, seed: int = 7) -> None:
    """Write a Parquet file of 28 columns of normal numbers, and a label of two classes."""
    import pyarrow
    from pyarrow import parquet

    rng = np.random.default_rng(seed)
    weights = rng.normal(size=COLUMNS) / 3
    names = [f"x{number:02d}" for number in range(COLUMNS)]
    writer = None
    for begin in range(0, n_rows, ROWS_AT_ONCE):
        X = rng.normal(size=(min(ROWS_AT_ONCE, n_rows - begin), COLUMNS))
        score = X @ weights + X[:, 0] * X[:, 1] + rng.normal(size=len(X))
        columns = dict(zip(names, X.T, strict=True))
        table = pyarrow.table({**columns, "label": (score > 0).astype(np.int64)})
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def read_kilobytes(name: str) -> int:
    """Return a value of /proc/self/status in KiB."""
    text = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in text.splitlines())
    return int(lines[name].split()[0])


@contextmanager
def watched_memory() -> Iterator[Callable[[], int]]:
    """Watch the memory of this process that no file holds; the call returns its peak in bytes."""
    peak, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.005):
            peak[0] = max(peak[0], read_kilobytes("RssAnon"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield lambda: peak[0] * 1024
    is_over.set()
    thread.join()


def do_step(name: str, folder: Path, data: str, n_threads: int) -> None:
    """Do one step of the flow in this process; what it returns is in a file of the folder."""
    from training.data.disk import Scratch
    from training.data.rows import open_rows
    from training.models.families import FAMILIES
    from training.models.family_search import FamilySearch
    from training.parameters import FlowParameters
    from training.plan import FileStore, TrainingRequest, make_plan
    from training.trained_model import train_model

    def load(step: str) -> Any:
        return pickle.loads((folder / f"{step}.pickle").read_bytes())

    if name == "start":
        parameters = FlowParameters(data=data, target="label")
        request = TrainingRequest("TrainFlow/1", parameters, GRIDS, "")
        store = FileStore(folder, str, lambda url, _: Path(url))
        result: Any = make_plan(request, store)
    elif name == "select_best":
        plan = load("start")
        rows = [open_rows(part, Path) for part in (plan.train, plan.holdout)]
        results = {family: load(family) for family in FAMILIES}
        trained = train_model(
            plan,
            results,
            {},
            train=rows[0],
            holdout=rows[1],
            scratch=Scratch(folder / "scratch"),
        )
        result = trained.metrics
    else:
        plan = load("start")
        search = FamilySearch(
            FAMILIES[name], plan.schema, plan.grids[name], plan.settings
        )
        result = search.run(
            open_rows(plan.train, Path), n_jobs=n_threads, report=lambda line: None
        )
    (folder / f"{name}.pickle").write_bytes(pickle.dumps(result))


def run_step(name: str, folder: Path, data: str, n_threads: int) -> None:
    """Do one step, and print its seconds and its peak of memory as JSON."""
    begin = time.perf_counter()
    with watched_memory() as find_peak:
        do_step(name, folder, data, n_threads)
        figures = {
            "seconds": round(time.perf_counter() - begin, 1),
            "cpu_seconds": round(time.process_time(), 1),
            "mib": find_peak() // MIB,
        }
    print(json.dumps(figures))


def measure(n_rows: int, folder: Path, n_threads: int) -> dict[str, dict[str, float]]:
    """Train on a generated table; return the figures of each step."""
    data = folder / "table.parquet"
    (folder / "scratch").mkdir()
    write_table(data, n_rows)
    figures = {}
    for name in STEPS:
        command = [sys.executable, "-m", "benchmarks.large", "--step", name]
        command += ["--folder", str(folder), "--threads", str(n_threads)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, check=True, start_new_session=True
        )
        figures[name] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure each number of rows, and print a line for each step."""
    parser = argparse.ArgumentParser(description="Training on large tables")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where the files are kept")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        data = str(args.folder / "table.parquet")
        run_step(args.step, args.folder, data, args.threads)
        return
    print(f"{'rows':>12} {'step':<20} {'s':>8} {'CPU s':>8} {'MiB':>8} {'x matrix':>8}")
    for n_rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            figures = measure(n_rows, Path(folder), args.threads)
        matrix = n_rows * COLUMNS * 8 / MIB
        for name, of in figures.items():
            print(
                f"{n_rows:>12,} {name:<20} {of['seconds']:>8} {of['cpu_seconds']:>8} "
                f"{of['mib']:>8,} {of['mib'] / matrix:>8.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
