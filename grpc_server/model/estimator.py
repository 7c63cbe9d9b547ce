"""What every fitted estimator offers to the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from grpc_server.model.arrays import Matrix


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each feature contributed to the score of one class.

    Parameters
    ----------
    score : float
        The number before the map to probabilities: `base` and all contributions added up.
    base : float
        The score without any feature.
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
        """Return what `predict_probabilities` returns for each row.

        Parameters
        ----------
        X : array of double, shape (n_rows, n_features)
            One row or more, NaN where missing.

        Returns
        -------
        array of double, shape (n_rows, n_classes)
            Probabilities, bit by bit those of each row alone.
        """
        ...

    def explain(self, row: Sequence[float], position: int) -> Explanation:
        """Take the score of one class apart.

        Parameters
        ----------
        row : sequence of float
            n_features values, NaN where missing.
        position : int
            Position of the class. With two classes the score is that of the second in any case.
        """
        ...


class ScoringEstimator(Estimator, Protocol):
    """An estimator that can be calibrated: it says what its probabilities are to be made of."""

    def outputs(self, row: Sequence[float]) -> Sequence[float]:
        """Return the variables of the calibration: one for two classes, else one per class."""
        ...

    def batch_outputs(self, X: Matrix) -> Matrix:
        """Return what `outputs` returns for each row."""
        ...
