"""Types of arrays, and operations that give the same bits for one row and for a batch.

The functions import NumPy when they are called. A server without batches saves its 0.1 s and
20 MiB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import reduce
from math import exp
from operator import add
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float64]"
Mask: TypeAlias = "NDArray[np.bool_]"
# Of shape (n_rows, n_columns), C-contiguous.
Matrix: TypeAlias = "NDArray[np.float64]"


_SUM_COMPENSATES = sys.version_info >= (3, 12)


def add_up(terms: Iterable[Any]) -> Any:
    """Add numbers, or columns of numbers, from first to last.

    The fixed order gives the same bits for every Python, for one row and for a batch. `sum` is
    fastest, but compensates for rounding from Python 3.12 on. NumPy's `sum` adds in pairs.

    Parameters
    ----------
    terms : iterable of float, or of ndarray of float64, shape (n_rows,)
        The terms.

    Returns
    -------
    float, or ndarray of float64, shape (n_rows,)
        The sum; 0 without terms.
    """
    return reduce(add, terms, 0.0) if _SUM_COMPENSATES else sum(terms, 0.0)


def exp_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `math.exp` of each value; `numpy.exp` differs in the last bit.

    Parameters
    ----------
    values : ndarray of float64, any shape
        The exponents.

    Returns
    -------
    ndarray of float64, shape of `values`
        The results.
    """
    import numpy as np

    flat = map(exp, values.ravel().tolist())
    return np.fromiter(flat, np.float64, values.size).reshape(values.shape)


def find_unlike_one(probabilities: Matrix, max_excess: float) -> int | None:
    """Find the first row whose probabilities do not sum to 1.

    Parameters
    ----------
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Probabilities. A row with NaN does not sum to 1.
    max_excess : float
        Largest allowed difference between a sum and 1.

    Returns
    -------
    int or None
        Number of the row, from 0; None if all rows sum to 1.
    """
    import numpy as np

    is_one = np.abs(probabilities.sum(axis=1) - 1.0) <= max_excess
    return None if is_one.all() else int(is_one.argmin())
