"""CSV files, read without the changes that pandas makes on the way."""

import gzip
import re
import warnings
from pathlib import Path

import pandas as pd

from training.data.cells import LEADING_ZERO, MAX_EXACT_INTEGER
from training.data.header import check_header
from training.errors import DataError
from training.text import first_line

_LEADING_ZERO_CELL = re.compile(rb'[,"]\s*[+-]?0\d+\s*[,"\r\n]')


def read_csv_file(path: Path) -> pd.DataFrame:
    """Read a CSV file, compressed or not.

    Parameters
    ----------
    path : Path
        A .csv or .csv.gz file whose first line names the columns.

    Returns
    -------
    DataFrame, shape (n_rows, n_columns)
        Numbers, truth values and text. Numbers with a leading 0, such as zip codes, are text.

    Raises
    ------
    DataError
        If the file is not a CSV table, or an integer in it has more digits than a double holds.
    """
    try:
        # The header is read as text first, because pandas renames the second of two equal names.
        header = list(
            pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].fillna("")
        )
        check_header(path, header)
        with warnings.catch_warnings():
            # pandas only warns when it drops the cells that a row has beyond the header's.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = _read(path)
            _check_long_integers(path, frame)
            _keep_leading_zeros(path, frame)
    except (ValueError, OSError, EOFError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} is not a CSV table: {first_line(error)}") from None
    return frame


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(
        path,
        # Only empty cells are missing; the country code NA is text.
        keep_default_na=False,
        na_values=["", "NaN", "nan"],
        index_col=False,
        # Read in pieces, a label 01 would be 1 in a piece of numbers and 01 in one with text.
        low_memory=False,
    )


def _check_long_integers(path: Path, frame: pd.DataFrame) -> None:
    """Refuse integers that pandas changed when it read their column, which has gaps, as doubles."""
    suspects = [
        name
        for name in frame.columns
        if pd.api.types.is_float_dtype(frame[name])
        and (frame[name].abs() >= MAX_EXACT_INTEGER).any()
    ]
    if not suspects:
        return
    cells = pd.read_csv(path, usecols=suspects, dtype=str, index_col=False)
    for name in suspects:
        for row, cell in enumerate(cells[name].fillna("")):
            digits = cell.strip().lstrip("+-")
            if digits.isdecimal() and int(digits) != int(float(digits)):
                raise DataError(
                    f"column {name!r}, row {row + 1}: {cell!r} has more digits than a double holds "
                    "(2**53); drop the column if it is an identifier"
                )


def _keep_leading_zeros(path: Path, frame: pd.DataFrame) -> None:
    """Put back the text of columns such as zip codes, whose 01234 pandas reads as 1234."""
    if not _has_leading_zero(path):
        return
    numeric = [n for n in frame.columns if pd.api.types.is_numeric_dtype(frame[n])]
    cells = pd.read_csv(path, usecols=numeric, dtype=str, index_col=False)
    for name in numeric:
        if cells[name].str.fullmatch(LEADING_ZERO).any():
            frame[name] = cells[name]


def _has_leading_zero(path: Path) -> bool:
    """Return whether a cell of the file may be a whole number with a leading 0."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return any(_LEADING_ZERO_CELL.search(b"," + line) for line in file)
