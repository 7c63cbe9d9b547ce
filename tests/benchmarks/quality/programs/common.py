"""What the programs share: the task in their folder, a clock of CPU seconds, and the answer.

A program gets a folder and a budget. It reads train.csv, test.csv and task.json, and writes
answer.json: the classes, and their probabilities for each row of test.csv.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

FOLDS = 5


def cpu_seconds():
    """Return the CPU seconds of this process and of those that it waited for."""
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    use = (resource.getrusage(who) for who in both)
    return sum(one.ru_utime + one.ru_stime for one in use)


def let_clocks_show_cpu_seconds():
    """Let `time.time` go by CPU seconds, so that a budget means the same on a busy machine."""
    begin, used = time.time(), cpu_seconds()
    time.time = lambda: begin + cpu_seconds() - used


def read_target(folder):
    """Return the name of the label column."""
    return json.loads((folder / "task.json").read_text())["target"]


def run(method):
    """Call ``method(train, codes, test, seconds)`` and write its probabilities.

    Its tables have numbers, and text as pandas' categories. Codes are the positions of labels in
    their sorted order. The clock begins after the imports.
    """
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    target = read_target(folder)
    train, test = (pd.read_csv(folder / name) for name in ("train.csv", "test.csv"))
    codes, classes = pd.factorize(train.pop(target), sort=True)
    for name in train.columns:
        if not pd.api.types.is_numeric_dtype(train[name]):
            known = pd.CategoricalDtype(sorted(train[name].dropna().unique()))
            train[name], test[name] = train[name].astype(known), test[name].astype(
                known
            )
    begin = cpu_seconds()
    answer = method(train, codes, test, seconds)
    write(folder, [str(one) for one in classes], answer, cpu_seconds() - begin)


def write(folder, classes, probabilities, seconds):
    """Write the answer."""
    answer = {
        "classes": classes,
        "probabilities": np.asarray(probabilities).tolist(),
        "cpu_seconds": seconds,
    }
    (Path(folder) / "answer.json").write_text(json.dumps(answer))
