"""The numbers that a model gets of a date or a time of day, by name.

Each is computed by the same operations, in the same order, of one double or of an array of them. So
training and the server agree to the last bit. NaN, a gap, gives NaN.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from date_columns.forms import DATE, TIME

_DAY_SECONDS = 86_400.0


def _find_day(seconds: Any) -> Any:
    """Return the whole days since 1970-01-01."""
    return seconds // _DAY_SECONDS


def _find_month_and_year(seconds: Any) -> tuple[Any, Any]:
    """Return month and year of the Gregorian calendar, by eras of 400 years from a first of March.

    All numbers are whole and below 2**53, so doubles hold them exactly.
    """
    shifted = _find_day(seconds) + 719_468.0
    era = shifted // 146_097.0
    day = shifted - era * 146_097.0
    year = (day - day // 1460.0 + day // 36_524.0 - day // 146_096.0) // 365.0
    day_of_year = day - (365.0 * year + year // 4.0 - year // 100.0)
    month = (5.0 * day_of_year + 2.0) // 153.0
    # 10 and 11 are January and February of the next year.
    is_next = month // 10.0
    return month + 3.0 - 12.0 * is_next, year + era * 400.0 + is_next


def count_days(seconds: Any) -> Any:
    """Return the days since 1970-01-01T00:00:00Z, with their fraction."""
    return seconds / _DAY_SECONDS


def find_year(seconds: Any) -> Any:
    """Return the year, [1, 9999]."""
    return _find_month_and_year(seconds)[1]


def find_month(seconds: Any) -> Any:
    """Return the month, [1, 12]."""
    return _find_month_and_year(seconds)[0]


def find_weekday(seconds: Any) -> Any:
    """Return the day of the week, [0, 6], 0 for Monday."""
    return (_find_day(seconds) + 3.0) % 7.0


def find_hour(seconds: Any) -> Any:
    """Return the hour, [0, 23]."""
    return (seconds - _find_day(seconds) * _DAY_SECONDS) // 3600.0


def count_seconds(seconds: Any) -> Any:
    """Return the seconds since midnight of a time of day."""
    return seconds


Part = Callable[[Any], Any]
# The first part of a kind is always taken, the others if they vary.
PARTS: Mapping[str, Mapping[str, Part]] = MappingProxyType(
    {
        DATE: MappingProxyType(
            {
                "days": count_days,
                "year": find_year,
                "month": find_month,
                "weekday": find_weekday,
                "hour": find_hour,
            }
        ),
        TIME: MappingProxyType({"seconds": count_seconds, "hour": find_hour}),
    }
)
