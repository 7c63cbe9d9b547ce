"""From a column of a table to the numbers of a feature, by the rules of the server's batches."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from math import nan
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from date_columns.forms import LAST_SECONDS
from grpc_server.model.arrays import Mask, Vector
from grpc_server.model.kinds import (
    MAX_INTEGER,
    Boolean,
    Date,
    IntegerCategories,
    Numeric,
    Scalar,
    TextCategories,
    TimeOfDay,
)
from grpc_server.model.schema import Feature

# A double holds every decimal of so many digits.
_MAX_DIGITS = 15
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTH = {"true": True, "True": True, "TRUE": True} | {
    "false": False,
    "False": False,
    "FALSE": False,
}
_DAY_SECONDS, _MICROS = 86_400, 1_000_000
# Bounds of the years 1 to 9999, as in `DateForm`.
_MIN_SECONDS, _MAX_SECONDS = -62_135_596_800, 253_402_300_800
_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "GMT", "Z", "+00:00", "-00:00"})

Encoded: TypeAlias = tuple[Vector, Mask]
_Read: TypeAlias = Callable[[Any], Scalar | None]


@dataclass(frozen=True, slots=True)
class TextRules:
    """How cells of text are read that have no type, as those of CSV files.

    Parameters
    ----------
    gaps : frozenset of str
        Words for missing values. A word that is a category of the model is the category.
    """

    gaps: frozenset[str]


def find_misfit(feature: Feature, type_: pa.DataType) -> str:
    """Tell why no cell of a typed column can be a value of a feature.

    Parameters
    ----------
    feature : Feature
        The feature.
    type_ : pyarrow.DataType
        Type of the column.

    Returns
    -------
    str
        What the feature takes instead; empty if cells of this type may fit.
    """
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_null(type_):
        return "" if feature.nullable else feature.allowed
    takes, words = _TAKEN[type(feature.kind)]
    if not takes(type_):
        return words
    if isinstance(feature.kind, Date):
        return _find_zone_misfit(feature.kind, type_)
    return ""


def encode_typed(feature: Feature, column: pa.Array) -> Encoded:
    """Encode a column as the server encodes the column of a batch.

    Parameters
    ----------
    feature : Feature
        The feature; `find_misfit` allows the column's type.
    column : pyarrow.Array, shape (n_rows,)
        The cells.

    Returns
    -------
    numbers : ndarray of float64, shape (n_rows,)
        The encoded values, NaN where missing.
    wrong : ndarray of bool, shape (n_rows,)
        True where a value is not allowed.
    """
    type_ = column.type
    if pa.types.is_null(type_):
        return np.full(len(column), nan), np.full(len(column), not feature.nullable)
    if pa.types.is_dictionary(type_) and isinstance(feature.kind, Numeric):
        column = column.dictionary_decode()
        type_ = column.type
    if isinstance(feature.kind, Numeric):
        return _encode_numbers(feature, column)
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        return _encode_moments(feature, column)
    if isinstance(feature.kind, Boolean) and pa.types.is_boolean(type_):
        numbers = column.cast(pa.uint8()).cast(pa.float64())
        return _with_gaps(feature, column, _to_doubles(numbers))
    return _encode_distinct(feature, column, _READ[type(feature.kind)])


def encode_text(feature: Feature, column: pa.Array, rules: TextRules) -> Encoded:
    """Encode a column of text without a type; see `encode_typed`.

    Parameters
    ----------
    feature : Feature
        The feature.
    column : pyarrow.StringArray, shape (n_rows,)
        The cells. Spaces at their ends do not count; empty cells are missing.
    rules : TextRules
        Further texts that are missing.

    Returns
    -------
    numbers, wrong
        As of `encode_typed`.
    """
    if isinstance(feature.kind, Numeric):
        numbers = _cast_numbers(column)
        if numbers is not None:
            return _with_gaps(feature, column, numbers)
    return _encode_distinct(feature, column, _make_text_reader(feature, rules))


def _cast_numbers(column: pa.Array) -> "Vector | None":
    """Return the numbers of a column of text, None if a cell is not plainly one."""
    try:
        numbers = pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        return None
    values = _to_doubles(numbers)
    # "inf" and "nan" are read cell by cell, since words may be gaps.
    is_plain = np.isfinite(values) | _is_null(column)
    return values if is_plain.all() else None


def _make_text_reader(feature: Feature, rules: TextRules) -> _Read:
    kind = feature.kind
    known: frozenset[str] = frozenset()
    if isinstance(kind, TextCategories):
        known = frozenset(kind.codes)
    convert = _CONVERT[type(kind)]

    def read(cell: str) -> Scalar | None:
        if cell in known:
            return cell
        text = cell.strip()
        if (not text or text in rules.gaps) and text not in known:
            return nan
        return convert(text)

    return read


def _parse_number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _encode_numbers(feature: Feature, column: pa.Array) -> Encoded:
    type_ = column.type
    if pa.types.is_floating(type_):
        return _with_gaps(feature, column, _to_doubles(column))
    if pa.types.is_integer(type_):
        integers = column.fill_null(0).to_numpy(zero_copy_only=False)
        numbers, wrong = _with_gaps(feature, column, integers.astype(np.float64))
        return numbers, wrong | _lose_digits(integers)
    if type_.precision <= _MAX_DIGITS:
        # Arrow's own conversion of decimals to doubles does not round to the nearest.
        cast = _cast_numbers(column.cast(pa.string()))
        if cast is not None:
            return _with_gaps(feature, column, cast)
    return _encode_distinct(feature, column, _read_number)


def _to_doubles(column: pa.Array) -> Vector:
    """Return the numbers of a column, NaN where null."""
    if column.type != pa.float64():
        column = column.cast(pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _lose_digits(integers: Any) -> Mask:
    """Return which integers a double cannot hold."""
    wrong = integers > MAX_INTEGER
    if integers.dtype.kind == "i":
        wrong |= integers < -MAX_INTEGER
    for position in wrong.nonzero()[0].tolist():
        value = int(integers[position])
        wrong[position] = int(float(value)) != value
    return np.asarray(wrong, np.bool_)


def _with_gaps(feature: Feature, column: pa.Array, numbers: Vector) -> Encoded:
    """Return numbers, NaN where the column is null, and where they are not allowed."""
    if column.null_count:
        numbers = np.where(_is_null(column), nan, numbers)
    return numbers, feature.find_wrong(numbers)


def _is_null(column: pa.Array) -> Mask:
    if not column.null_count:
        return np.zeros(len(column), np.bool_)
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), np.bool_)


def _encode_moments(feature: Feature, column: pa.Array) -> Encoded:
    """Encode dates and timestamps; further digits than microseconds are cut off."""
    is_null = _is_null(column)
    if pa.types.is_date(column.type):
        days = column.cast(pa.date32()).cast(pa.int32()).fill_null(0)
        whole = days.to_numpy(zero_copy_only=False).astype(np.int64) * _DAY_SECONDS
        micros = np.zeros(len(whole), np.int64)
    else:
        ticks = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        per_second = _TICKS[column.type.unit]
        whole = ticks // per_second
        micros = (ticks - whole * per_second) * _MICROS // per_second
    seconds = np.minimum(whole.astype(np.float64) + micros / 1e6, LAST_SECONDS)
    wrong = (whole < _MIN_SECONDS) | (whole >= _MAX_SECONDS)
    wrong = np.where(is_null, not feature.nullable, wrong)
    return np.where(is_null | wrong, nan, seconds), wrong


_TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def _encode_distinct(feature: Feature, column: pa.Array, read: _Read) -> Encoded:
    """Encode each distinct cell once: there are few."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    cells = _list_cells(column.dictionary)
    encoded = [_encode_cell(feature, cell, read) for cell in cells]
    # The last one stands for null.
    encoded.append(feature.encode(nan))
    codes = column.indices.fill_null(len(cells)).to_numpy(zero_copy_only=False)
    is_wrong = np.array([number is None for number in encoded])
    return np.array(encoded, np.float64)[codes], is_wrong[codes]


def _encode_cell(feature: Feature, cell: Any, read: _Read) -> float | None:
    value = nan if cell is None else read(cell)
    return None if value is None else feature.encode(value)


def _list_cells(dictionary: pa.Array) -> list[Any]:
    """Return cells as Python values; bytes that are no UTF-8 stay bytes."""
    try:
        return list(dictionary.to_pylist())
    except UnicodeDecodeError:
        return list(map(_decode, dictionary.cast(pa.binary()).to_pylist()))


def _decode(cell: bytes | None) -> str | bytes | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return cell


def _read_number(cell: Any) -> Scalar | None:
    """Return a number as a double; None if it would lose digits."""
    if isinstance(cell, float):
        return cell
    if isinstance(cell, bool) or not isinstance(cell, int | Decimal):
        return None
    try:
        number = float(cell)
    except OverflowError:
        return None
    if isinstance(cell, Decimal):
        # A fraction such as 0.1 has all digits if the double is written like it.
        kept = number == number and cell in (Decimal(number), Decimal(repr(number)))
        return number if kept else None
    return number if number == cell else None


def _read_text(cell: Any) -> Scalar | None:
    return cell if isinstance(cell, str) else None


def _read_truth(cell: Any) -> Scalar | None:
    return cell if isinstance(cell, bool) else None


def _read_moment(cell: Any) -> Scalar | None:
    """Return the text that a client sends for a date or time of day."""
    if hasattr(cell, "isoformat"):
        return str(cell.isoformat())
    number = _read_number(cell)
    if isinstance(number, float) and number.is_integer():
        return str(int(number))  # such as 20240131
    return nan if isinstance(number, float) and number != number else _read_text(cell)


def _read_time(cell: Any) -> Scalar | None:
    return str(cell.isoformat()) if hasattr(cell, "isoformat") else _read_text(cell)


_READ: dict[type, _Read] = {
    Boolean: _read_truth,
    TextCategories: _read_text,
    IntegerCategories: _read_number,
    Date: _read_moment,
    TimeOfDay: _read_time,
}
_CONVERT: dict[type, Callable[[str], Scalar | None]] = {
    Numeric: _parse_number,
    Boolean: _TRUTH.get,
    TextCategories: str,
    IntegerCategories: _parse_number,
    Date: str,
    TimeOfDay: str,
}


def _is_number(type_: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_)
    )


def is_text(type_: pa.DataType) -> bool:
    """Tell whether a type of columns is text."""
    types = pa.types
    return bool(
        types.is_string(type_)
        or types.is_large_string(type_)
        or types.is_string_view(type_)
    )


def _is_moment(type_: pa.DataType) -> bool:
    types = pa.types
    is_typed = types.is_date(type_) or types.is_timestamp(type_)
    return bool(is_typed or is_text(type_) or _is_number(type_))


def _is_time(type_: pa.DataType) -> bool:
    return bool(pa.types.is_time(type_) or is_text(type_))


def _find_zone_misfit(kind: Date, type_: pa.DataType) -> str:
    types = pa.types
    if types.is_date(type_) and kind.form.has_zone:
        return "timestamps with a zone"
    if not types.is_timestamp(type_):
        return ""
    if kind.form.has_zone:
        return "" if type_.tz else "timestamps with a zone"
    is_plain = type_.tz is None or type_.tz in _UTC_NAMES
    return "" if is_plain else "timestamps without a zone, or in UTC"


_TAKEN: dict[type, tuple[Callable[[pa.DataType], bool], str]] = {
    Numeric: (_is_number, "numbers"),
    Boolean: (pa.types.is_boolean, "true and false"),
    TextCategories: (is_text, "text"),
    IntegerCategories: (_is_number, "whole numbers"),
    Date: (_is_moment, "dates, timestamps or text"),
    TimeOfDay: (_is_time, "times of day or text"),
}
