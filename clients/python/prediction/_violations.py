"""How the client tells of what does not fit: values as an error repeats them, and the error."""

from collections.abc import Collection, Sequence
from datetime import date, datetime, time, timedelta

import grpc

from prediction._errors import FieldViolation, InvalidInstanceError

_MAX_SHOWN_CHARACTERS = 80


def show(value: object) -> str:
    """Return a value and its type, in bounded length."""
    # As in every library of frames, whose own types of times are subclasses of these.
    for kind in (datetime, date, time):
        if isinstance(value, kind):
            return f"{value.isoformat()} ({kind.__name__})"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s (timedelta)"
    return f"{shorten(repr(value))} ({type(value).__name__})"


def show_name(value: object) -> str:
    """Return a name, or another value without its type, in bounded length."""
    is_plain = isinstance(value, str) and value.isprintable()
    return shorten(f'"{value}"' if is_plain else repr(value))


def show_all(values: Collection[object], max_shown: int) -> str:
    """Return the first values, and how many more there are."""
    shown = [show_name(value) for value in list(values)[:max_shown]]
    more = len(values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def shorten(text: str) -> str:
    """Bound what an error repeats, on one line."""
    line = " ".join(text.split())
    if len(line) <= _MAX_SHOWN_CHARACTERS:
        return line
    return line[: _MAX_SHOWN_CHARACTERS - 1] + "…"


def raise_for(violations: Sequence[FieldViolation]) -> None:
    """Raise for the violations, if there are any."""
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
