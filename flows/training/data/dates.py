"""Tells dates and times from other cells, in the forms in which people write them."""

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from date_columns.forms import MAX_CHARACTERS

_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR = r"(?:1[5-9]|2[01])\d\d"
_MONTH_WORD = r"(?!(?:am|pm|utc|gmt)\b)[^\W\d_]{3,10}\.?"
# Names of months in English and German, for the forms in which any word would do.
_MONTH_NAME = (
    r"(?:jan(?:uary?)?|feb(?:ruary?)?|mar(?:ch)?|m[aä]rz|apr(?:il)?|ma[iy]|jun[ei]?|jul[iy]?"
    r"|aug(?:ust)?|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)\.?"
)
_CLOCK = (
    r"\d{1,2}[:h]\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[ap]\.?m\.?)?"
    r"(?:\s*(?:z|utc|gmt|[+-]\d{2}:?\d{2}|[+-]\d{2}))?"
)
# What others write behind a clock; no form reads it, but it is no category either: CET, Uhr,
# Europe/Berlin, [Europe/Berlin].
_PLACE = r"(?:\s+[^\W\d_]{2,5}|\s*\[?[a-z_]+(?:/[a-z_]+)+\]?)"
# As Oracle writes it.
_DOTTED_CLOCK = r"\d{1,2}\.\d{2}\.\d{2}(?:\.\d+)?\s*[ap]m"
# Hyphens and the like that a word processor makes of "-".
_HYPHENS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"))
_DAYS = (
    # 2024-01-31, 2024/1/31
    rf"{_YEAR}([-/.]){_DAY}\1{_DAY}",
    # 31.1.2024, 01/31/24
    rf"{_DAY}([-/.])\s?{_DAY}\2\s?(?:{_YEAR}|\d\d)",
    # 02 May 2013, 19-Aug-24, 2. Mai 2013
    rf"{_DAY}(?:st|[nr]d|th)?[-\s./]+{_MONTH_NAME}[-\s./,]*(?:{_YEAR}|'?\d\d)?",
    rf"{_DAY}[-\s./]+{_MONTH_WORD}[-\s./,]+{_YEAR}",
    # 02MAY2013, as SAS writes it
    rf"{_DAY}{_MONTH_NAME}(?:{_YEAR}|\d\d)",
    rf"{_YEAR}年{_DAY}月{_DAY}日",
    # Aug 19, 2024
    rf"{_MONTH_NAME}[-\s./]+{_DAY}(?:st|[nr]d|th)?[,\s]+{_YEAR}",
    # Aug  1 10:30:00 2024, whose year comes behind the clock
    rf"{_MONTH_NAME}\s+{_DAY}(?=\s+{_CLOCK}\s+{_YEAR})",
    # Sep-13, August 2024
    rf"{_MONTH_NAME}[-\s./']*(?:{_YEAR}|\d\d)",
    # 2024-Aug-19
    rf"{_YEAR}[-\s./]+{_MONTH_NAME}(?:[-\s./]+{_DAY})?",
    # 2024-08, 08/2024
    rf"{_YEAR}[-/.](?:0[1-9]|1[0-2])",
    rf"(?:0?[1-9]|1[0-2])[-/]{_YEAR}",
    # 2024Q1, Q1 2024, 2024-W05
    rf"{_YEAR}[-\s]?(?:q[1-4]|w\d\d(?:-?\d)?)",
    rf"q[1-4][-\s/]?{_YEAR}",
    # 2024-01-31 without separators, as text
    rf"{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?=t)",
)
_WEEKDAY = r"(?:[^\W\d_]{2,10}\.?,?\s+)?"
_DATE = re.compile(
    rf"{_WEEKDAY}(?:{'|'.join(_DAYS)})"
    rf"(?:[T\s,:]+(?:(?:{_CLOCK}|{_DOTTED_CLOCK}){_PLACE}?|\d{{1,2}}|\d{{6}}z?))?(?:\s+{_YEAR})?"
    rf"|{_CLOCK}|\d{{1,2}}\s*[ap]\.?m\.?|\d+ days?,? \d+:\d\d:\d\d(?:\.\d+)?",
    re.IGNORECASE,
)
_TIME_OF_DAY = re.compile(rf"{_CLOCK}|\d{{1,2}}\s*[ap]\.?m\.?", re.IGNORECASE)
_ZONE = re.compile(
    r"(?::\d{2}(?:[.,]\d+)?(?:\s*[ap]\.?m\.?)?|t\d{6})\s*(?:z|utc|gmt|[+-]\d{2}:?(?:\d{2})?)$",
    re.IGNORECASE,
)
# Whole numbers in these ranges may be dates, in these formats.
DATE_NUMBERS = {
    "%Y%m%d": (15000101, 21991231),
    "%Y%m%d%H%M%S": (15000101_000000, 21991231_235959),
}
_TEMPORAL = {"date", "time", "datetime", "datetime64", "period", "timedelta"}


def is_clock(text: str) -> bool:
    """Return whether a text is a time of day alone."""
    return _TIME_OF_DAY.fullmatch(text) is not None


def has_zone(text: str) -> bool:
    """Return whether a text ends with an offset from UTC behind a time of day."""
    return _ZONE.search(text) is not None


def is_date(text: str) -> bool:
    """Return whether a text is a date, a time of day, or both."""
    if len(text) > MAX_CHARACTERS:
        return False
    if not text.isascii():
        # Digits of other scripts, which no form reads, so that they are no categories in silence.
        text = re.sub(r"\d", lambda found: str(int(found[0])), text)
        text = text.translate(_HYPHENS)
    return text[:1].isalnum() and _DATE.fullmatch(text) is not None


def are_dates(column: "pd.Series[Any]") -> bool:
    """Return whether more than half of a column's cells of text, shape (n_rows,), are dates."""
    counts = column.dropna().value_counts()
    n_dates = sum(int(n) for text, n in counts.items() if is_date(str(text).strip()))
    return n_dates * 2 > int(counts.sum())


def find_number_format(values: NDArray[Any]) -> str:
    """Return the format of numbers, shape (n_rows,), more than half of which are dates, else "".

    Of other numbers in the range of dates such as 20240131, one of 28 is one by chance.
    """
    fitting = (format_ for format_ in DATE_NUMBERS if _fits(values, format_))
    return next(fitting, "")


def _fits(values: NDArray[Any], format_: str) -> bool:
    low, high = DATE_NUMBERS[format_]
    inside = values[(values >= low) & (values <= high)]
    if len(inside) * 2 <= len(values):
        return False
    whole = inside[inside == np.floor(inside)].astype(np.int64)
    numbers, counts = np.unique(whole, return_counts=True)
    texts = pd.Series(numbers).astype(str)
    are_dates = pd.to_datetime(texts, format=format_, errors="coerce").notna()
    return int(counts[are_dates.to_numpy()].sum()) * 2 > len(values)


def is_temporal(column: "pd.Series[Any]") -> bool:
    """Return whether the type of a column, or of its cells, is one of dates, times or durations."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return is_temporal(pd.Series(dtype.categories))
    if isinstance(dtype, pd.PeriodDtype) or dtype.kind in "mM":
        return True
    return dtype == object and pd.api.types.infer_dtype(column) in _TEMPORAL


def write_dates(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return dates, shape (n_rows,), as text in ISO form; gaps stay gaps."""
    return column.astype(object).map(str, na_action="ignore").astype("str")
