"""Errors for values that do not fit: the text that shows a value, and the exception."""

from collections.abc import Collection, Sequence
from datetime import date, datetime, time, timedelta

import grpc

from prediction._errors import FieldViolation, InvalidInstanceError

_MAX_SHOWN_CHARACTERS = 80


def show(value: object) -> str:
    """Show a value and its type, in bounded length."""
    # One text for both DataFrame libraries, whose types of times are subclasses of these.
    for kind in (datetime, date, time):
        if isinstance(value, kind):
            return f"{value.isoformat()} ({kind.__name__})"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s (timedelta)"
    return f"{shorten(repr(value))} ({type(value).__name__})"


def show_name(value: object) -> str:
    """Show a name, or another value without its type, in bounded length."""
    is_plain = isinstance(value, str) and value.isprintable()
    return shorten(f'"{value}"' if is_plain else repr(value))


def show_all(values: Collection[object], max_shown: int) -> str:
    """Show the first values, and the number of the others."""
    shown = [show_name(value) for value in list(values)[:max_shown]]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def shorten(text: str) -> str:
    """Shorten a text that an error repeats, to one line."""
    line = " ".join(text.split())
    if len(line) <= _MAX_SHOWN_CHARACTERS:
        return line
    return line[: _MAX_SHOWN_CHARACTERS - 1] + "…"


def raise_for(violations: Sequence[FieldViolation]) -> None:
    """Raise an error for the violations, if there are any."""
    if violations:
        more = len(violations) - 1
        suffix = f" (and {more} more)" if more else ""
        raise invalid(f"{violations[0]}{suffix}", violations)


def invalid(
    message: str, violations: Sequence[FieldViolation] = ()
) -> InvalidInstanceError:
    """Return the error for an instance that was not sent."""
    return InvalidInstanceError(
        grpc.StatusCode.INVALID_ARGUMENT, message, tuple(violations)
    )
