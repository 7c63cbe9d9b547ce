"""Columns that steer training but are not features: a row's weight, its group, its time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.cells import read_numbers, refuse
from training.data.row_digests import to_words
from training.data.stored_table import Table
from training.errors import DataError
from training.text import quote_list

# Sums over weights stay finite.
MAX_WEIGHT = 1e100
# If weights add up to 1, as those of surveys do, penalties and the least weight of a leaf outweigh
# all rows.
MIN_MEAN_WEIGHT = 0.01


@dataclass(frozen=True, slots=True)
class RoleNames:
    """Names of the columns; an empty name means that there is none.

    Parameters
    ----------
    weight : str
        Says how much a row counts in fits. Scores count each row once.
    group : str
        Rows with the same value are never on both sides of a split.
    time : str
        Every split learns from earlier rows than it is scored on.
    """

    weight: str = ""
    group: str = ""
    time: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that are not empty."""
        return tuple(name for name in (self.weight, self.group, self.time) if name)


@dataclass(frozen=True, slots=True, eq=False)
class Roles:
    """The columns as arrays; None stands for a column that there is not.

    Parameters
    ----------
    weight : ndarray of float64, shape (n_rows,), or None
        Weights, 0 or more; sorted by `order` if there is one.
    group : ndarray of int64, shape (n_rows,), or None
        Numbers of the groups: digests of their values, so they are the same in every run.
    order : ndarray of int64, shape (n_rows,), or None
        Row numbers by time, earliest first; rows of equal time keep their order.
    notes : tuple of str
        Remarks for the user.
    """

    weight: NDArray[np.float64] | None = None
    group: NDArray[np.int64] | None = None
    order: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()


def take_roles(frame: Table, names: RoleNames) -> Roles:
    """Remove the columns from a table and read them.

    Parameters
    ----------
    frame : DataFrame or StoredTable, shape (n_rows, n_columns)
        Table without its label; the columns are removed from it in place.
    names : RoleNames
        Which columns to take.

    Returns
    -------
    Roles
        The columns as arrays.

    Raises
    ------
    DataError
        If a column is absent or has two roles, or a cell is missing or does not fit.
    """
    if names.group and names.time:
        raise DataError(
            f"--group {names.group!r} and --time {names.time!r} exclude each other; leave one out"
        )
    columns = {name: _take(frame, name) for name in names.names}
    if not columns:
        return Roles()
    order = _sort(columns[names.time]) if names.time else None
    weight, notes = _weigh(columns[names.weight]) if names.weight else (None, ())
    if weight is not None and order is not None:
        weight = weight[order]
    group = _number(columns[names.group]) if names.group else None
    return Roles(weight, group, order, notes)


def _take(frame: Table, name: str) -> "pd.Series[Any]":
    if name not in frame.columns:
        raise DataError(
            f"the table has no column {name!r} beside the label, or it has two roles; its columns "
            f"are {quote_list(frame.columns)}"
        )
    column = frame.pop(name)
    refuse(column, column.isna().to_numpy(dtype=bool), "is missing")
    return column


def _weigh(column: "pd.Series[Any]") -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the weights, and a note if they were scaled."""
    weight = read_numbers(column)
    refuse(column, weight < 0, "is below 0; weights are 0 or more")
    refuse(column, weight > MAX_WEIGHT, f"is above {MAX_WEIGHT:g}; lower all weights")
    mean = float(weight.mean())
    if not mean:
        raise DataError(
            f"column {column.name!r} is 0 in every row; a weight has to be above 0 somewhere"
        )
    if mean >= MIN_MEAN_WEIGHT:
        return weight, ()
    note = (
        f"column {column.name!r}: the weights have a mean of {mean:.3g}, so they are divided by "
        "it; otherwise all rows together would count less than a few"
    )
    return weight / mean, (note,)


def _number(column: "pd.Series[Any]") -> NDArray[np.int64]:
    """Number the groups by digests of their values, which are the same in every run."""
    numbers, values = pd.factorize(column)
    return to_words(values).view("<i8")[numbers].astype(np.int64)


def _sort(column: "pd.Series[Any]") -> NDArray[np.int64]:
    if not (
        pd.api.types.is_numeric_dtype(column)
        or pd.api.types.is_datetime64_any_dtype(column)
    ):
        times = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
        broken = times.isna().to_numpy(dtype=bool)
        refuse(
            column, broken, "is neither a number nor a time such as 2024-01-31T10:00"
        )
        column = times
    return np.asarray(column.argsort(kind="stable"), dtype=np.int64)
