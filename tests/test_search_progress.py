"""What a user sees of a running search."""

from math import nan

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.metrics import get_scorer

from training.search import (
    Data,
    Meter,
    Method,
    Problem,
    Progress,
    SharedFit,
    SplitScore,
    Task,
    plan,
)

LONG = SharedFit(Method.BOOSTING, (0, 1), 6.0)
SHORT = SharedFit(Method.BOOSTING, (2,), 2.0)
SHARD = (Task(LONG, 0), Task(SHORT, 0))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make_score(candidate: int, score: float) -> SplitScore:
    return SplitScore(candidate, 0, score, 10, 0.0, 0.0, Method.BOOSTING)


def test_the_time_left_goes_by_the_cost_of_what_is_left() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(SHARD, seen.append, clock)

    clock.now += 6
    meter.count(make_score(0, 0.7))

    # 3 of 8 units of cost took 6 seconds.
    assert seen == [Progress(1, 3, 0.7, 1, 6.0, 10.0)]
    assert str(seen[0]) == (
        "1 of 3 scores, best so far 0.7 on 1 fold, 6 s elapsed, about 10 s left"
    )


def test_there_is_a_line_every_few_seconds_and_no_more() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(SHARD, seen.append, clock)

    for candidate in (0, 1, 2):
        clock.now += 3
        meter.count(make_score(candidate, 0.5 + candidate / 10))

    assert [(progress.n_done, progress.best_score) for progress in seen] == [(2, 0.6)]


def test_the_end_is_measured_and_fits_that_failed_are_not_the_best() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(SHARD, seen.append, clock)

    for candidate, score in ((0, nan), (1, 0.7), (2, nan)):
        meter.count(make_score(candidate, score))
    clock.now += 1

    assert meter.look() == Progress(3, 3, 0.7, 1, 1.0, 0.0)


@pytest.mark.parametrize("seconds_of_binning", [0.0, 5.0])
def test_after_a_tenth_the_time_left_is_right_within_a_factor_of_two(
    seconds_of_binning: float,
) -> None:
    """Trees cost time; a candidate that adds more of them counts for more."""
    candidates = tuple({"n_estimators": n} for n in (10, 20, 50, 100, 200, 400))
    estimator = LGBMClassifier(num_leaves=7, verbose=-1)
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.arange(60) % 2
    splits = ((np.arange(40), np.arange(40, 60)), (np.arange(20, 60), np.arange(20)))
    problem = Problem(estimator, candidates, get_scorer("roc_auc"))
    (shard,) = plan(problem, Data(X, y, splits))
    clock, total = Clock(), 2 * (seconds_of_binning + 400)
    meter = Meter(shard, list[Progress]().append, clock)

    for task in shard:
        clock.now += seconds_of_binning
        n_trees = 0
        for number in sorted(task.shared_fit.candidates):
            clock.now += candidates[number]["n_estimators"] - n_trees
            n_trees = candidates[number]["n_estimators"]
            score = SplitScore(number, task.split, 0.5, 20, 0, 0, Method.BOOSTING)
            meter.count(score)
            progress = meter.look()
            assert progress is not None
            left = total - progress.elapsed_seconds
            if progress.elapsed_seconds > total / 10 and left > 0:
                assert left / 2 <= progress.left_seconds <= left * 2


def test_the_time_left_is_no_more_than_the_search_has() -> None:
    clock, seen = Clock(), list[Progress]()
    meter = Meter(SHARD, seen.append, clock, max_seconds=8)

    for seconds, candidate in ((6, 0), (5, 1)):
        clock.now += seconds
        meter.count(make_score(candidate, 0.7))

    assert [progress.left_seconds for progress in seen] == [2.0, 0.0]


def test_a_shard_without_work_has_no_progress() -> None:
    assert Meter((), list[Progress]().append, Clock()).look() is None
