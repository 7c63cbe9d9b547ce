"""What every fitted estimator offers to the server."""

from collections.abc import Sequence
from typing import Protocol


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
