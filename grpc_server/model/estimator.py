"""The interface of fitted estimators."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grpc_server.model.arrays import Matrix


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each feature contributed to the raw score of one class.

    Parameters
    ----------
    score : float
        The raw score: the sum of `base` and all contributions.
    base : float
        The raw score without any feature.
    contributions : sequence of float
        n_features values, in the order of the schema.
    """

    score: float
    base: float
    contributions: Sequence[float]


class Estimator(Protocol):
    """A fitted estimator; safe to use from several threads at once."""

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        """Return the probability of each class.

        Parameters
        ----------
        row : sequence of float
            n_features values, NaN where missing.

        Returns
        -------
        sequence of float
            n_classes values in [0, 1] that sum to 1.
        """
        ...

    def predict_batch(self, X: Matrix) -> Matrix:
        """Return the probabilities of each row.

        Parameters
        ----------
        X : ndarray of float64, shape (n_rows, n_features), C-order
            One row or more, NaN where missing.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_classes)
            Probabilities, bit for bit equal to those of `predict_probabilities`.
        """
        ...

    def explain(self, row: Sequence[float], position: int) -> Explanation:
        """Explain the raw score of one class.

        Parameters
        ----------
        row : sequence of float
            n_features values, NaN where missing.
        position : int
            Position of the class. With two classes, the second one is always explained.

        Returns
        -------
        Explanation
            The raw score and its parts.
        """
        ...


class ScoringEstimator(Estimator, Protocol):
    """An estimator that can be calibrated: it returns raw scores."""

    def outputs(self, row: Sequence[float]) -> Sequence[float]:
        """Return the raw scores of a row.

        Parameters
        ----------
        row : sequence of float
            n_features values, NaN where missing.

        Returns
        -------
        sequence of float
            One raw score for two classes, that of the second; otherwise one per class.
        """
        ...

    def batch_outputs(self, X: Matrix) -> Matrix:
        """Return the raw scores of each row.

        Parameters
        ----------
        X : ndarray of float64, shape (n_rows, n_features), C-order
            One row or more, NaN where missing.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_outputs)
            Raw scores; n_outputs is 1 for two classes, otherwise n_classes.
        """
        ...
