"""Finds columns of dates and times of day, and the form in which their cells are written.

All cells decide. A form is taken if it is the only one that reads them all; otherwise the user has
to state it. So a day is never taken for a month in silence.
"""

from collections.abc import Iterator
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from date_columns.cells import read_seconds
from date_columns.forms import DATE, ISO_DATE, ISO_TIME, ISO_ZONED, TIME, DateForm
from training.data.cells import (
    MAX_SHOWN_CHARACTERS,
    list_cells,
    parse_numbers,
    unpack,
)
from training.data.column_notes import note_number_gaps, quote_toml
from training.data.dates import (
    DATE_NUMBERS,
    are_dates,
    find_number_format,
    has_zone,
    is_clock,
    is_date,
    is_temporal,
)
from training.data.gaps import (
    clear_gaps,
    clear_numbers,
    is_number_gap,
    list_gaps,
    trim,
)
from training.data.read_column import ReadColumn, is_text
from training.data.schema import Kind
from training.data.schema_file import Override
from training.errors import DataError

COMPACT_DATE = "%Y%m%d"
_DIGITS = r"[12][0-9]{7}(?:[0-9]{6})?(?:\.0+)?"
# Seconds from the year 9999 on.
_NO_END = 253_370_764_800
_NAMES = {DATE: "dates", TIME: "times of day"}
WAYS_OUT = (
    "or set in the file of --config schema, for the column, format, such as "
    'format = "%d/%m/%Y" with kind = "date", or kind = "categorical" or "drop"'
)


def read_dates(column: "pd.Series[Any]", override: Override) -> ReadColumn | None:
    """Read a column as dates or times of day, if it holds them.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        A column that a model may learn from.
    override : Override
        The user's settings for it.

    Returns
    -------
    ReadColumn or None
        The cells, with the kind and the format of the column; None if it holds something else.

    Raises
    ------
    DataError
        If the column holds dates, and no form or several forms read all its cells.
    """
    if override.kind not in ("", Kind.DATE, Kind.TIME):
        return None
    # Programs write text that recurs as categories, dates too.
    column = unpack(column)
    if is_text(column):
        read = _read_column_of_text(column, override)
    else:
        read = _read_typed(clear_numbers(column, override.gaps or ()), override)
    if read is None:
        return None
    return replace(read, notes=(*read.notes, *_note_no_end(read)))


def _read_column_of_text(
    column: "pd.Series[Any]", override: Override
) -> ReadColumn | None:
    present, gaps = clear_gaps(trim(column), list_gaps(override.gaps))
    if present.isna().all():
        return None
    cells, words = _clear_words(present) if override.gaps is None else (present, {})
    read = _read_digits(cells, override) or _read_text(present, cells, override)
    if read is None:
        return None
    notes = note_number_gaps(column, gaps | words)
    return ReadColumn(read.cells, (*read.notes, *notes), "", read.kind, read.format)


def _read_typed(column: "pd.Series[Any]", override: Override) -> ReadColumn | None:
    """Read a column of Parquet's types, or of numbers such as 20240131."""
    form = _find_typed_form(column)
    if form is None and not override.kind:
        return None
    if form is None and is_temporal(column):
        raise DataError(
            f"column {column.name!r} holds durations, but the schema file says kind = "
            f'"{override.kind}"; convert it to a number, or set kind = "drop"'
        )
    if form is None:
        # The numbers or objects are checked when they are encoded.
        default = COMPACT_DATE if override.kind == Kind.DATE else ISO_TIME
        form = DateForm(override.kind, override.format or default)
    kind = override.kind or form.kind
    if kind != form.kind:
        raise DataError(
            f"column {column.name!r} holds {_NAMES[form.kind]}, but the schema file says kind = "
            f'"{kind}"; set kind = "{form.kind}"'
        )
    format_ = override.format or form.format
    notes: tuple[str, ...] = ()
    if pd.api.types.is_numeric_dtype(column) and not override.kind:
        _check_form(column, form)
        notes = (_note_numbers(column),)
    cells = _clear_typed(column, DateForm(kind, format_), override.gaps or ())
    return ReadColumn(cells, notes, "", kind, format_)


def _clear_typed(
    column: "pd.Series[Any]", form: DateForm, gaps: tuple[str, ...]
) -> "pd.Series[Any]":
    """Make gaps of the dates that the schema file calls so, such as 9999-12-31."""
    stated = [gap for gap in map(form.parse, gaps) if gap is not None]
    if not stated:
        return column
    seconds, _ = read_seconds(column, form)
    return column.mask(np.isin(seconds, stated))


def _note_no_end(read: ReadColumn) -> list[str]:
    """Say which dates are so late that they stand for "none" or "no end" in most tables."""
    if read.kind != DATE:
        return []
    seconds, _ = read_seconds(read.cells, DateForm(read.kind, read.format))
    is_late = seconds >= _NO_END
    if not is_late.any():
        return []
    cell = read.cells[is_late].iloc[0]
    example = f"{cell:.0f}" if isinstance(cell, Real) else str(cell)
    return [
        f"column {read.cells.name!r}: {int(is_late.sum()):,} cells are of the year 9999, such as "
        f"{example!r}; if they stand for no date, set gaps = [{quote_toml(example)}] in the "
        "schema file"
    ]


def _note_numbers(column: "pd.Series[Any]") -> str:
    example = float(column.dropna().iloc[0])
    return (
        f"column {column.name!r}: numbers such as {example:.0f} are read as dates; kind = "
        '"numeric" in the schema file keeps them numbers'
    )


def _find_typed_form(column: "pd.Series[Any]") -> DateForm | None:
    present = column.dropna()
    if present.empty:
        return None
    if not is_temporal(column):
        is_number = pd.api.types.is_numeric_dtype(column) and not (
            pd.api.types.is_bool_dtype(column)
        )
        format_ = find_number_format(present.to_numpy()) if is_number else ""
        return DateForm(DATE, format_) if format_ else None
    if column.dtype.kind == "m":
        return None
    if column.dtype == object and not hasattr(present.iloc[0], "year"):
        is_clock_type = hasattr(present.iloc[0], "hour")
        return DateForm(TIME, ISO_TIME) if is_clock_type else None
    zone = getattr(column.dtype, "tz", getattr(present.iloc[0], "tzinfo", None))
    return DateForm(DATE, ISO_DATE if zone is None else ISO_ZONED)


def _read_digits(cells: "pd.Series[Any]", override: Override) -> ReadColumn | None:
    """Read text such as 20240131, or 20240131.0, which a program wrote beside a gap."""
    if override.format not in ("", *DATE_NUMBERS) or override.kind == Kind.TIME:
        return None
    is_digits = cells.str.fullmatch(_DIGITS).fillna(False).to_numpy(dtype=bool)
    if is_digits.sum() * 2 <= cells.notna().sum():
        return None
    numbers = parse_numbers(cells[is_digits])
    format_ = find_number_format(numbers.to_numpy())
    if not format_ or override.format not in ("", format_):
        return None
    digits = cells.str.replace(r"\.0+$", "", regex=True)
    form = DateForm(DATE, format_)
    _check_form(digits, form)
    notes = () if override.kind else (_note_numbers(numbers),)
    return ReadColumn(digits, notes, "", form.kind, form.format)


def _read_text(
    present: "pd.Series[Any]", cells: "pd.Series[Any]", override: Override
) -> ReadColumn | None:
    """Read text; `cells` lacks the words that stand for gaps."""
    if override.format:
        return ReadColumn(cells, (), "", override.kind, override.format)
    # Numbers are told fast, and most columns hold them.
    if _are_numbers(present) or not are_dates(present):
        if override.kind:
            raise _refuse(
                present, f"has no form of {_NAMES[override.kind]} that is known"
            )
        return None
    _check_zones(cells)
    form = _choose_form(cells)
    if override.kind and override.kind != form.kind:
        raise _refuse(present, f"holds {_NAMES[form.kind]}")
    return ReadColumn(cells, (_note_form(cells, form),), "", form.kind, form.format)


def _are_numbers(present: "pd.Series[Any]") -> bool:
    import pyarrow
    from pyarrow import compute

    try:
        compute.cast(pyarrow.array(present, from_pandas=True), pyarrow.float64())
    except pyarrow.ArrowInvalid:
        return False
    return True


def _clear_words(
    present: "pd.Series[Any]",
) -> tuple["pd.Series[Any]", dict[str, int]]:
    """Make gaps of the words and marks that stand for one among numbers, and among dates."""
    texts = map(str, present.dropna().unique())
    return clear_gaps(present, tuple(filter(is_number_gap, texts)))


def _refuse(present: "pd.Series[Any]", why: str) -> DataError:
    cells = present.dropna().unique()
    example = next((cell for cell in cells if is_date(str(cell))), cells[0])
    return DataError(
        f"column {present.name!r} looks like dates, such as "
        f"{str(example)[:MAX_SHOWN_CHARACTERS]!r}, but {why}; correct it, "
        f"{WAYS_OUT}"
    )


def _check_zones(cells: "pd.Series[Any]") -> None:
    texts = [str(text) for text in cells.dropna().unique()]
    unzoned = [text for text in texts if is_date(text) and not has_zone(text)]
    if unzoned and any(map(has_zone, texts)):
        lacking = cells.isin(unzoned).to_numpy(dtype=bool)
        raise _refuse(
            cells,
            "some cells have an offset from UTC, and others have none: "
            f"{list_cells(cells, lacking)}",
        )


def _choose_form(cells: "pd.Series[Any]") -> DateForm:
    """Return the only form that reads all cells."""
    texts = [str(text) for text in cells.dropna().unique()]
    forms = list(_list_forms(next(filter(is_date, texts), texts[0])))
    fitting = [form for form in forms if _reads(form, texts)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise _refuse(cells, _tell_misfit(cells, texts, forms))
    first, second = fitting[:2]
    differing = (t for t in texts if _parse(first, t) != _parse(second, t))
    example = next(differing, texts[0])
    raise _refuse(
        cells,
        f"both {first.format} and {second.format} read all cells, as {example!r} shows",
    )


def _reads(form: DateForm, texts: list[str]) -> bool:
    return all(_parse(form, text) is not None for text in texts)


def _parse(form: DateForm, text: str) -> float | None:
    return form.parse(text, as_iso=False)


def _tell_misfit(
    cells: "pd.Series[Any]", texts: list[str], forms: list[DateForm]
) -> str:
    """Say which cells are not in the form that reads most."""
    for form in forms:
        others = [text for text in texts if _parse(form, text) is None]
        if len(others) * 2 < len(texts):
            broken = cells.isin(others).to_numpy(dtype=bool)
            return _list_misfits(cells, form, broken)
    return "no known form reads all cells"


def _check_form(cells: "pd.Series[Any]", form: DateForm) -> None:
    """Raise DataError if a cell is not in a form that most cells have."""
    _, broken = read_seconds(cells, form)
    if broken.any():
        raise _refuse(cells, _list_misfits(cells, form, broken))


def _list_misfits(
    cells: "pd.Series[Any]", form: DateForm, broken: NDArray[np.bool_]
) -> str:
    told = f"these cells are not in the form {form.format}: {list_cells(cells, broken)}"
    first = str(cells[broken].iloc[0])
    if len(first) > MAX_SHOWN_CHARACTERS:
        # A part of the text would not be found.
        return told
    return f"{told} (gaps = [{quote_toml(first)}] makes gaps of such cells)"


def _list_forms(text: str) -> Iterator[DateForm]:
    """Yield the forms that may read a column with this text."""
    if is_clock(text):
        yield DateForm(TIME, ISO_TIME)
        return
    zone = "T%H:%M:%S%z" if has_zone(text) else ""
    compact = "T%H%M%S%z" if zone else "T%H%M%S"
    yield DateForm(DATE, COMPACT_DATE + compact)
    for format_ in _list_formats():
        yield DateForm(DATE, format_ + zone)
    if not zone:
        # As C's ctime and R's date() write it.
        yield DateForm(DATE, "%a %b %d %H:%M:%S %Y")


def _list_formats() -> Iterator[str]:
    """Yield the formats of days and months; a text has two of them only if it is ambiguous."""
    for mark in "-/.":
        yield f"%Y{mark}%m{mark}%d"
        for year in ("%Y", "%y"):
            yield f"%d{mark}%m{mark}{year}"
            yield f"%m{mark}%d{mark}{year}"
    yield "%y-%m-%d"
    yield "%d. %m. %Y"
    for weekday in ("", "%a, ", "%a "):
        for mark in (" ", "-", "/", ".", ". "):
            for year in ("%Y", "%y"):
                yield f"{weekday}%d{mark}%b{' ' if mark == '. ' else mark}{year}"
        yield f"{weekday}%d %b, %Y"
        yield f"{weekday}%b %d, %Y"
        yield f"{weekday}%b %d %Y"
    yield from ("%d%b%Y", "%d%b%y")
    yield "%b-%d-%Y"
    yield "%Y-%b-%d"
    yield from ("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b %Y", "%b-%Y", "%Y-%b")


def _note_form(cells: "pd.Series[Any]", form: DateForm) -> str:
    """Say in which form the cells are read, with what shows it."""
    texts, n = [str(text) for text in cells.dropna().unique()], int(cells.notna().sum())
    example, why = texts[0], ""
    swapped = form.format.translate(str.maketrans("dm", "md"))
    if form.kind == DATE and not form.format.startswith("%Y") and "%m" in form.format:
        other = DateForm(DATE, swapped) if "%d" in form.format else form
        example = next((t for t in texts if _parse(other, t) is None), texts[0])
        which = "before" if form.format.find("%d") < form.format.find("%m") else "after"
        why = f", whose day comes {which} its month" if "%d" in form.format else ""
    seconds = form.parse(example)
    assert seconds is not None
    return (
        f"column {cells.name!r}: {n:,} of {n:,} cells are "
        f"{_NAMES[form.kind]} in the form {form.format}, such as {example!r} for "
        f"{form.write(seconds).removesuffix('T00:00:00')}{why}"
    )
