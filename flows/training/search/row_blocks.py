"""Rows that LightGBM bins block by block, so that there is no copy of a split's rows.

LightGBM draws the rows that its bins are made from. A matrix and a `lightgbm.Sequence` draw the
same ones, if they get the same parameters. But LightGBM hands a Sequence only those parameters that
it lists for data sets. `seed`, which decides the draw, and `min_data_in_leaf`, which leaves columns
out, are not among them. `_Streamed` hands on all of them.
"""

from typing import Any

import numpy as np
from lightgbm import Dataset, Sequence
from numpy.typing import NDArray

from training.search.sklearn_internals import take_rows

# Bytes of rows from which they are binned in blocks; a copy of fewer is made sooner.
STREAMED_BYTES = 2**27
BLOCK_BYTES = 2**22


class _TakenRows(Sequence):
    """Some rows of a matrix.

    Parameters
    ----------
    X : ndarray of float64, shape (n_rows, n_features)
        All rows.
    rows : ndarray of int64, shape (n_taken,)
        Positions of those to bin.
    """

    def __init__(self, X: NDArray[np.float64], rows: NDArray[np.int64]) -> None:
        self._X, self._rows = X, rows
        self.batch_size = max(1, BLOCK_BYTES // (X.shape[1] * X.itemsize))

    def __getitem__(self, position: Any) -> NDArray[np.float64]:
        """Return a row, shape (n_features,), or rows, shape (n_taken, n_features)."""
        return np.asarray(self._X[self._rows[position]])

    def __len__(self) -> int:
        return len(self._rows)


class _Streamed(Dataset):
    """A data set that is binned by all of its parameters, as a matrix is."""

    def get_params(self) -> dict[str, Any]:
        """Return all parameters."""
        return dict(self.params or {})


def make_dataset(
    X: Any,
    rows: NDArray[np.int64],
    label: Any = None,
    *,
    streamed_bytes: int = STREAMED_BYTES,
    **options: Any,
) -> Any:
    """Bin rows for LightGBM.

    Parameters
    ----------
    X : ndarray, csr_matrix or DataFrame, shape (n_rows, n_features)
        All rows.
    rows : ndarray of int64, shape (n_taken,)
        Positions of the rows to bin.
    label : array-like of shape (n_taken,), optional
        Their labels.
    streamed_bytes : int
        Bytes of the rows of an array from which they are binned in blocks. The bins are the same.
    **options : dict
        Further arguments of `lightgbm.Dataset`.

    Returns
    -------
    lightgbm.Dataset
        Constructed.
    """
    is_doubles = isinstance(X, np.ndarray) and X.dtype == np.float64
    if is_doubles and len(rows) * X.shape[1] * X.itemsize >= streamed_bytes:
        return _Streamed(_TakenRows(X, rows), label, **options).construct()
    return Dataset(take_rows(X, rows), label, **options).construct()
