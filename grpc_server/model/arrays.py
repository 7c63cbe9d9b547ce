"""Types of arrays, and operations that give the same bits for one row and for a batch.

The functions import NumPy when they are called. A server without batches saves its 0.1 s and
20 MiB.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Sequence
from functools import reduce
from math import exp
from operator import add
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float64]"
Mask: TypeAlias = "NDArray[np.bool_]"
Positions: TypeAlias = "NDArray[np.int64]"
# Of shape (n_rows, n_columns), C-contiguous.
Matrix: TypeAlias = "NDArray[np.float64]"

# Largest difference between 1 and a sum of probabilities, which are rounded.
MAX_EXCESS = 1e-6
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


def add_down(terms: Matrix) -> Vector:
    """Add the rows of a matrix from first to last, with the bits of `add_up`.

    Along the first axis of a C-contiguous matrix, NumPy adds one whole row after the other. A
    matrix of one column is a vector to it, whose numbers it would add in pairs.

    Parameters
    ----------
    terms : ndarray of float64, shape (n_terms, n_rows), C-order
        The terms.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        The sums; 0 without terms.
    """
    import numpy as np

    if terms.shape[1] == 1:
        return np.array([add_up(terms[:, 0].tolist())])
    total: Vector = np.add.reduce(terms, axis=0, initial=0.0)
    return total


def exp_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `math.exp` of each value; `numpy.exp` differs in the last bit.

    Parameters
    ----------
    values : ndarray of float64, any shape
        The exponents: at most 0, or NaN.

    Returns
    -------
    ndarray of float64, shape of `values`
        The results.
    """
    import numpy as np

    if _complex_exp_agrees():
        return np.exp(values.astype(np.complex128)).real
    return _exp_one_by_one(values)


def _exp_one_by_one(values: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    flat = map(exp, values.ravel().tolist())
    return np.fromiter(flat, np.float64, values.size).reshape(values.shape)


@functools.cache
def _complex_exp_agrees() -> bool:
    """Return whether this machine's complex exponential gives the bits of the real one.

    NumPy has an `exp` of its own for real numbers, and calls the C library for complex ones. glibc
    and musl compute exp(x + 0i) as exp(x) * 1 for every x up to 709. That is seven times faster
    than one call for each number. Another library may not, so a few thousand numbers are tried once
    per process: two implementations of `exp` differ in about one number of twenty.
    """
    import numpy as np

    spread = -np.logspace(-20, 2.9, 8192)
    edges = [0.0, -0.0, -708.4, -744.0, -745.2, -1e308, -np.inf]
    tried = np.concatenate([spread, edges])
    with np.errstate(all="ignore"):
        found = np.exp(tried.astype(np.complex128)).real
    return found.tobytes() == _exp_one_by_one(tried).tobytes()


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

    # Many times faster than `sum` where rows are short.
    sums = np.einsum("ij->i", probabilities)
    is_one = np.abs(sums - 1.0) <= max_excess
    return None if is_one.all() else int(is_one.argmin())


def look_up(values: Sequence[float], missing: float, position: Any) -> Any:
    """Return the value at a position, or those at a column of positions.

    Parameters
    ----------
    values : sequence of float, shape (n_values,)
        Finite.
    missing : float
        Stands for the value where the position is NaN.
    position : float, or ndarray of float64, shape (n_rows,)
        Whole numbers in [0, n_values), or NaN.

    Returns
    -------
    float, or ndarray of float64, shape (n_rows,)
    """
    if isinstance(position, float):
        return missing if position != position else values[int(position)]
    import numpy as np

    is_gap = np.isnan(position)
    positions = np.where(is_gap, 0, position).astype(np.int64)
    return np.where(is_gap, missing, np.array(values)[positions])
