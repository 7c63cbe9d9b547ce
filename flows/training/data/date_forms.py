"""Finds columns of dates and times of day, and the form in which their cells are written.

All cells decide. A form is taken if it is the only one that reads them all; otherwise the user has
to state it. So a day is never taken for a month in silence.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from date_columns.forms import DATE, ISO_DATE, ISO_TIME, ISO_ZONED, TIME, DateForm
from training.data.cells import list_cells, parse_numbers, unpack
from training.data.column_notes import note_number_gaps, quote_toml
from training.data.dates import (
    are_date_numbers,
    are_dates,
    has_zone,
    is_clock,
    is_temporal,
)
from training.data.gaps import clear_gaps, is_number_gap, list_gaps, trim
from training.data.read_column import ReadColumn, is_text
from training.data.schema import Kind
from training.data.schema_file import Override
from training.errors import DataError

COMPACT_DATE = "%Y%m%d"
_DIGITS = r"[12]\d{7}(?:\.0+)?"
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
    if not is_text(column):
        return _read_typed(unpack(column), override)
    present, gaps = clear_gaps(trim(column), list_gaps(override.gaps))
    notes = note_number_gaps(column, gaps)
    read = _read_digits(present, override) or _read_text(present, override)
    if read is None:
        return None
    return ReadColumn(read.cells, (*read.notes, *notes), "", read.kind, read.format)


def _read_typed(column: "pd.Series[Any]", override: Override) -> ReadColumn | None:
    """Read a column of Parquet's types, or of numbers such as 20240131."""
    form = _find_typed_form(column)
    if form is None and not override.kind:
        return None
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
    example = column.dropna().iloc[0]
    note = (
        f"column {column.name!r}: numbers such as {example:.0f} are read as dates; kind = "
        '"numeric" in the schema file keeps them numbers'
    )
    is_number = pd.api.types.is_numeric_dtype(column)
    notes = (note,) if is_number and not override.kind else ()
    format_ = override.format or form.format
    return ReadColumn(column, notes, "", kind, format_)


def _find_typed_form(column: "pd.Series[Any]") -> DateForm | None:
    present = column.dropna()
    if present.empty:
        return None
    if not is_temporal(column):
        is_number = pd.api.types.is_numeric_dtype(column) and not (
            pd.api.types.is_bool_dtype(column)
        )
        if is_number and are_date_numbers(present.to_numpy()):
            return DateForm(DATE, COMPACT_DATE)
        return None
    if column.dtype.kind == "m":
        return None
    if column.dtype == object and not hasattr(present.iloc[0], "year"):
        is_clock_type = hasattr(present.iloc[0], "hour")
        return DateForm(TIME, ISO_TIME) if is_clock_type else None
    zone = getattr(column.dtype, "tz", getattr(present.iloc[0], "tzinfo", None))
    return DateForm(DATE, ISO_DATE if zone is None else ISO_ZONED)


def _read_digits(present: "pd.Series[Any]", override: Override) -> ReadColumn | None:
    """Read text such as 20240131, or 20240131.0, which a program wrote beside a gap."""
    if override.format not in ("", COMPACT_DATE) or override.kind == Kind.TIME:
        return None
    if present.isna().all() or not present.dropna().str.fullmatch(_DIGITS).all():
        return None
    return _read_typed(parse_numbers(present), override)


def _read_text(present: "pd.Series[Any]", override: Override) -> ReadColumn | None:
    if override.format:
        cells = _clear_words(present) if override.gaps is None else present
        return ReadColumn(cells, (), "", override.kind, override.format)
    # Numbers are told fast, and most columns hold them.
    if _are_numbers(present) or not are_dates(present):
        if override.kind:
            raise _refuse(
                present, f"has no form of {_NAMES[override.kind]} that is known"
            )
        return None
    cells = _clear_words(present)
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


def _clear_words(present: "pd.Series[Any]") -> "pd.Series[Any]":
    """Make gaps of the words and marks that stand for one among numbers, and among dates."""
    words = [text for text in present.dropna().unique() if is_number_gap(str(text))]
    return present.mask(present.isin(words)) if words else present


def _refuse(present: "pd.Series[Any]", why: str) -> DataError:
    example = present.dropna().iloc[0]
    return DataError(
        f"column {present.name!r} looks like dates, such as {example!r}, but {why}; correct it, "
        f"{WAYS_OUT}"
    )


def _check_zones(cells: "pd.Series[Any]") -> None:
    texts = [str(text) for text in cells.dropna().unique()]
    unzoned = [text for text in texts if not has_zone(text)]
    if 0 < len(unzoned) < len(texts):
        lacking = cells.isin(unzoned).to_numpy(dtype=bool)
        raise _refuse(
            cells,
            "some cells have an offset from UTC, and others have none: "
            f"{list_cells(cells, lacking)}",
        )


def _choose_form(cells: "pd.Series[Any]") -> DateForm:
    """Return the only form that reads all cells."""
    texts = [str(text) for text in cells.dropna().unique()]
    forms = list(_list_forms(texts[0]))
    fitting = [form for form in forms if _reads(form, texts)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise _refuse(cells, _tell_misfit(cells, texts, forms))
    first, second = fitting[:2]
    example = next(t for t in texts if _parse(first, t) != _parse(second, t))
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
            return (
                f"these cells are not in the form {form.format}: {list_cells(cells, broken)} "
                f"(gaps = [{quote_toml(others[0])}] makes gaps of such cells)"
            )
    return "no known form reads all cells"


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
        yield f"{weekday}%b %d, %Y"
        yield f"{weekday}%b %d %Y"
    yield "%b-%d-%Y"
    yield "%Y-%b-%d"
    yield from ("%Y-%m", "%Y/%m", "%m/%Y", "%m-%Y", "%b %Y", "%b-%Y", "%Y-%b")


def _note_form(cells: "pd.Series[Any]", form: DateForm) -> str:
    """Say in which form the cells are read, with what shows it."""
    texts = [str(text) for text in cells.dropna().unique()]
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
        f"column {cells.name!r}: {int(cells.notna().sum()):,} of {len(cells):,} cells are "
        f"{_NAMES[form.kind]} in the form {form.format}, such as {example!r} for "
        f"{form.write(seconds).removesuffix('T00:00:00')}{why}"
    )
