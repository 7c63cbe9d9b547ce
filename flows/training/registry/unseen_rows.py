"""Takes the hold-out rows on which two scored twins compare: those that neither has seen."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from training.data.row_digests import Words, find_seen
from training.data.rows import Rows
from training.data.schema import Schema
from training.registry.comparison import NotComparable

# A comparison needs so many rows, and so many of each class. A hold-out may be smaller as a whole;
# then half of it is enough.
MIN_ROWS, MIN_ROWS_OF_CLASS = 100, 10
REMEDY = "use the table and the --seed of the champion, or bring new rows"


def take_unseen(holdout: Rows, schema: Schema, learned: Iterable[Words]) -> Rows:
    """Take the rows that no model has learned from.

    Parameters
    ----------
    holdout : Rows
        Rows of the hold-out.
    schema : Schema
        Columns and classes of the rows.
    learned : iterable of ndarray of uint64
        Digests of what the models have learned from, see `training.data.row_digests`.

    Returns
    -------
    Rows
        The other rows; the hold-out itself if there are no such rows.

    Raises
    ------
    NotComparable
        If fewer are left than `MIN_ROWS` or `MIN_ROWS_OF_CLASS`, and fewer than half.
    """
    seen = find_seen(holdout, schema, learned)
    if not seen.any():
        return holdout
    _check_enough(holdout.y, ~seen, schema)
    rows = np.flatnonzero(~seen)
    return Rows(holdout.X[rows], holdout.y[rows])


def _check_enough(
    y: NDArray[np.int64], is_unseen: NDArray[np.bool_], schema: Schema
) -> None:
    found, wanted = int(is_unseen.sum()), _count_wanted(len(y), MIN_ROWS)
    told = f"{found} of the {len(y)} hold-out rows are new to both models"
    if found < wanted:
        raise NotComparable(f"{told}, and {wanted} are needed; {REMEDY}")
    for code, label in enumerate(schema.class_labels):
        is_label = y == code
        found = int((is_label & is_unseen).sum())
        wanted = _count_wanted(int(is_label.sum()), MIN_ROWS_OF_CLASS)
        if found < wanted:
            raise NotComparable(
                f"{told}, {found} of them of the class {str(label)!r}, and {wanted} are needed; "
                f"{REMEDY}"
            )


def _count_wanted(n_rows: int, minimum: int) -> int:
    return min(minimum, (n_rows + 1) // 2)
