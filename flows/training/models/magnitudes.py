"""Values whose squares overflow: no scaler takes them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.errors import SearchError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# The sum of the squares of 1e6 rows is below the largest double, 1.8e308.
MAX_MAGNITUDE = 1e150
BLOCK_ROWS = 2**16


def check_magnitudes(
    X: "NDArray[np.float64] | csr_matrix", names: Sequence[str]
) -> None:
    """Refuse values whose squares a standard deviation cannot hold.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        Features; NaN where missing.
    names : sequence of str
        Name of each column.

    Raises
    ------
    SearchError
        If a value is beyond `MAX_MAGNITUDE` in magnitude. It names the column and the value.
    """
    values: Any = X if isinstance(X, np.ndarray) else X.data
    # Magnitudes of all values at once would be a copy of the table.
    for begin in range(0, len(values), BLOCK_ROWS):
        block = values[begin : begin + BLOCK_ROWS]
        is_beyond = np.abs(block) > MAX_MAGNITUDE
        if is_beyond.any():
            row, *place = (int(axis[0]) for axis in np.nonzero(is_beyond))
            column = place[0] if isinstance(X, np.ndarray) else X.indices[begin + row]
            raise _refuse(names[column], float(block[(row, *place)]))


def _refuse(name: str, value: float) -> SearchError:
    return SearchError(
        f"column {name!r} has the value {value:g}, whose square overflows, so logistic regression "
        "cannot scale it; leave the cell empty if it marks a missing value, or change the unit of "
        "the column"
    )


def cut_magnitudes(
    X: "NDArray[np.float64] | csr_matrix",
) -> "NDArray[np.float64] | csr_matrix":
    """Return features, shape (n_rows, n_features), with magnitudes of `MAX_MAGNITUDE` at most."""
    if isinstance(X, np.ndarray):
        return np.clip(X, -MAX_MAGNITUDE, MAX_MAGNITUDE)
    cut = X.copy()
    np.clip(cut.data, -MAX_MAGNITUDE, MAX_MAGNITUDE, out=cut.data)
    return cut
