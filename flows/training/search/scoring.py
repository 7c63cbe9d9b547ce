"""Scores from predictions that are already computed, by scikit-learn's own scorers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import average_precision_score, roc_auc_score

from training.search.sklearn_internals import (
    find_score_function,
    is_library_scorer,
    score_classifier,
    unwrap_scorer,
)
from training.search.values import Data, Floats, Problem

# Metrics that depend on the order of the raw scores only.
RANKING_METRICS = (roc_auc_score, average_precision_score)


class PrecomputedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """A fitted classifier that knows its predictions for one set of rows.

    Its methods take rows, as scorers want it, and ignore them.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Class labels.
    probabilities : callable
        Returns probabilities in [0, 1], float64 of shape (n_test_rows, n_classes).
    raw_scores : callable
        Returns the classifier's `decision_function`: float64 of shape (n_test_rows,) for two
        classes, else (n_test_rows, n_classes).
    """

    def __init__(
        self,
        classes: NDArray[Any],
        probabilities: Callable[[], Floats],
        raw_scores: Callable[[], Floats],
    ) -> None:
        self.classes = classes
        self.probabilities = probabilities
        self.raw_scores = raw_scores
        self.classes_ = classes

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, X: Any) -> Floats:
        """Return the probabilities, shape (n_test_rows, n_classes)."""
        return self.probabilities()

    def decision_function(self, X: Any) -> Floats:
        """Return the raw scores, shape (n_test_rows,) or (n_test_rows, n_classes)."""
        return self.raw_scores()

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable labels, shape (n_test_rows,); the first of equals."""
        return np.asarray(self.classes_[self.probabilities().argmax(axis=1)])


def reads_predictions_only(scorer: Any) -> bool:
    """Say whether a scorer uses predictions, and nothing else of an estimator."""
    return all(map(is_library_scorer, _list_scorers(scorer)))


def reads_ranks_only(scorer: Any) -> bool:
    """Say whether a scorer depends on the order of the raw scores only."""
    return all(
        find_score_function(single) in RANKING_METRICS
        for single in _list_scorers(scorer)
    )


def _list_scorers(scorer: Any) -> list[Any]:
    unwrapped = unwrap_scorer(scorer)
    return list(unwrapped.values()) if isinstance(unwrapped, dict) else [unwrapped]


def score_split(
    problem: Problem, data: Data, split: int, classifier: PrecomputedClassifier
) -> Any:
    """Score predictions on the test rows of a split.

    Parameters
    ----------
    problem : Problem
        The question, with its scorer.
    data : Data
        Rows and splits.
    split : int
        Position of the split.
    classifier : PrecomputedClassifier
        Predictions for the test rows of the split.

    Returns
    -------
    float or dict of str to float
        Score, or score by metric; `problem.error_score` where the scorer fails.
    """
    test = data.splits[split][1]
    score_params = {
        name: np.asarray(values)[test] for name, values in data.score_params.items()
    }
    # Positions stand for the rows: the classifier ignores them.
    return score_classifier(
        classifier,
        test.reshape(-1, 1),
        np.asarray(data.y)[test],
        problem.scorer,
        score_params=score_params,
        error_score=problem.error_score,
    )


def rank(values: Floats, tie_breaker: Callable[[NDArray[np.int64]], Floats]) -> Floats:
    """Return the dense ranks of values; second values order those that are equal.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows,)
        The first order of the rows.
    tie_breaker : callable
        Gets the positions of the rows that share their value, int64 of shape (n_tied,). Returns
        their second values, float64 of shape (n_tied,).

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Whole numbers from 0 on.
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    tied = np.flatnonzero(counts[inverse] > 1)
    if not len(tied):
        return inverse.astype(np.float64)
    second = np.zeros(len(values))
    second[tied] = tie_breaker(tied)
    order = np.lexsort((second, inverse))
    pairs = np.column_stack((inverse, second))[order]
    steps = (np.diff(pairs, axis=0) != 0).any(axis=1)
    ranks = np.empty(len(values))
    ranks[order] = np.concatenate(([0], np.cumsum(steps)))
    return ranks
