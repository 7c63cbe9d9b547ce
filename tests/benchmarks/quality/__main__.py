"""`make bench-quality`: our models beside those of other tools, on unseen rows of public tables."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from benchmarks.quality.report import Score, write_report
from benchmarks.quality.tasks import TASKS, Task, fetch_tables, load
from benchmarks.serve.peers import PeerAbsent, install
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from support import ROOT

PROGRAMS = Path(__file__).parent / "programs"
METHODS = {
    "ours": "ours.py",
    "LightGBM": "lightgbm_defaults.py",
    "HistGradientBoosting": "hist_gradient_boosting.py",
    "LogisticRegressionCV": "logistic_regression_cv.py",
    "Optuna TPE": "optuna_tpe.py",
    "FLAML": "flaml_automl.py",
    "AutoGluon": "autogluon_tabular.py",
}
TEST_FRACTION = 0.3
# A tool that keeps no budget is stopped at this multiple of it.
PATIENCE = 20


def main() -> None:
    """Run what the command line asks for, and report all results that there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cpu-seconds", type=float, default=30, help="budget of a search"
    )
    parser.add_argument("--splits", type=int, default=3, help="outer splits of a table")
    parser.add_argument(
        "--tables", default="", help="only those whose name has this text"
    )
    parser.add_argument("--methods", default="", help="only those, by commas")
    parser.add_argument(
        "--again", action="store_true", help="measure again what was measured before"
    )
    arguments = parser.parse_args()
    work = ROOT / "build" / "quality"
    archive = fetch_tables(work / "tables")
    methods = arguments.methods.split(",") if arguments.methods else list(METHODS)
    for method in methods:
        try:
            python = find_python(PROGRAMS / METHODS[method])
        except PeerAbsent as error:
            print(
                f"{method}: left out, it cannot be installed here: {error}", flush=True
            )
            continue
        for name, task in TASKS.items():
            if arguments.tables in name:
                frame = load(archive, task)
                for split in range(arguments.splits):
                    file = work / "results" / f"{method}-{name}-{split}.json"
                    if arguments.again or not file.exists():
                        measure(
                            method,
                            python,
                            (name, task, frame, split),
                            file,
                            arguments.cpu_seconds,
                        )
    write_report(list(read_scores(work / "results")), ROOT / "docs" / "quality.svg")


def find_python(program: Path) -> str:
    """Return the Python of a program: this one, or that of the environment that it asks for."""
    return install(program) if "# /// script" in program.read_text() else sys.executable


def measure(
    method: str,
    python: str,
    job: tuple[str, Task, pd.DataFrame, int],
    file: Path,
    cpu_seconds: float,
) -> None:
    """Run a program on a split of a table, and keep its scores in a file."""
    name, task, frame, split = job
    labels = frame[task.target].astype(str)
    train, test = train_test_split(
        frame, test_size=TEST_FRACTION, random_state=split, stratify=labels
    )
    file.parent.mkdir(exist_ok=True)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train.to_csv(folder / "train.csv", index=False)
        test.drop(columns=task.target).to_csv(folder / "test.csv", index=False)
        (folder / "task.json").write_text(json.dumps({"target": task.target}))
        command = [
            python,
            str(PROGRAMS / METHODS[method]),
            str(folder),
            str(cpu_seconds),
        ]
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            subprocess.run(
                command,
                check=True,
                capture_output=True,
                text=True,
                timeout=PATIENCE * cpu_seconds,
                env=environ,
            )
        except subprocess.CalledProcessError as error:
            print(
                f"{method} on {name}, split {split}: {error.stderr[-500:]}", flush=True
            )
            return
        except subprocess.TimeoutExpired:
            print(f"{method} on {name}, split {split}: stopped", flush=True)
            return
        answer = json.loads((folder / "answer.json").read_text())
    score = judge(labels[test.index], answer)
    file.write_text(
        json.dumps({"method": method, "table": name, "split": split, **score})
    )
    print(f"{method} on {name}, split {split}: {score}", flush=True)


def judge(labels: "pd.Series[str]", answer: dict[str, object]) -> dict[str, float]:
    """Score the answer of a program on the labels that it did not see."""
    classes = [str(one) for one in np.asarray(answer["classes"])]
    order = np.argsort(classes)
    probabilities = np.asarray(answer["probabilities"])[:, order]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = np.asarray(classes)[order]
    assert set(labels) <= set(names), "the program does not know all classes"
    codes = np.searchsorted(names, labels)
    ranking = probabilities[:, 1] if len(names) == 2 else probabilities
    return {
        "log_loss": float(log_loss(codes, probabilities, labels=range(len(names)))),
        "roc_auc": float(roc_auc_score(codes, ranking, multi_class="ovr")),
        "cpu_seconds": float(np.asarray(answer["cpu_seconds"])),
    }


def read_scores(folder: Path) -> Iterator[Score]:
    """Read all results."""
    for file in sorted(folder.glob("*.json")):
        yield Score(**json.loads(file.read_text()))


if __name__ == "__main__":
    main()
