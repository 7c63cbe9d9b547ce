"""Single values: NumPy's as Python's, and whether a double or UTF-8 can hold them."""

from datetime import date
from decimal import Decimal
from math import isfinite, isnan
from numbers import Real


def to_plain(value: object) -> object:
    """Convert a NumPy number, truth value or text to Python's type; return others unchanged."""
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "O") in "biufU" and getattr(value, "shape", None) == ():
        return value.item()  # type: ignore[attr-defined]  # NumPy's scalars have it
    return value


def is_missing(value: object) -> bool:
    """Tell whether a value is None, NaN or pandas' NaT."""
    if isinstance(value, date):
        # Only NaT differs from itself.
        return value != value
    return value is None or (isinstance(value, float) and isnan(value))


def to_double(value: object) -> float | None:
    """Convert a number to double precision; return None if it is not a finite number."""
    # The most frequent type. The others take several times longer.
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
    """Tell whether a double has all digits of the number from which it was made."""
    if isinstance(value, Decimal):
        # A fraction such as 0.1 has all digits if the double is written like it.
        return value in (Decimal(number), Decimal(repr(number)))
    return value == number


def is_unicode(text: str) -> bool:
    """Tell whether UTF-8, and so protobuf, can encode a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
