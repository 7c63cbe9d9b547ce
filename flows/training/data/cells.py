"""The cells of one column: reads them as the column's kind, and names those that do not fit."""

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.errors import DataError
from training.text import MAX_SHOWN, shorten_list

MAX_SHOWN_CHARACTERS = 40
# A double holds every integer up to this one.
MAX_EXACT_INTEGER = 2**53
# Values beyond it, such as DBL_MAX, are marks for "unknown"; no model can add them up.
LARGEST = 1e300
# The largest single-precision number is such a mark too.
FLOAT32_MAX = float(np.finfo(np.float32).max)
LEADING_ZERO = re.compile(r"\s*[+-]?0\d+\s*")


def read_numbers(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """Read a column of numbers.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        Numbers, truth values, or text that holds numbers.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Finite, or NaN where a cell is missing.

    Raises
    ------
    DataError
        If a cell is not a finite number, or is an integer that a double cannot hold.
    """
    column = unpack(column)
    if pd.api.types.is_integer_dtype(column):
        _check_digits(column)
    elif not (
        pd.api.types.is_bool_dtype(column) or pd.api.types.is_float_dtype(column)
    ):
        numbers = parse_numbers(column)
        refuse(column, (numbers.isna() & column.notna()).to_numpy(), "is not a number")
        return read_numbers(numbers)
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    refuse(column, np.isinf(values), "is not finite; leave such cells empty")
    return values


def refuse_marks(column: "pd.Series[Any]") -> None:
    """Raise DataError if a cell of a column, shape (n_rows,), is DBL_MAX, FLT_MAX or the like."""
    sizes = np.abs(read_numbers(column))
    # Marks are printed with 6 digits or more.
    broken = (sizes > LARGEST) | (np.abs(sizes / FLOAT32_MAX - 1) < 1e-5)
    refuse(column, broken, "is a mark rather than a number; leave such cells empty")


def unpack(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column of pandas' categorical type as plain cells.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        Column of any type.

    Returns
    -------
    Series, shape (n_rows,)
        The same cells with the type of the categories; other columns as they are.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).infer_objects()
    return column


def parse_numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Parse a column of text as numbers.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        Text.

    Returns
    -------
    Series of int64 or float64, shape (n_rows,)
        The numbers, NaN where a cell is not one.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    return pd.Series(numbers, index=column.index, name=column.name)


def read_booleans(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """Read a column of truth values.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        Truth values, or the numbers 1 and 0.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        1 for true, 0 for false, NaN where a cell is missing.

    Raises
    ------
    DataError
        If a cell is neither true, false, 1 nor 0.
    """
    refuse(
        column,
        (column.notna() & ~column.isin([True, False])).to_numpy(dtype=bool),
        "is neither true nor false",
    )
    return np.asarray(
        column.astype("Float64").to_numpy(np.float64, na_value=np.nan), np.float64
    )


def read_codes(
    column: "pd.Series[Any]", categories: tuple[str, ...] | tuple[int, ...]
) -> NDArray[np.float64]:
    """Read a column of categories as codes.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        Text or whole numbers.
    categories : tuple of str or tuple of int
        Known categories; a code is a position in it.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Codes in [0, n_categories), NaN where a category is missing or not known.
    """
    codes = pd.Index(categories).get_indexer(pd.Index(column, dtype=object))
    return np.where(codes < 0, np.nan, codes.astype(np.float64))


def check_plain(column: "pd.Series[Any]") -> None:
    """Raise DataError if a cell of a column, shape (n_rows,), is a container such as a list."""
    if column.dtype == object:
        is_plain = column.map(pd.api.types.is_scalar).to_numpy(dtype=bool)
        refuse(column, ~is_plain, "is neither a number, a truth value nor text")


def check_text(column: "pd.Series[Any]") -> None:
    """Raise DataError if a cell of a column, shape (n_rows,), is not text."""
    if isinstance(column.dtype, pd.StringDtype):
        return
    is_text = column.map(lambda cell: isinstance(cell, str)).to_numpy(dtype=bool)
    refuse(column, column.notna().to_numpy() & ~is_text, "is not text")


def check_whole_numbers(column: "pd.Series[Any]") -> None:
    """Raise DataError if a cell of a column, shape (n_rows,), is not an exact whole number."""
    values = read_numbers(column)
    with np.errstate(invalid="ignore"):
        broken = (values != np.floor(values)) & ~np.isnan(values)
    refuse(column, broken, "is not a whole number, as a category has to be")


def list_cells(column: "pd.Series[Any]", broken: NDArray[np.bool_]) -> str:
    """List the first few broken cells, and count the rest.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        Column whose index numbers the rows of the source from 0.
    broken : ndarray of bool, shape (n_rows,)
        Which cells to list.

    Returns
    -------
    str
        Rows, counted from 1, with their values.
    """
    rows = np.flatnonzero(broken)
    shown = (
        f"row {column.index[row] + 1}: {str(column.iloc[row])[:MAX_SHOWN_CHARACTERS]!r}"
        for row in rows[:MAX_SHOWN].tolist()
    )
    return shorten_list(shown, len(rows))


def refuse(column: "pd.Series[Any]", broken: NDArray[np.bool_], why: str) -> None:
    """Raise DataError if a cell is broken.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        The column.
    broken : ndarray of bool, shape (n_rows,)
        Which of its cells are broken.
    why : str
        The fault, as the end of a sentence that begins with "a cell that".
    """
    if broken.any():
        raise DataError(
            f"column {column.name!r} has a cell that {why}: {list_cells(column, broken)}"
        )


def _check_digits(column: "pd.Series[Any]") -> None:
    """Refuse integers that a double would change without a warning."""
    # Integers beyond int64 are Python's own; they compare alike.
    beyond = ((column > MAX_EXACT_INTEGER) | (column < -MAX_EXACT_INTEGER)).fillna(
        False
    )
    refuse(
        column,
        beyond.to_numpy(dtype=bool),
        "has more digits than a double holds (2**53); drop the column if it is an identifier",
    )
