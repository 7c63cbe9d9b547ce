"""From the scores of all shards to `cv_results_` and the best candidate."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from training.search.pipeline_steps import steps_of
from training.search.recognition import make_estimator
from training.search.sklearn_internals import (
    format_results,
    report_failures,
    unwrap_scorer,
)
from training.search.values import Floats, Method, Problem, SplitScore

# Mean scores of joint logistic regressions that differ by less are equal: what is left depends on
# the solver.
TIE = 1e-6


def merge(
    problem: Problem, n_splits: int, split_scores: Iterable[SplitScore]
) -> dict[str, Any]:
    """Return `cv_results_` for the scores of all shards.

    Parameters
    ----------
    problem : Problem
        The question.
    n_splits : int
        Number of splits.
    split_scores : iterable of SplitScore
        Scores in any order; of several for the same candidate and split, the last one counts.

    Returns
    -------
    dict of str to array-like of shape (n_candidates,)
        scikit-learn's `cv_results_`. A missing score is nan, and so is the candidate's mean.

    Raises
    ------
    ValueError
        If every fit failed, as in GridSearchCV.
    """
    by_place = {(score.candidate, score.split): score for score in split_scores}
    places = [
        (candidate, split)
        for candidate in range(len(problem.candidates))
        for split in range(n_splits)
    ]
    missing = _make_missing(problem)
    results = [
        _as_result(by_place[place]) if place in by_place else missing
        for place in places
    ]
    report_failures(results, problem.error_score)
    return format_results(problem.candidates, n_splits, results)


def find_left_out(
    problem: Problem, n_splits: int, split_scores: Iterable[SplitScore]
) -> list[int]:
    """Return the positions of the candidates that lack a score for a split, in ascending order."""
    done = {(score.candidate, score.split) for score in split_scores}
    return [
        candidate
        for candidate in range(len(problem.candidates))
        if any((candidate, split) not in done for split in range(n_splits))
    ]


def break_ties(
    problem: Problem, split_scores: Iterable[SplitScore], scores: Floats, best: int
) -> int:
    """Return the best candidate; among joint logistic regressions that tie, the smallest C wins.

    Parameters
    ----------
    problem : Problem
        The question.
    split_scores : iterable of SplitScore
        Scores of all shards.
    scores : ndarray of float64, shape (n_candidates,)
        Mean scores.
    best : int
        Position of the first candidate with the highest mean score.

    Returns
    -------
    int
        `best`, unless the joint solver fitted it. Then the smallest C among the joint candidates
        whose mean score is at most `TIE` below the best; among equal C the first.
    """
    joint = {score.candidate for score in split_scores if score.method is Method.JOINT}
    if best not in joint:
        return best
    tied = [number for number in joint if scores[number] >= scores[best] - TIE]
    return min(
        tied,
        key=lambda number: (steps_of(make_estimator(problem, number))[-1].C, number),
    )


def _as_result(score: SplitScore) -> dict[str, Any]:
    return {
        "test_scores": score.test_scores,
        "n_test_samples": score.n_test_samples,
        "fit_time": score.fit_time,
        "score_time": score.score_time,
        "fit_error": score.fit_error,
    }


def _make_missing(problem: Problem) -> dict[str, Any]:
    scorers = unwrap_scorer(problem.scorer)
    is_several = isinstance(scorers, dict)
    scores: Any = dict.fromkeys(scorers, np.nan) if is_several else np.nan
    times = {"fit_time": np.nan, "score_time": np.nan}
    return {"test_scores": scores, "n_test_samples": 0, "fit_error": None, **times}
