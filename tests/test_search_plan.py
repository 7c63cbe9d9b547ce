"""Shards hold each fit once, are of equal cost, and give the same rows in whatever way they run."""

import threading
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.datasets import make_classification
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid, StratifiedKFold

from training.search import (
    Data,
    Method,
    Problem,
    Row,
    Run,
    Task,
    find_left_out,
    merge,
    plan,
    run_shard,
)
from training.search.planning import cut

X, Y = make_classification(300, 8, n_informative=5, random_state=0)
SPLITS = tuple(StratifiedKFold(3, shuffle=True, random_state=0).split(X, Y))
DATA = Data(X, Y, SPLITS)


def make_problem(**grid: list[Any]) -> Problem:
    estimator = LGBMClassifier(n_jobs=1, verbose=-1, random_state=0)
    return Problem(estimator, tuple(ParameterGrid(grid)), get_scorer("roc_auc"))


PROBLEM = make_problem(
    n_estimators=[3, 6, 9], num_leaves=[4, 15, 31], max_depth=[2, -1], max_bin=[15, 255]
)


def without_times(rows: tuple[Row, ...]) -> list[tuple[int, int, float]]:
    return [(row.candidate, row.split, row.test_scores) for row in rows]


def test_prefixes_share_a_run_and_so_do_leaves_that_the_depth_has_no_room_for() -> None:
    problem = make_problem(n_estimators=[5, 10], num_leaves=[4, 15, 31], max_depth=[2])

    (shard,) = plan(problem, DATA)

    assert [(task.run.candidates, task.split) for task in shard] == [
        ((0, 1, 2, 3, 4, 5), split) for split in range(3)
    ]


@pytest.mark.parametrize("n_shards", [1, 2, 3, 5, 40])
def test_every_fit_is_in_one_shard(n_shards: int) -> None:
    (whole,) = plan(PROBLEM, DATA)

    shards = plan(PROBLEM, DATA, n_shards)

    assert len(shards) == n_shards
    assert [task for shard in shards for task in shard] == list(whole)


def test_shards_are_cut_by_split_first_and_begin_with_the_longest() -> None:
    shards = plan(PROBLEM, DATA, 3)

    for split, shard in enumerate(shards):
        costs = [task.run.cost for task in shard]
        assert {task.split for task in shard} == {split}
        assert costs == sorted(costs, reverse=True)


def test_shards_differ_in_cost_by_no_more_than_a_task() -> None:
    costs = [1.0, 5.0, 2.0, 2.0, 7.0, 1.0, 3.0, 3.0, 4.0]
    tasks = [
        Task(Run(Method.BOOSTING, (number,), cost), 0)
        for number, cost in enumerate(costs)
    ]

    shards = cut(tasks, 4)

    totals = [sum(task.run.cost for task in shard) for shard in shards]
    assert max(totals) - min(totals) <= max(costs)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_shards", [1, 4])
def test_rows_are_the_same_to_the_last_bit(n_threads: int, n_shards: int) -> None:
    expected = run_shard(PROBLEM, DATA, plan(PROBLEM, DATA)[0])

    rows = [
        row
        for shard in plan(PROBLEM, DATA, n_shards)
        for row in run_shard(PROBLEM, DATA, shard, n_threads=n_threads)
    ]

    ordered = tuple(sorted(rows, key=lambda row: (row.candidate, row.split)))
    assert without_times(ordered) == without_times(expected)


def test_both_layouts_of_histograms_give_the_same_bits() -> None:
    scores = []
    for layout in ("force_col_wise", "force_row_wise"):
        problem = make_problem(n_estimators=[30], num_leaves=[15], **{layout: [True]})
        rows = run_shard(problem, DATA, plan(problem, DATA)[0])
        scores.append(without_times(rows))

    assert scores[0] == scores[1]


def test_rows_are_emitted_one_at_a_time_as_they_come() -> None:
    emitted: list[Row] = []
    at_once = threading.Lock()

    def emit(row: Row) -> None:
        assert at_once.acquire(blocking=False)
        emitted.append(row)
        at_once.release()

    rows = run_shard(PROBLEM, DATA, plan(PROBLEM, DATA)[0], n_threads=4, emit=emit)

    assert len(emitted) == len(rows) == len(PROBLEM.candidates) * 3
    assert set(map(id, emitted)) == set(map(id, rows))


def test_a_search_that_is_stopped_keeps_the_candidates_that_are_finished() -> None:
    n_rows = 20
    emitted: list[Row] = []

    rows = run_shard(
        PROBLEM,
        DATA,
        plan(PROBLEM, DATA)[0],
        emit=emitted.append,
        should_stop=lambda: len(emitted) >= n_rows,
    )

    left_out = find_left_out(PROBLEM, 3, rows)
    with pytest.warns(UserWarning, match="non-finite"):
        scores = merge(PROBLEM, 3, rows)["mean_test_score"]
    assert np.flatnonzero(np.isnan(scores)).tolist() == left_out
    assert 0 < len(left_out) < len(PROBLEM.candidates)
    whole = run_shard(PROBLEM, DATA, plan(PROBLEM, DATA)[0])
    assert set(without_times(rows)) <= set(without_times(whole))


def test_merging_takes_rows_in_any_order_and_twice() -> None:
    rows = run_shard(PROBLEM, DATA, plan(PROBLEM, DATA)[0])

    once, twice = merge(PROBLEM, 3, rows), merge(PROBLEM, 3, rows[::-1] + rows)

    for key in once:
        assert list(once[key]) == list(twice[key])
