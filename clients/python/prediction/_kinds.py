"""Kinds of features: which cells fit, how they are sent, and what errors say of the others."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from typing import TypeAlias

from prediction._models import Feature, FeatureKind
from prediction._scalars import (
    is_missing,
    is_unicode,
    keeps_digits,
    to_double,
    to_plain,
)
from prediction._violations import show, show_all

_MAX_SHOWN = 10
_ALLOWED = {
    FeatureKind.NUMERIC: "a finite number",
    FeatureKind.BOOLEAN: "True or False",
    FeatureKind.CATEGORICAL_TEXT: "a text",
    FeatureKind.CATEGORICAL_INTEGER: "a whole number",
    FeatureKind.DATE: "a date",
    FeatureKind.TIME: "a time of day",
}

Scalar: TypeAlias = float | str | bool


@dataclass(frozen=True, slots=True)
class WireForm:
    """How the client sends the values of a feature.

    Attributes
    ----------
    field : str
        Field of the message Column that holds them.
    filler : float, str or bool
        Value that is sent in place of a missing one.
    convert : callable
        Takes a cell that is not missing. Returns its value, or None if it is not allowed.
    """

    field: str
    filler: Scalar
    convert: Callable[[object], Scalar | None]


def wire_form(feature: Feature) -> WireForm | None:
    """Return how to send the values of a feature, or None for an unknown kind."""
    match feature.kind:
        case FeatureKind.NUMERIC:
            return WireForm("doubles", 0.0, _number)
        case FeatureKind.BOOLEAN:
            return WireForm("booleans", False, _truth)
        case FeatureKind.CATEGORICAL_TEXT:
            return WireForm("strings", "", _text_category(feature))
        case FeatureKind.CATEGORICAL_INTEGER:
            return WireForm("doubles", 0.0, _integer_category(feature))
        case FeatureKind.DATE:
            return WireForm("strings", "", _date)
        case FeatureKind.TIME:
            return WireForm("strings", "", _time)
        case _:
            return None


def problem(feature: Feature, cell: object) -> str:
    """Describe why a cell is not allowed."""
    if is_missing(cell):
        return "a missing value is not allowed"
    plain = to_plain(cell)
    number = to_double(plain)
    takes_numbers = feature.kind in (
        FeatureKind.NUMERIC,
        FeatureKind.CATEGORICAL_INTEGER,
    )
    if takes_numbers and number is not None and not keeps_digits(plain, number):
        return f"{show(plain)} would lose digits in double precision"
    return f"{show(plain)} is not allowed"


def allowed(feature: Feature) -> str:
    """Describe what the cells of a feature may hold."""
    words = _ALLOWED.get(feature.kind, "")
    if feature.categories:
        known = show_all(feature.categories, _MAX_SHOWN)
        count = len(feature.categories)
        words = (
            f"one of {count} categories ({known})"
            if feature.refuse_unknown
            else f"{words}, such as one of {count} categories ({known}),"
        )
    if feature.format:
        words = f"{words}, or a text of the form {feature.format} or of ISO 8601,"
    return f"{words} or a missing value" if feature.nullable else words


def _number(cell: object) -> float | None:
    if type(cell) is float:
        return to_double(cell)
    plain = to_plain(cell)
    number = to_double(plain)
    return number if number is not None and keeps_digits(plain, number) else None


def _truth(cell: object) -> bool | None:
    plain = to_plain(cell)
    return plain if isinstance(plain, bool) else None


def _date(cell: object) -> str | None:
    """Return the text of a date; the server reads it, and names the texts that do not fit."""
    # A period of pandas stands for its first moment, as in training.
    start = getattr(cell, "start_time", cell)
    if isinstance(start, date):
        return start.isoformat()
    number = _number(cell)
    if number is not None and number.is_integer():
        # Such as 20240131.
        return str(int(number))
    return cell if isinstance(cell, str) and is_unicode(cell) else None


def _time(cell: object) -> str | None:
    if isinstance(cell, time):
        return cell.isoformat()
    return cell if isinstance(cell, str) and is_unicode(cell) else None


def _text_category(feature: Feature) -> Callable[[object], str | None]:
    known = frozenset(feature.categories)

    def convert(cell: object) -> str | None:
        if not isinstance(cell, str):
            return None
        if cell in known:
            return cell
        return None if feature.refuse_unknown or not is_unicode(cell) else cell

    return convert


def _integer_category(feature: Feature) -> Callable[[object], float | None]:
    known = frozenset(feature.categories)

    def convert(cell: object) -> float | None:
        number = _number(cell)
        if number is None or not number.is_integer():
            return None
        return None if feature.refuse_unknown and int(number) not in known else number

    return convert
