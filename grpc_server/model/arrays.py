"""Names for the arrays of batches, and what has to be the same bits for a row and for many.

Functions import NumPy themselves: a server that never gets a batch does without its 0.1 s and
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
    """Add numbers, or columns of them, from the first to the last.

    So every Python, a row alone and a batch come to the same bits: `sum`, the fastest, compensates
    for rounding from Python 3.12 on, and NumPy's adds in pairs.
    """
    return reduce(add, terms, 0.0) if _SUM_COMPENSATES else sum(terms, 0.0)


def exp_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `math.exp` of each value, from which `numpy.exp` differs in the last bit."""
    import numpy as np

    flat = map(exp, values.ravel().tolist())
    return np.fromiter(flat, np.float64, values.size).reshape(values.shape)


def find_unlike_one(probabilities: Matrix, max_excess: float) -> int | None:
    """Return the first row whose probabilities do not sum to 1, None if all do.

    Parameters
    ----------
    probabilities : array of double, shape (n_rows, n_classes)
        NaN sums to nothing.
    max_excess : float
        By how much a sum may miss 1.
    """
    import numpy as np

    is_one = np.abs(probabilities.sum(axis=1) - 1.0) <= max_excess
    return None if is_one.all() else int(is_one.argmin())
