"""Loading a large table: seconds, and the most memory that the process ever had."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.tables import print_table

from support import ROOT

N_ROWS, N_FEATURES = 1_000_000, 28
PROGRAM = """
import resource, sys, time
from training.data.dataset import load_dataset
begin = time.perf_counter()
X = load_dataset(sys.argv[1], "target").X
seconds = time.perf_counter() - begin
gibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"{seconds:.1f} {gibibytes:.2f} {X.nbytes / 2**30:.2f}")
"""


def report(folder: Path) -> None:
    """Write a table of a million rows with a column of text, load it, and print time and memory."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, N_FEATURES - 1)).round(6)
    frame = pd.DataFrame(X, columns=[f"x{number}" for number in range(X.shape[1])])
    frame["city"] = rng.choice(["Oslo", "Rome", "Ulm"], N_ROWS)
    frame["target"] = (X[:, 0] > 0).astype(int)
    frame.to_csv(folder / "large.csv", index=False)
    frame.to_parquet(folder / "large.parquet")
    rows = [(name, *_load(folder / name)) for name in ("large.csv", "large.parquet")]
    print_table(
        f"Loading {N_ROWS:,} rows of {N_FEATURES - 1} numbers and a text",
        ("file", "s", "peak memory, GiB", "of it X, GiB"),
        rows,
    )


def _load(path: Path) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, str(path)]
    # PYTHONPATH is relative to this folder.
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    )
    return result.stdout.split()
