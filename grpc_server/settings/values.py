"""What several settings allow: each parses a text, or says in a ValueError what is allowed.

What one group alone allows is beside its fields.
"""

from collections.abc import Callable
from math import nan
from pathlib import Path


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return the parser of integers in [low, high]."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"an integer in [{low}, {high}]") from None
        if not low <= value <= high:
            raise ValueError(f"an integer in [{low}, {high}]")
        return value

    return parse


def _read_number(text: str) -> float:
    """Return NaN, which is in no range, for what is no number."""
    try:
        return float(text)
    except ValueError:
        return nan


def seconds(text: str) -> float:
    """Parse a time that may be 0."""
    value = _read_number(text)
    if not 0 <= value <= 3600:
        raise ValueError("a number of seconds in [0, 3600]")
    return value


def positive_seconds(text: str) -> float:
    """Parse a time above 0."""
    value = _read_number(text)
    if not 0 < value <= 3600:
        raise ValueError("a number of seconds in (0, 3600]")
    return value


def share(text: str) -> float:
    """Parse a share above 0."""
    value = _read_number(text)
    if not 0 < value <= 1:
        raise ValueError("a number in (0, 1]")
    return value


def share_or_none(text: str) -> float:
    """Parse a share that may be 0."""
    value = _read_number(text)
    if not 0 <= value <= 1:
        raise ValueError("a number in [0, 1]")
    return value


def boolean(text: str) -> bool:
    """Parse a truth value."""
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError("true or false") from None


def path(text: str) -> Path:
    """Parse the path of a file or a folder."""
    if not text:
        raise ValueError("a path")
    return Path(text)
