"""From rows to `cv_results_`, in scikit-learn's own words."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures

from training.search.preparation import steps_of
from training.search.recognition import set_up
from training.search.scoring import Floats
from training.search.values import Method, Problem, Row

TIE = 1e-6


def merge(problem: Problem, n_splits: int, rows: Iterable[Row]) -> dict[str, Any]:
    """Return `cv_results_` for the rows of all shards.

    Parameters
    ----------
    problem : Problem
        What was asked.
    n_splits : int
        Splits.
    rows : iterable of Row
        In any order. A candidate without a row for each split has nan for its score.

    Raises
    ------
    ValueError
        If every fit failed, as GridSearchCV does.
    """
    by_place = {(row.candidate, row.split): row for row in rows}
    places = [
        (candidate, split)
        for candidate in range(len(problem.candidates))
        for split in range(n_splits)
    ]
    missing = _make_missing(problem)
    out = [
        _as_output(by_place[place]) if place in by_place else missing
        for place in places
    ]
    _warn_or_raise_about_fit_failures(out, problem.error_score)
    # GridSearchCV's own way to lay out its results; it reads nothing of the search but this.
    layout = GridSearchCV(None, {})
    results: dict[str, Any] = layout._format_results(
        list(problem.candidates), n_splits, out
    )
    return results


def find_left_out(problem: Problem, n_splits: int, rows: Iterable[Row]) -> list[int]:
    """Return the candidates that lack a row for a split."""
    done = {(row.candidate, row.split) for row in rows}
    return [
        candidate
        for candidate in range(len(problem.candidates))
        if any((candidate, split) not in done for split in range(n_splits))
    ]


def break_ties(problem: Problem, rows: Iterable[Row], scores: Floats, best: int) -> int:
    """Return the best candidate, of logistic regressions that tie the one with the smallest C.

    Parameters
    ----------
    problem : Problem
        What was asked.
    rows : iterable of Row
        Rows of all shards.
    scores : ndarray of shape (n_candidates,)
        Mean scores.
    best : int
        Candidate with the best score.

    Notes
    -----
    Scores of models at their optimum are known up to `TIE`: what differs by less depends on the
    solver. The smallest C is the simplest model.
    """
    joint = {row.candidate for row in rows if row.method is Method.JOINT}
    if best not in joint:
        return best
    tied = [number for number in joint if scores[number] >= scores[best] - TIE]
    return min(
        tied, key=lambda number: (steps_of(set_up(problem, number))[-1].C, number)
    )


def _as_output(row: Row) -> dict[str, Any]:
    return {
        "test_scores": row.test_scores,
        "n_test_samples": row.n_test_samples,
        "fit_time": row.fit_time,
        "score_time": row.score_time,
        "fit_error": row.fit_error,
    }


def _make_missing(problem: Problem) -> dict[str, Any]:
    scorers = getattr(problem.scorer, "_scorers", None)
    scores: Any = dict.fromkeys(scorers, np.nan) if scorers else np.nan
    times = {"fit_time": np.nan, "score_time": np.nan}
    return {"test_scores": scores, "n_test_samples": 0, "fit_error": None, **times}
