"""What every fitted estimator offers to the server."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from grpc_server.model.rows import Rows


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

    def predict_batch(self, rows: Rows) -> Iterable[Sequence[float]]:
        """Return what `predict_probabilities` returns for each row.

        Parameters
        ----------
        rows : Rows
            n_rows rows.

        Returns
        -------
        iterable of sequence of float, n_rows
            Probabilities, bit by bit those of each row alone.
        """
        ...
