"""Recognises whole numbers that name rows instead of describing them: row numbers and identifiers.

Such a column tells the label of a table that is sorted by it, and nothing about a row that comes
later. The module knows the numbers only; `training.data.inference` decides what becomes of them.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

# In a table of a few rows, a feature may differ in every row by chance.
MIN_ROWS = 100
# Most columns repeat a number among so many rows, so that the others need not be sorted.
N_FIRST = 1000
# Row numbers have gaps where rows were dropped. If a feature drew n numbers from 2n at random, the
# chance that no two were alike would be about exp(-n / 4).
MIN_DENSITY = 0.5
# Tables that were joined repeat some row numbers. A feature that draws n numbers from 2n repeats a
# fifth of them.
MIN_DIFFERENT = 0.95
# Such as id, customer_id, "Order ID", index, row_number, row names and "Unnamed: 0".
IDENTIFIER_NAME = re.compile(
    r"(.*[_\W])?(id|idx|index|key|uid|uuid|guid|row([_\W]?(id|no|nr|names?|numbers?))?)"
    r"|unnamed: \d+",
    re.IGNORECASE,
)
# Such as customerId and CustomerID.
CAMEL_CASE_NAME = re.compile(r".*[a-z](Id|ID|Idx|Index|Key)")


def find_row_names(name: str, values: NDArray[Any]) -> str:
    """Say why a column of numbers names the rows.

    Parameters
    ----------
    name : str
        Name of the column.
    values : ndarray of int or float, shape (n_values,)
        Its numbers, without gaps, in any order.

    Returns
    -------
    str
        The reason with its evidence; empty if the column does not name the rows.
    """
    n_different = _count_different(values)
    if n_different < MIN_DIFFERENT * len(values) or not n_different:
        return ""
    low, high = int(values.min()), int(values.max())
    if n_different >= MIN_DENSITY * (high - low + 1):
        return f"it numbers the rows: {n_different} different whole numbers from {low} to {high}"
    if n_different < len(values):
        return ""
    if IDENTIFIER_NAME.fullmatch(name) or CAMEL_CASE_NAME.fullmatch(name):
        return (
            "it is an identifier: its name says so, and its "
            f"{len(values)} whole numbers are all different"
        )
    return ""


def note_row_names(name: str, values: NDArray[Any]) -> str:
    """Return a remark on a feature that may name the rows: by its numbers, or by their order."""
    if len(values) >= MIN_ROWS and _count_different(values) == len(values):
        what = f"has another whole number in each of {len(values)} rows"
    elif _counts_up(values):
        what = (
            "counts up from row to row, and begins anew, as in tables that were joined,"
        )
    else:
        return ""
    return (
        f"column {name!r} {what} and is used as a number; if it names the rows, set kind = "
        '"drop" in the file of --config schema'
    )


def _counts_up(values: NDArray[Any]) -> bool:
    """Tell whether nearly all numbers are by 1 larger than the one before."""
    if len(values) < MIN_ROWS:
        return False
    return int((values[1:] - values[:-1] == 1).sum()) >= MIN_DIFFERENT * len(values)


def _count_different(values: NDArray[Any]) -> int:
    """Count the different numbers of a long column of whole ones; 0 for another column."""
    if len(values) < MIN_ROWS or not np.isfinite(values).all():
        return 0
    head = values[:N_FIRST]
    if len(np.unique(head)) < MIN_DIFFERENT * len(head):
        return 0
    is_whole = values.dtype.kind in "iu" or bool((values == np.floor(values)).all())
    return len(np.unique(values)) if is_whole else 0
