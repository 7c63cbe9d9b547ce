"""Shards hold each fit once, have equal cost, and give the same scores however they run."""

import threading
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid, StratifiedKFold

from training.search import (
    Data,
    Method,
    Problem,
    SharedFit,
    SplitScore,
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


def run_and_stop(
    problem: Problem, shard: tuple[Task, ...], n_scores: int, n_threads: int = 1
) -> list[SplitScore]:
    """Run a shard, and stop after some scores; return them in the order in which they came."""
    emitted: list[SplitScore] = []
    run_shard(
        problem,
        DATA,
        shard,
        n_threads=n_threads,
        emit=emitted.append,
        should_stop=lambda: len(emitted) >= n_scores,
    )
    return emitted


def without_times(scores: tuple[SplitScore, ...]) -> list[tuple[int, int, float]]:
    return [(score.candidate, score.split, score.test_scores) for score in scores]


def test_prefixes_share_a_fit_and_so_do_leaves_beyond_the_depth() -> None:
    problem = make_problem(n_estimators=[5, 10], num_leaves=[4, 15, 31], max_depth=[2])

    (shard,) = plan(problem, DATA)

    assert [(task.shared_fit.candidates, task.split) for task in shard] == [
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
        costs = [task.shared_fit.cost for task in shard]
        assert {task.split for task in shard} == {split}
        assert costs == sorted(costs, reverse=True)


def test_shards_differ_in_cost_by_no_more_than_a_task() -> None:
    costs = [1.0, 5.0, 2.0, 2.0, 7.0, 1.0, 3.0, 3.0, 4.0]
    tasks = [
        Task(SharedFit(Method.BOOSTING, (number,), cost), 0)
        for number, cost in enumerate(costs)
    ]

    shards = cut(tasks, 4)

    totals = [sum(task.shared_fit.cost for task in shard) for shard in shards]
    assert max(totals) - min(totals) <= max(costs)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_shards", [1, 4])
def test_scores_are_the_same_to_the_last_bit(n_threads: int, n_shards: int) -> None:
    expected = run_shard(PROBLEM, DATA, plan(PROBLEM, DATA)[0])

    scores = [
        score
        for shard in plan(PROBLEM, DATA, n_shards)
        for score in run_shard(PROBLEM, DATA, shard, n_threads=n_threads)
    ]

    ordered = tuple(sorted(scores, key=lambda score: (score.candidate, score.split)))
    assert without_times(ordered) == without_times(expected)


def test_both_layouts_of_histograms_give_the_same_bits() -> None:
    by_layout = []
    for layout in ("force_col_wise", "force_row_wise"):
        problem = make_problem(n_estimators=[30], num_leaves=[15], **{layout: [True]})
        scores = run_shard(problem, DATA, plan(problem, DATA)[0])
        by_layout.append(without_times(scores))

    assert by_layout[0] == by_layout[1]


def test_scores_are_emitted_one_at_a_time_as_they_come() -> None:
    emitted: list[SplitScore] = []
    at_once = threading.Lock()

    def emit(score: SplitScore) -> None:
        assert at_once.acquire(blocking=False)
        emitted.append(score)
        at_once.release()

    scores = run_shard(PROBLEM, DATA, plan(PROBLEM, DATA)[0], n_threads=4, emit=emit)

    assert len(emitted) == len(scores) == len(PROBLEM.candidates) * 3
    assert set(map(id, emitted)) == set(map(id, scores))


def test_a_search_that_is_stopped_keeps_the_candidates_that_are_finished() -> None:
    n_scores = 20
    emitted: list[SplitScore] = []

    scores = run_shard(
        PROBLEM,
        DATA,
        plan(PROBLEM, DATA)[0],
        emit=emitted.append,
        should_stop=lambda: len(emitted) >= n_scores,
    )

    left_out = find_left_out(PROBLEM, 3, scores)
    with pytest.warns(UserWarning, match="non-finite"):
        means = merge(PROBLEM, 3, scores)["mean_test_score"]
    assert np.flatnonzero(np.isnan(means)).tolist() == left_out
    assert 0 < len(left_out) < len(PROBLEM.candidates)
    whole = run_shard(PROBLEM, DATA, plan(PROBLEM, DATA)[0])
    assert set(without_times(scores)) <= set(without_times(whole))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_shards", [1, 2])
def test_a_budget_leaves_complete_candidates_the_shortest_first(
    n_threads: int, n_shards: int
) -> None:
    problem = make_problem(n_estimators=[5, 10, 20, 40], num_leaves=[7, 15])
    scores = [
        score
        # Time for two scores of each split; with 40 trees none would be complete.
        for shard in plan(problem, DATA, n_shards)
        for score in run_and_stop(
            problem, shard, 2 * len({task.split for task in shard}), n_threads
        )
    ]

    left_out = find_left_out(problem, 3, scores)

    done = [c for n, c in enumerate(problem.candidates) if n not in left_out]
    shortest = [{"n_estimators": n, "num_leaves": 7} for n in (5, 10)]
    # The last scores of two threads may come in any order.
    assert done == shortest if n_threads == 1 else shortest[:1] == done[:1]


def test_an_error_ends_the_turns_of_all_threads() -> None:
    begun: list[SplitScore] = []

    def fail(score: SplitScore) -> None:
        begun.append(score)
        raise RuntimeError("nobody listens")

    with pytest.raises(RuntimeError, match="nobody listens"):
        run_shard(
            PROBLEM,
            DATA,
            plan(PROBLEM, DATA)[0],
            n_threads=2,
            emit=fail,
            should_stop=lambda: False,
        )

    assert len(begun) <= 4


def test_a_budget_that_is_enough_changes_no_bit() -> None:
    (shard,) = plan(PROBLEM, DATA)
    expected = run_shard(PROBLEM, DATA, shard)

    actual = run_shard(PROBLEM, DATA, shard, n_threads=2, should_stop=lambda: False)

    assert without_times(actual) == without_times(expected)


def test_logistic_regressions_with_a_budget_are_complete_one_by_one() -> None:
    candidates = tuple({"C": C, "solver": "liblinear"} for C in (0.1, 1.0, 10.0))
    problem = Problem(LogisticRegression(), candidates, get_scorer("roc_auc"))

    emitted = run_and_stop(problem, plan(problem, DATA)[0], 4)

    places = [(score.candidate, score.split) for score in emitted]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_row_and_column_sampling_keep_their_prefixes() -> None:
    params: dict[str, list[Any]] = {
        "n_estimators": [3, 7, 20],
        "subsample": [0.8],
        "subsample_freq": [1],
        "colsample_bytree": [0.6],
        "feature_fraction_bynode": [0.7],
        "reg_lambda": [5.0],
    }
    problem = make_problem(**params)
    (shard,) = plan(problem, DATA)
    assert len({task.shared_fit for task in shard}) == 1

    together = run_shard(problem, DATA, shard)

    for number, candidate in enumerate(problem.candidates):
        alone = make_problem(**{name: [value] for name, value in candidate.items()})
        scores = run_shard(alone, DATA, plan(alone, DATA)[0])
        expected = [score.test_scores for score in scores]
        actual = [s.test_scores for s in together if s.candidate == number]
        assert actual == expected


def test_merging_takes_scores_in_any_order_and_twice() -> None:
    scores = run_shard(PROBLEM, DATA, plan(PROBLEM, DATA)[0])

    once = merge(PROBLEM, 3, scores)
    twice = merge(PROBLEM, 3, scores[::-1] + scores)

    for key in once:
        assert list(once[key]) == list(twice[key])
