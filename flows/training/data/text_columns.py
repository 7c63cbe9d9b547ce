"""Columns of text, read as what their cells are: numbers, truth values, or text with gaps.

All cells of a column decide, before any row is left out. So one more gap, another order of the rows
or another format of the file changes nothing.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from training.data.cells import (
    LEADING_ZERO,
    MAX_EXACT_INTEGER,
    list_cells,
    refuse,
    unpack,
)
from training.data.column_notes import (
    note_doubtful,
    note_gap,
    note_number_gaps,
    note_numbers,
    note_points,
    note_spaces,
    quote_toml,
)
from training.data.dates import are_dates
from training.data.gaps import clear_gaps, clear_numbers, list_gaps, trim
from training.data.number_forms import Numbers, list_texts, read_forms, unwrap
from training.data.read_column import ReadColumn, is_text
from training.data.schema import Kind
from training.data.schema_file import Override
from training.errors import DataError

_TRUTH = {"True": True, "TRUE": True, "true": True} | {
    "False": False,
    "FALSE": False,
    "false": False,
}


def read_label(
    column: "pd.Series[Any]", gaps: tuple[str, ...] | None = None
) -> ReadColumn:
    """Read a column that is no feature: plain numbers, truth values, or text.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        A label, or what steers training. Columns of other types than text stay as they are.
    gaps : tuple of str or None
        Texts that the schema file calls gaps; None for the usual ones.

    Returns
    -------
    ReadColumn
        The column, with a note if a text such as NA became a gap.
    """
    # A category of whole numbers has the classes of whole numbers.
    column = unpack(column)
    if not is_text(column):
        return ReadColumn(clear_numbers(column, gaps or ()))
    trimmed = trim(column)
    present, found = clear_gaps(trimmed, list_gaps(gaps))
    cells = _read_plain(present)
    notes = note_spaces(column, trimmed, present) if cells is None else []
    notes += [note_gap(column, text, count) for text, count in found.items()]
    if cells is None and gaps is None:
        notes += note_doubtful(present)
    return ReadColumn(present if cells is None else cells, tuple(notes))


def read_feature(
    column: "pd.Series[Any]", override: Override, decimal: str = ""
) -> ReadColumn:
    """Read a column that a model may learn from.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        A column. Columns of other types than text stay as they are.
    override : Override
        The user's settings for it.
    decimal : str
        The decimal mark of the file if it is known, "." or ",".

    Returns
    -------
    ReadColumn
        The column.

    Raises
    ------
    DataError
        If the column holds numbers, and cells that are neither numbers nor gaps.
    """
    if not is_text(column):
        return ReadColumn(clear_numbers(column, override.gaps or ()))
    trimmed = trim(column)
    present, gaps = clear_gaps(trimmed, list_gaps(override.gaps))
    are_thousands = (override.decimal or decimal) == "," and _are_grouped(present)
    cells = None if are_thousands else _read_plain(present)
    if cells is not None:
        notes = (*note_number_gaps(column, gaps), *_note_points(present, cells))
        return ReadColumn(cells, notes, _find_point(present, cells))
    if override.kind in ("", Kind.NUMERIC):
        read = _read_dressed(present, override, decimal)
        if read is not None:
            notes = (*read.notes, *note_number_gaps(column, gaps))
            return replace(read, notes=notes)
    remarks = note_spaces(column, trimmed, present)
    remarks += [note_gap(column, text, count) for text, count in gaps.items()]
    if override.gaps is None:
        remarks += note_doubtful(present)
    return ReadColumn(present, tuple(remarks))


def _read_plain(present: "pd.Series[Any]") -> "pd.Series[Any] | None":
    """Return plain numbers or truth values; None if a cell is neither."""
    import pyarrow
    from pyarrow import compute

    cells = pyarrow.array(present, from_pandas=True)
    if cells.null_count == len(cells):
        return None
    # Arrow would read 0x1F as 31, and a number such as 007 as 7.
    odd = compute.match_substring_regex(cells, r"^[+-]?0(\d+$|[xX])")
    if compute.any(odd).as_py():
        return None
    for kind, name in ((pyarrow.int64(), "Int64"), (pyarrow.float64(), "float64")):
        try:
            numbers = compute.cast(cells, kind)
        except pyarrow.ArrowInvalid:
            continue
        read = _to_series(numbers, present, name)
        _check_digits(present, read)
        return read
    return _read_truth(present)


def _are_grouped(present: "pd.Series[Any]") -> bool:
    """Return whether points may separate thousands in all cells, and do in one."""
    fits = present.str.fullmatch(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})*|0").fillna(True)
    return bool(fits.all()) and bool(present.str.contains(".", regex=False).any())


def _note_points(present: "pd.Series[Any]", cells: "pd.Series[Any]") -> list[str]:
    """Say that points may separate thousands, as in 1.234 beside 950, where they may."""
    if not pd.api.types.is_float_dtype(cells) or not _are_grouped(present):
        return []
    has_point = present.str.contains(".", regex=False).fillna(False)
    if not (~has_point & present.str.fullmatch(r"[1-9]\d\d").fillna(False)).any():
        # Measured to three decimals, all numbers have a point.
        return []
    return [note_points(present, str(present[has_point].iloc[0]))]


def _find_point(present: "pd.Series[Any]", cells: "pd.Series[Any]") -> str:
    """Return a point if it is the decimal mark of plain numbers without a doubt."""
    if not pd.api.types.is_float_dtype(cells) or _are_grouped(present):
        return ""
    return "." if present.str.contains(".", regex=False).any() else ""


def _to_series(numbers: Any, present: "pd.Series[Any]", dtype: str) -> "pd.Series[Any]":
    """Return Arrow's numbers as a column; whole numbers with gaps stay whole."""
    if dtype == "Int64" and numbers.null_count == 0:
        values: Any = numbers.to_numpy(zero_copy_only=False)
    elif dtype == "Int64":
        values = pd.array(numbers, dtype=pd.Int64Dtype())
    else:
        values = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
    return pd.Series(values, index=present.index, name=present.name)


def _check_digits(present: "pd.Series[Any]", read: "pd.Series[Any]") -> None:
    """Refuse whole numbers that were changed when their column was read as doubles."""
    if not pd.api.types.is_float_dtype(read):
        return
    large = (read.abs() >= MAX_EXACT_INTEGER).to_numpy(dtype=bool)
    broken = np.zeros(len(read), dtype=bool)
    for row in np.flatnonzero(large):
        digits = str(present.iloc[row]).lstrip("+-")
        broken[row] = digits.isdecimal() and int(digits) != int(float(digits))
    refuse(
        present,
        broken,
        "has more digits than a double holds (2**53); drop the column if it is an identifier",
    )


def _read_truth(present: "pd.Series[Any]") -> "pd.Series[Any] | None":
    if not (present.isna() | present.isin(list(_TRUTH))).all():
        return None
    truth = present.map(_TRUTH).astype("boolean")
    return truth if truth.isna().any() else truth.astype(bool)


def _read_dressed(
    present: "pd.Series[Any]", override: Override, decimal: str
) -> ReadColumn | None:
    """Return numbers that are not plain ones; None if the column holds something else."""
    counts = {str(text): int(n) for text, n in present.value_counts().items()}
    if not counts:
        return None
    if any(map(LEADING_ZERO.fullmatch, map(unwrap, counts))) or are_dates(present):
        return None
    numbers = read_forms(counts, override.decimal or decimal)
    is_doubtful = not numbers.are_most or numbers.are_categories
    if is_doubtful and override.kind != Kind.NUMERIC:
        return None
    _check_units(present, numbers)
    _check_others(present, numbers)
    cells = present.map(numbers.values).astype(np.float64)
    _check_digits(present, cells)
    decimal = "" if numbers.is_ambiguous or not numbers.form else numbers.decimal
    return ReadColumn(cells, tuple(note_numbers(present, numbers)), decimal)


def _check_units(present: "pd.Series[Any]", numbers: Numbers) -> None:
    if len(numbers.units) > 1:
        raise DataError(
            f"column {present.name!r} holds numbers with the units {list_texts(numbers.units)}, "
            f"such as {numbers.example!r}; convert them to one unit, or set its kind in the file "
            'of --config schema: kind = "categorical" or "drop"'
        )


def _check_others(present: "pd.Series[Any]", numbers: Numbers) -> None:
    """Refuse texts that are neither numbers nor explained as gaps."""
    if not numbers.are_explained:
        broken = present.isin(numbers.others).to_numpy(dtype=bool)
        raise DataError(
            f"column {present.name!r} has a cell that is not a number: "
            f"{list_cells(present, broken)}; correct it, or set in the file of --config schema "
            f'gaps = [{quote_toml(numbers.others[0])}] or kind = "categorical" for the column'
        )
