"""`make bench-search`: the search beside its alternatives, and how its cost grows."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from benchmarks.search_methods import CASES, make_table
from benchmarks.tables import print_table
from lightgbm import LGBMClassifier
from matplotlib import pyplot
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid, StratifiedKFold

from training.search import Data, Problem, plan, run_shard

from support import ROOT

PLOT = ROOT / "docs" / "search_scaling.svg"
HEADER = (
    "method",
    "wall s",
    "times ours",
    "CPU / (wall x cores)",
    "peak memory growth",
    "CV score",
    "hold-out score",
)
N_ROWS = (10_000, 100_000, 1_000_000)
N_FEATURES = 28


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default="", help="compare only the cases whose name has this text"
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=1200,
        help="seconds after which a method is stopped",
    )
    parser.add_argument(
        "--no-scaling", action="store_true", help="compare, without measuring growth"
    )
    arguments = parser.parse_args()
    for name in CASES:
        if arguments.only in name:
            compare(name, arguments.max_seconds)
    if not arguments.no_scaling:
        scale()


def compare(name: str, max_seconds: float) -> None:
    """Print a table of one case, with a line for each method."""
    ours = run_method(name, "shared", 0, max_seconds)
    assert ours is not None, "the search itself was stopped"
    rows = [describe("shared", ours, ours["wall_seconds"])]
    for method in CASES[name].methods:
        if method != "shared":
            result = run_method(name, method, ours["wall_seconds"], max_seconds)
            if result is None:
                ratio = f"> {max_seconds / ours['wall_seconds']:.1f}"
                rows.append((method, f"> {max_seconds:.0f}", ratio, *"----"))
            else:
                rows.append(describe(method, result, ours["wall_seconds"]))
    print_table(f"{name} candidates, {CASES[name].n_folds} folds", HEADER, rows)


def run_method(
    name: str, method: str, seconds: float, max_seconds: float
) -> dict[str, float] | None:
    """Run a method in a process of its own; None if it took too long."""
    command = [sys.executable, "-m", "benchmarks.search_methods"]
    try:
        result = subprocess.run(
            [*command, name, method, str(seconds)],
            capture_output=True,
            text=True,
            check=True,
            timeout=max_seconds,
        )
    except subprocess.TimeoutExpired:
        return None
    measured: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return measured


def describe(
    method: str, result: Mapping[str, float], our_seconds: float
) -> tuple[str, ...]:
    """Return the cells of a method's line."""
    wall = result["wall_seconds"]
    return (
        method,
        f"{wall:.2f}",
        f"{wall / our_seconds:.1f}",
        f"{result['cpu_share']:.2f}",
        f"{result['growth_mib']:.0f} MiB, {result['growth']:.2f} X",
        f"{result['cv_score']:.5f}",
        f"{result['holdout_score']:.5f}",
    )


def scale() -> None:
    """Print and plot how the time of LightGBM's search grows; one quantity varies at a time."""
    rows = list(measure_growth())
    header = ("what changes", "value", "seconds", "seconds of the longest shard")
    print_table("LightGBM's search, 28 columns, 50 trees", header, rows)
    draw(rows)


def measure_growth() -> Iterator[tuple[str, int, float, float]]:
    """Yield the quantity that varies, its value, and the seconds of all shards and the longest."""
    middle = {"rows": 100_000, "candidates": 10, "folds": 3, "shards": 1}
    changes: Mapping[str, tuple[int, ...]] = {
        "rows": N_ROWS,
        "candidates": (1, 10, 50, 150),
        "folds": (2, 3, 5, 10),
        "shards": (1, 2, 3, 6),
    }
    for what, values in changes.items():
        for value in values:
            yield (what, value, *time_search(**{**middle, what: value}))


def time_search(
    rows: int, candidates: int, folds: int, shards: int
) -> tuple[float, float]:
    """Return the seconds of all shards, one after the other, and of the longest."""
    X, y = make_table(f"{rows}x{N_FEATURES}")
    prefixes = np.unique(np.linspace(50, 1, min(candidates, 50)).astype(int))
    grid = {
        "n_estimators": prefixes.tolist(),
        "num_leaves": [15, 31, 63][: max(1, candidates // 50)],
    }
    estimator: Any = LGBMClassifier(random_state=0, verbose=-1)
    problem = Problem(estimator, tuple(ParameterGrid(grid)), get_scorer("roc_auc"))
    cv = StratifiedKFold(folds, shuffle=True, random_state=0)
    data = Data(X, y, tuple(cv.split(X, y)))
    seconds = []
    for shard in plan(problem, data, shards):
        begin = time.perf_counter()
        run_shard(problem, data, shard, n_threads=os.cpu_count() or 1)
        seconds.append(time.perf_counter() - begin)
    return round(sum(seconds), 2), round(max(seconds), 2)


def draw(rows: list[tuple[str, int, float, float]]) -> None:
    """Plot the seconds, with a picture for each quantity that varies."""
    matplotlib.use("svg")
    # The same picture for the same figures: no random names, no date.
    matplotlib.rcParams["svg.hashsalt"] = "search"
    names = list(dict.fromkeys(name for name, *_ in rows))
    figure, axes = pyplot.subplots(1, len(names), figsize=(3 * len(names), 3))
    for name, axis in zip(names, axes, strict=True):
        points = [row[1:] for row in rows if row[0] == name]
        values, seconds, longest = zip(*points, strict=True)
        axis.plot(values, longest if name == "shards" else seconds, marker="o")
        axis.set_xlabel("shards (seconds of the longest)" if name == "shards" else name)
        axis.set_ylim(bottom=0)
        if name == "rows":
            axis.set(xscale="log", yscale="log")
    axes[0].set_ylabel("seconds")
    figure.tight_layout()
    figure.savefig(Path(PLOT), metadata={"Date": None})


if __name__ == "__main__":
    main()
