"""Scores from answers that are at hand, by scikit-learn's own scorers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics._scorer import (
    _BaseScorer,
    _MultimetricScorer,
    _PassthroughScorer,
)
from sklearn.model_selection._validation import _score

from training.search.values import Data, Problem

Floats = NDArray[np.float64]


class Answers(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """A fitted classifier that knows its answers for one set of rows, and looks at no others.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Class labels.
    probabilities : callable
        Returns the probabilities, shape (n_rows, n_classes).
    decisions : callable
        Returns what the classifier's `decision_function` would.
    """

    def __init__(
        self,
        classes: NDArray[Any],
        probabilities: Callable[[], Floats],
        decisions: Callable[[], Floats],
    ) -> None:
        self.classes = classes
        self.probabilities = probabilities
        self.decisions = decisions
        self.classes_ = classes

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, X: Any) -> Floats:
        """Return the probabilities."""
        return self.probabilities()

    def decision_function(self, X: Any) -> Floats:
        """Return the decision values."""
        return self.decisions()

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable classes, the first of equals."""
        return np.asarray(self.classes_[self.probabilities().argmax(axis=1)])


def reads_answers_only(scorer: Any) -> bool:
    """Say whether a scorer asks for answers and nothing else of an estimator."""
    if isinstance(scorer, _MultimetricScorer):
        return all(map(reads_answers_only, scorer._scorers.values()))
    return isinstance(scorer, _BaseScorer | _PassthroughScorer)


def reads_ranks_only(scorer: Any) -> bool:
    """Say whether only the order of the decision values matters to a scorer."""
    if isinstance(scorer, _MultimetricScorer):
        return all(map(reads_ranks_only, scorer._scorers.values()))
    ranking = (roc_auc_score, average_precision_score)
    return isinstance(scorer, _BaseScorer) and scorer._score_func in ranking


def score(problem: Problem, data: Data, split: int, answers: Answers) -> Any:
    """Score answers on the test rows of a split, with scikit-learn's treatment of failures."""
    test = data.splits[split][1]
    params = {name: np.asarray(v)[test] for name, v in data.score_params.items()}
    # The numbers of the rows stand for the rows: nobody looks at them.
    rows = test.reshape(-1, 1)
    y = np.asarray(data.y)[test]
    return _score(answers, rows, y, problem.scorer, params, problem.error_score)


def rank(values: Floats, tie_breaker: Callable[[NDArray[np.int64]], Floats]) -> Floats:
    """Return the dense ranks of values, equal ones told apart by a second value.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows,)
        What orders the rows.
    tie_breaker : callable
        Returns second values for the row numbers that it is given: those of rows that have equals.
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
