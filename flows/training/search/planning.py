"""The plan of a search: which candidates share a fit, and which shard fits them.

Pure: the same problem, rows and number of shards give the same shards, on every machine.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from training.search.recognition import describe
from training.search.values import Data, Problem, Run, Shard, Task


def plan(problem: Problem, data: Data, n_shards: int = 1) -> tuple[Shard, ...]:
    """Divide a search into shards of about equal cost.

    Parameters
    ----------
    problem : Problem
        What is asked.
    data : Data
        Rows and splits.
    n_shards : int, default=1
        Shards, 1 or more; some are empty if there are fewer tasks.

    Returns
    -------
    tuple of Shard
        Each with its tasks in the order in which they should begin: split by split, since what a
        split needs is then made in as few shards as can be, and the longest first.
    """
    runs = sorted(group(problem, data), key=lambda run: -run.cost)
    tasks = [Task(run, split) for split in range(len(data.splits)) for run in runs]
    return cut(tasks, n_shards)


def group(problem: Problem, data: Data) -> list[Run]:
    """Return the runs of a search: each candidate is in one."""
    members: dict[tuple[str, ...], list[int]] = {}
    n_classes = 0 if data.y is None else len(np.unique(np.asarray(data.y)))
    traits = [
        describe(problem, data, number, n_classes)
        for number in range(len(problem.candidates))
    ]
    for number, trait in enumerate(traits):
        # A plain candidate is a run of its own.
        own = (str(number),) if trait.reason else ()
        members.setdefault((trait.method, *trait.key, *own), []).append(number)
    return [
        Run(
            traits[numbers[0]].method,
            tuple(numbers),
            combine(traits[numbers[0]].adds_up, [traits[n].cost for n in numbers]),
            traits[numbers[0]].reason,
        )
        for numbers in members.values()
    ]


def combine(adds_up: bool, costs: Iterable[float]) -> float:
    """Return the cost of a run by its candidates': prefixes cost what the longest does."""
    return sum(costs) if adds_up else max(costs)


def cut(tasks: Sequence[Task], n_shards: int) -> tuple[Shard, ...]:
    """Cut a list of tasks into pieces of about equal cost, in their order."""
    total = sum(task.run.cost for task in tasks)
    shards: list[list[Task]] = [[] for _ in range(n_shards)]
    spent = 0.0
    for task in tasks:
        # By the middle of the task, so that rounding favours neither end.
        middle = (spent + task.run.cost / 2) / total
        shards[min(int(middle * n_shards), n_shards - 1)].append(task)
        spent += task.run.cost
    return tuple(map(tuple, shards))
