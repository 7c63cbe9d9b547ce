"""The cells of a column: read as its kind, or named by row and value where they do not fit."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.sources import MAX_EXACT_INTEGER, MAX_SHOWN
from training.errors import DataError

MAX_SHOWN_CHARACTERS = 40


def read_numbers(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """Return a column as doubles, NaN where missing.

    Raises
    ------
    DataError
        If a cell is no finite number, or one that a double would change.
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
    refuse(column, np.isinf(values), "is not finite")
    return values


def unpack(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column of pandas' type category as one of its categories' type."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.astype(object).infer_objects()
    return column


def parse_numbers(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return the numbers of a column of text, missing where a cell is none."""
    numbers = pd.to_numeric(column, errors="coerce")
    return pd.Series(numbers, index=column.index, name=column.name)


def read_booleans(column: "pd.Series[Any]") -> NDArray[np.float64]:
    """Return a column of truth values as 1 and 0, NaN where missing.

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
    """Return the position of each cell's category, NaN where it is missing or not among them."""
    codes = pd.Index(categories).get_indexer(pd.Index(column, dtype=object))
    return np.where(codes < 0, np.nan, codes.astype(np.float64))


def check_plain(column: "pd.Series[Any]") -> None:
    """Refuse cells that are no single values, such as lists."""
    if column.dtype == object:
        is_plain = column.map(pd.api.types.is_scalar).to_numpy(dtype=bool)
        refuse(column, ~is_plain, "is neither a number, a truth value nor text")


def check_text(column: "pd.Series[Any]") -> None:
    """Refuse cells that are no text."""
    if isinstance(column.dtype, pd.StringDtype):
        return
    is_text = column.map(lambda cell: isinstance(cell, str)).to_numpy(dtype=bool)
    refuse(column, column.notna().to_numpy() & ~is_text, "is not text")


def check_whole_numbers(column: "pd.Series[Any]") -> None:
    """Refuse numbers that are not whole, or have more digits than a double."""
    values = read_numbers(column)
    with np.errstate(invalid="ignore"):
        broken = (values != np.floor(values)) & ~np.isnan(values)
    refuse(column, broken, "is not a whole number, as a category has to be")


def list_cells(column: "pd.Series[Any]", broken: NDArray[np.bool_]) -> str:
    """Name the first few cells that are broken, and say how many there are beside.

    The column's index numbers the rows of the source from 0.
    """
    rows = np.flatnonzero(broken)
    shown = [
        f"row {column.index[row] + 1}: {str(column.iloc[row])[:MAX_SHOWN_CHARACTERS]!r}"
        for row in rows[:MAX_SHOWN].tolist()
    ]
    more = f" and {len(rows) - MAX_SHOWN} more" if len(rows) > MAX_SHOWN else ""
    return ", ".join(shown) + more


def refuse(column: "pd.Series[Any]", broken: NDArray[np.bool_], why: str) -> None:
    """Raise DataError with the cells that are broken, if there are any."""
    if broken.any():
        raise DataError(
            f"column {column.name!r} has a cell that {why}: {list_cells(column, broken)}"
        )


def _check_digits(column: "pd.Series[Any]") -> None:
    """Refuse integers that a double would change silently."""
    # As Python's integers where they may be larger than int64.
    beyond = ((column > MAX_EXACT_INTEGER) | (column < -MAX_EXACT_INTEGER)).fillna(
        False
    )
    refuse(
        column,
        beyond.to_numpy(dtype=bool),
        "has more digits than a double holds (2**53); an identifier is no feature, so drop it",
    )
