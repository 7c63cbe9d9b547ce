"""Single values: NumPy's as Python's own, and what of them a double or UTF-8 can carry."""

from decimal import Decimal
from math import isfinite, isnan
from numbers import Real


def to_plain(value: object) -> object:
    """Return a NumPy number, truth value or text as Python's own; anything else as it is."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "O") in "biufU" and getattr(value, "shape", None) == ():
        return value.item()  # type: ignore[attr-defined]  # NumPy's scalars have it
    return value


def is_missing(value: object) -> bool:
    """Tell None and NaN from what is there."""
    return value is None or (isinstance(value, float) and isnan(value))


def to_double(value: object) -> float | None:
    """Return a number in double precision; None if it is no number, or not finite."""
    # By far the most frequent type; the others take several times longer.
    if type(value) is float:
        return value if isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if isfinite(number) else None


def keeps_digits(value: object, number: float) -> bool:
    """Tell whether a double is all of the number that it was made from."""
    if isinstance(value, Decimal):
        # Of a fraction such as 0.1, the digits that the double is written with count.
        return value in (Decimal(number), Decimal(repr(number)))
    return value == number


def is_unicode(text: str) -> bool:
    """Tell whether protobuf can carry a text: whether UTF-8 can encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
