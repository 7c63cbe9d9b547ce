"""`make bench-score`: offline scores beside the model in this process, on all cores.

Both ways are measured in turns, because other programs may share the machine.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.tables import print_table

from grpc_server.model import load_model
from grpc_server.score.options import count_processors
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.artifact.boosted_trees import encode_booster

from support import artifact_without_estimator, write_artifact

N_FEATURES, N_TREES, GROUP_ROWS = 28, 100, 200_000
# Prints the processor's time and the most memory of the scorer, which is one process, after its own
# lines. `ru_maxrss` would be that of this program, if it is larger.
PROGRAM = """
import re, sys, time
from pathlib import Path
from grpc_server.score.__main__ import main
begin = time.process_time()
code = main(sys.argv[1:])
print(time.process_time() - begin)
print(re.search("VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


def make_models(folder: Path) -> dict[str, Path]:
    """Make a model of each family; return their folders."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100_000, N_FEATURES))
    y = X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=len(X)) > 0
    parameters = {"objective": "binary", "num_leaves": 31, "verbose": -1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(X, y), N_TREES)
    trees = artifact_without_estimator(N_FEATURES, 2)
    trees.boosted_trees.CopyFrom(encode_booster(booster))
    _add_golden(trees, float(booster.predict(np.zeros((1, N_FEATURES)))[0]))
    linear = artifact_without_estimator(N_FEATURES, 2)
    linear.logistic_regression.coefficients.extend(rng.normal(size=N_FEATURES))
    linear.logistic_regression.intercepts.append(0.0)
    _add_golden(linear, 0.5)
    return {
        f"LightGBM, {N_TREES} trees": write_artifact(folder / "trees", trees),
        "logistic regression": write_artifact(folder / "linear", linear),
    }


def _add_golden(artifact: ModelArtifact, probability: float) -> None:
    artifact.golden_examples.add(
        features=[0.0] * N_FEATURES,
        probabilities=[1.0 - probability, probability],
        label=str(int(probability > 0.5)),
    )


def write_rows(path: Path, n_rows: int) -> None:
    """Write rows of random numbers, in row groups."""
    rng = np.random.default_rng(1)
    names = [f"f{number}" for number in range(N_FEATURES)]
    schema = pa.schema([(name, pa.float64()) for name in names])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, n_rows, GROUP_ROWS):
            n_group = min(GROUP_ROWS, n_rows - start)
            columns = [rng.normal(size=n_group) for _ in names]
            writer.write_table(pa.table(columns, schema=schema))


def time_in_process(model: Path, source: Path, n_rows: int) -> tuple[float, float]:
    """Return rows a second, and processor seconds for a million, of the estimator on all cores.

    Its rows are in memory.
    """
    estimator = load_model(model).estimator
    first = next(pq.ParquetFile(source).iter_batches(GROUP_ROWS))
    X = np.column_stack([column.to_numpy() for column in first.columns])
    blocks = [X[start : start + 4096] for start in range(0, len(X), 4096)]
    n_rounds = max(1, min(n_rows, 2_000_000) // len(X))
    with ThreadPoolExecutor(count_processors()) as pool:
        begin, cpu_begin = time.perf_counter(), time.process_time()
        for _ in pool.map(estimator.predict_batch, blocks * n_rounds):
            pass
        n_done = n_rounds * len(X)
        cpu = (time.process_time() - cpu_begin) / n_done * 1e6
        return n_done / (time.perf_counter() - begin), cpu


def time_reading(source: Path, n_rows: int) -> tuple[float, float]:
    """Return rows a second, and processor seconds for a million, of reading alone."""
    begin, cpu_begin = time.perf_counter(), time.process_time()
    for _ in pq.ParquetFile(source, buffer_size=1024**2).iter_batches(16_384):
        pass
    cpu = (time.process_time() - cpu_begin) / n_rows * 1e6
    return n_rows / (time.perf_counter() - begin), cpu


def time_program(model: Path, source: Path, output: Path) -> tuple[float, float, float]:
    """Return rows a second, processor seconds for a million rows, and the most memory in MiB."""
    shutil.rmtree(output, ignore_errors=True)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model), str(source), str(output)],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, seconds, kibibytes = result.stdout.splitlines()
    (told,) = [each for each in map(json.loads, lines) if each["event"] == "scored"]
    cpu = float(seconds) / told["rows"] * 1e6
    return float(told["rows_per_second"]), cpu, int(kibibytes) / 1024


def measure(
    name: str, model: Path, source: Path, n_rows: int, n_turns: int
) -> list[str]:
    """Measure all ways in turns; return a line of the table."""
    output = source.parent / "out"
    turns = []
    for _ in range(n_turns):
        alone, cpu_alone = time_in_process(model, source, n_rows)
        reading, cpu_reading = time_reading(source, n_rows)
        rate, cpu, memory = time_program(model, source, output)
        of_cpu = (cpu_alone / cpu, cpu_reading / cpu)
        turns.append((alone, reading, rate, rate / alone, *of_cpu, memory))
    *rates, of_alone, of_cpu_alone, of_cpu_reading, _ = map(
        median, zip(*turns, strict=True)
    )
    shown = [f"{value / 1e3:,.0f}k" for value in rates]
    shares = [f"{value:.2f}" for value in (of_alone, of_cpu_alone, of_cpu_reading)]
    return [name, *shown, *shares, f"{max(turn[-1] for turn in turns):,.0f}"]


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="make bench-score ARGS=...")
    parser.add_argument("--rows", type=int, default=2_000_000, help="such as 20000000")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-score-") as folder:
        source = Path(folder) / "rows.parquet"
        write_rows(source, given.rows)
        rows = [
            measure(name, model, source, given.rows, given.turns)
            for name, model in make_models(Path(folder)).items()
        ]
    print_table(
        f"Scoring {given.rows:,} rows of {N_FEATURES} numbers, rows a second",
        (
            "model",
            "in process",
            "reading",
            "score",
            "score / in process",
            "processor time: in process / score",
            "reading / score",
            "MiB",
        ),
        rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
