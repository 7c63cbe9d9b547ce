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
    if not _are_different(values):
        return ""
    low, high = int(values.min()), int(values.max())
    if len(values) >= MIN_DENSITY * (high - low + 1):
        return f"it numbers the rows: {len(values)} different whole numbers from {low} to {high}"
    if IDENTIFIER_NAME.fullmatch(name) or CAMEL_CASE_NAME.fullmatch(name):
        return (
            "it is an identifier: its name says so, and its "
            f"{len(values)} whole numbers are all different"
        )
    return ""


def note_row_names(name: str, values: NDArray[Any]) -> str:
    """Return a remark on a feature whose whole numbers are all different; empty for another."""
    if not _are_different(values):
        return ""
    return (
        f"column {name!r} has another whole number in each of {len(values)} rows and is used as a "
        'number; if it names the rows, set kind = "drop" in the file of --config schema'
    )


def _are_different(values: NDArray[Any]) -> bool:
    """Tell whether there are many numbers, all whole and all different."""
    if len(values) < MIN_ROWS or not np.isfinite(values).all():
        return False
    head = values[:N_FIRST]
    if len(np.unique(head)) < len(head):
        return False
    is_whole = values.dtype.kind in "iu" or bool((values == np.floor(values)).all())
    return is_whole and len(np.unique(values)) == len(values)
