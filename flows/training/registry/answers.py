"""What a fitted model answers on rows, and how a scorer of scikit-learn judges the answers."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """The answers of one model.

    Parameters
    ----------
    codes : ndarray of int64, shape (n_rows,)
        Predicted codes of the labels.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Probability of each class, [0, 1].
    """

    codes: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def take(self, rows: NDArray[Any]) -> "Answers":
        """Return the answers on some of the rows."""
        return Answers(self.codes[rows], self.probabilities[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """A scorer of scikit-learn for answers that are there already.

    Parameters
    ----------
    scoring : str
        Name of the scorer.
    y : ndarray of int64, shape (n_rows,)
        True codes.
    answers : Answers
        The answers.
    """

    scoring: str
    y: NDArray[np.int64]
    answers: Answers
    _asked: set[str] = field(default_factory=set)

    def score(
        self, rows: NDArray[np.int64], weights: NDArray[np.float64] | None = None
    ) -> float:
        """Return the score of the answers on some rows; larger is better.

        Parameters
        ----------
        rows : ndarray of int64, shape (n_taken,)
            Positions of the rows; one may be there more than once.
        weights : ndarray of float64, shape (n_taken,), optional
            How much each counts.
        """
        options = {} if weights is None else {"sample_weight": weights}
        model = _Recorded(self.answers, self._asked)
        return float(get_scorer(self.scoring)(model, rows, self.y[rows], **options))

    def score_all(self) -> float:
        """Return the score on all rows."""
        return self.score(np.arange(len(self.y)))

    def counts_labels(self) -> bool:
        """Return whether the scorer reads no probabilities, and takes weights."""
        everything = np.arange(len(self.y))
        try:
            self.score(everything, np.ones(len(self.y)))
        except (TypeError, ValueError):
            return False
        return self._asked == {"predict"}


class _Recorded(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """A model whose rows are positions in its answers."""

    def __init__(self, answers: Answers, asked: set[str]) -> None:
        self.answers = answers
        self.asked = asked
        self.classes_ = np.arange(answers.probabilities.shape[1])

    def predict(self, X: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the predicted code of each row, int64, shape (n_rows,)."""
        self.asked.add("predict")
        return self.answers.codes[X]

    def predict_proba(self, X: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability of each class, float64, shape (n_rows, n_classes)."""
        self.asked.add("predict_proba")
        return self.answers.probabilities[X]

    def __sklearn_is_fitted__(self) -> bool:
        return True
