"""How one pass cuts the rows: pieces for the threads, and in them blocks that fit the cache."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from itertools import pairwise
from typing import Any

import numpy as np

# Numbers in a block of rows and in what is computed from it: a few megabytes stay in the cache.
BLOCK_NUMBERS = 2**18
MIN_BLOCK_ROWS = 256
# The number of pieces does not depend on the number of threads, so neither do the bits of a sum.
N_PIECES = 16


def map_pieces(
    n_rows: int,
    numbers_per_row: int,
    function: Callable[[Iterator[slice]], Any],
    pool: Executor,
) -> list[Any]:
    """Call a function for each piece of the rows.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    numbers_per_row : int
        Numbers that the function holds for each row; blocks have fewer rows if it is large.
    function : callable
        Gets an iterator of slices: the blocks of one piece.
    pool : Executor
        Runs the calls.

    Returns
    -------
    list
        The results, in the order of the rows.
    """
    size = max(MIN_BLOCK_ROWS, BLOCK_NUMBERS // max(numbers_per_row, 1))
    ends = np.linspace(0, n_rows, N_PIECES + 1).astype(int)
    pieces = [_cut(begin, end, size) for begin, end in pairwise(ends.tolist())]
    return list(pool.map(function, pieces))


def _cut(begin: int, end: int, size: int) -> Iterator[slice]:
    return (slice(a, min(a + size, end)) for a in range(begin, end, size))
