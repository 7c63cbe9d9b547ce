"""Values whose squares overflow: no scaler takes them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.errors import SearchError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# The sum of the squares of 1e6 rows is below the largest double, 1.8e308.
MAX_MAGNITUDE = 1e150


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
    values = X if isinstance(X, np.ndarray) else X.data
    is_beyond = np.abs(values) > MAX_MAGNITUDE
    if not is_beyond.any():
        return
    first = tuple(place[0] for place in np.nonzero(is_beyond))
    column = first[-1] if isinstance(X, np.ndarray) else X.indices[first[0]]
    raise SearchError(
        f"column {names[column]!r} has the value {float(values[first]):g}, whose square overflows, "
        "so logistic regression cannot scale it; leave the cell empty if it marks a missing value, "
        "or change the unit of the column"
    )
