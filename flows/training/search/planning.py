"""The plan of a search: which candidates share a fit, and which shard holds it.

The plan is pure: the same problem, rows and number of shards give the same shards on every machine.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from training.search.recognition import Sharing, find_sharing
from training.search.target_means import split_off
from training.search.values import Data, Problem, Shard, SharedFit, Task


def plan(problem: Problem, data: Data, n_shards: int = 1) -> tuple[Shard, ...]:
    """Divide a search into shards of about equal cost.

    Parameters
    ----------
    problem : Problem
        The question.
    data : Data
        Rows and splits.
    n_shards : int, default=1
        Number of shards, 1 or more.

    Returns
    -------
    tuple of Shard
        `n_shards` shards; some are empty if there are fewer tasks. The tasks are in the order in
        which they should begin. They are ordered by split, so that few shards prepare the same
        split, and then by cost, the most expensive first.
    """
    fits = sorted(group(problem, data), key=lambda fit: -fit.cost)
    tasks = [Task(fit, split) for split in range(len(data.splits)) for fit in fits]
    return cut(tasks, n_shards)


def group(problem: Problem, data: Data) -> list[SharedFit]:
    """Group the candidates of a search into shared fits; each candidate is in one."""
    _, problem = split_off(problem)
    n_classes = 0 if data.y is None else len(np.unique(np.asarray(data.y)))
    sharings = [
        find_sharing(problem, data, number, n_classes)
        for number in range(len(problem.candidates))
    ]
    members: dict[tuple[str, ...], list[int]] = {}
    for number, sharing in enumerate(sharings):
        # A plain candidate is a fit of its own.
        own = (str(number),) if sharing.reason else ()
        members.setdefault((sharing.method, *sharing.key, *own), []).append(number)
    return [_make_fit(sharings, numbers) for numbers in members.values()]


def _make_fit(sharings: Sequence[Sharing], numbers: Sequence[int]) -> SharedFit:
    first = sharings[numbers[0]]
    costs = [sharings[n].cost for n in numbers]
    cost = combine(first.costs_add_up, costs)
    added = costs if first.costs_add_up else find_added(costs)
    shares = tuple(part / cost for part in added)
    return SharedFit(first.method, tuple(numbers), cost, first.reason, shares)


def find_added(costs: Sequence[float]) -> list[float]:
    """Return what each candidate adds to a fit that goes on from one to the next.

    Parameters
    ----------
    costs : sequence of float
        Cost of each candidate alone.

    Returns
    -------
    list of float
        Differences to the next cheaper candidate, in the order of `costs`. Candidates of equal
        cost share theirs.
    """
    levels = [0.0, *sorted(set(costs))]
    steps = {level: level - below for below, level in pairwise(levels)}
    return [steps[cost] / list(costs).count(cost) for cost in costs]


def combine(costs_add_up: bool, costs: Iterable[float]) -> float:
    """Return the cost of a fit: the sum of its candidates' costs, or the largest of them."""
    return sum(costs) if costs_add_up else max(costs)


def cut(tasks: Sequence[Task], n_shards: int) -> tuple[Shard, ...]:
    """Cut tasks into `n_shards` shards of about equal cost, and keep their order."""
    total = sum(task.shared_fit.cost for task in tasks)
    shards: list[list[Task]] = [[] for _ in range(n_shards)]
    spent = 0.0
    for task in tasks:
        # The middle of the task decides, so that rounding favours neither end.
        middle = (spent + task.shared_fit.cost / 2) / total
        shards[min(int(middle * n_shards), n_shards - 1)].append(task)
        spent += task.shared_fit.cost
    return tuple(map(tuple, shards))
