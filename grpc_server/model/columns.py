"""From the columns that callers send to the numbers that an estimator takes."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from date_columns.forms import DATE, TIME
from date_columns.parts import PARTS, Part
from grpc_server.model.arrays import Matrix, add_up, look_up
from grpc_server.model.estimator import Estimator, Explanation
from grpc_server.model.kinds import Date
from grpc_server.model.schema import Feature, InputSchema


def read_columns(estimator: Estimator, schema: InputSchema) -> Estimator:
    """Let an estimator take the columns of a schema.

    Parameters
    ----------
    estimator : Estimator
        Takes numbers.
    schema : InputSchema
        The columns.

    Returns
    -------
    Estimator
        `estimator` itself if each column is one number; so other columns cost nothing.
    """
    if not any(feature.parts or feature.means for feature in schema.features):
        return estimator
    return ColumnEstimator(estimator, tuple(map(_list_parts, schema.features)))


def _list_parts(feature: Feature) -> tuple[Part, ...]:
    if feature.means:
        return tuple(partial(look_up, m.values, m.missing) for m in feature.means)
    kind = DATE if isinstance(feature.kind, Date) else TIME
    return tuple(PARTS[kind][name] for name in feature.parts)


class ColumnEstimator:
    """An estimator of rows with columns that become other numbers: dates, times, target means.

    Parameters
    ----------
    estimator : Estimator
        Takes the numbers, in the order of the columns.
    parts : tuple of tuple of callable, shape (n_features,)
        What becomes of each column's number; empty for a column that stays as it is.
    """

    def __init__(
        self, estimator: Estimator, parts: tuple[tuple[Part, ...], ...]
    ) -> None:
        self._estimator = estimator
        self._parts = parts

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        """Return the probability of each class; see `Estimator`."""
        return self._estimator.predict_probabilities(self._split(row))

    def predict_batch(self, X: Matrix) -> Matrix:
        """Return the probabilities, shape (n_rows, n_classes); see `Estimator`."""
        import numpy as np

        # The parts of one row and of a column are the same operations.
        columns = self._split(list(X.T))
        return self._estimator.predict_batch(np.column_stack(columns))

    def explain(self, row: Sequence[float], position: int) -> Explanation:
        """Explain the raw score of one class, column by column; see `Estimator`."""
        explanation = self._estimator.explain(self._split(row), position)
        contributions = list(self._add_up(explanation.contributions))
        return Explanation(explanation.score, explanation.base, contributions)

    def _split(self, row: Sequence[Any]) -> list[Any]:
        """Return the numbers of a row, or of each row given by columns."""
        numbers: list[Any] = []
        for value, parts in zip(row, self._parts, strict=True):
            if parts:
                numbers.extend(part(value) for part in parts)
            else:
                numbers.append(value)
        return numbers

    def _add_up(self, contributions: Sequence[float]) -> Iterator[float]:
        """Yield the sum of each column's contributions."""
        start = 0
        for parts in self._parts:
            end = start + (len(parts) or 1)
            yield add_up(contributions[start:end])
            start = end
