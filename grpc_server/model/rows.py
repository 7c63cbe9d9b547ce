"""Many rows as one flat array, which is what a C library takes."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of an estimator's input.

    Parameters
    ----------
    values : array of double, n_rows * n_features
        Row after row; finite, or NaN where missing.
    n_features : int
        Length of a row. One or more.
    """

    values: "array[float]"
    n_features: int

    def __len__(self) -> int:
        return len(self.values) // self.n_features

    def __iter__(self) -> Iterator[Sequence[float]]:
        for start in range(0, len(self.values), self.n_features):
            yield self.values[start : start + self.n_features]
