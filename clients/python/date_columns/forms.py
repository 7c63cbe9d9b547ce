"""Reads one date or time of day in the form of its column, and writes it.

A date is seconds since 1970-01-01T00:00:00Z, a time of day is seconds since midnight: a double,
exact to the microsecond or to its last bit. Further digits of a second are cut off.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from math import nextafter
from numbers import Real
from typing import Protocol

DATE, TIME = "date", "time"
ISO_DATE, ISO_TIME = "%Y-%m-%d", "%H:%M:%S"
ISO_ZONED = "%Y-%m-%dT%H:%M:%S%z"
# No date that people write is longer.
MAX_CHARACTERS = 100
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_SECONDS = 86_400
_MIN_SECONDS = (date.min.toordinal() - _EPOCH) * _DAY_SECONDS
_MAX_SECONDS = (date.max.toordinal() + 1 - _EPOCH) * _DAY_SECONDS
# The last double before the year 10000. 9999-12-31T23:59:59.999999 has more digits than a double.
LAST_SECONDS = nextafter(_MAX_SECONDS, 0.0)
# Two digits from this number on are years of the last century, as in POSIX.
_FIRST_OF_1900 = 69
# English and German names of the months.
_MONTHS: Mapping[str, int] = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar",
            "feb february februar",
            "mar march mär märz maerz mrz",
            "apr april",
            "may mai",
            "jun june juni",
            "jul july juli",
            "aug august",
            "sep sept september",
            "oct october okt oktober",
            "nov november",
            "dec december dez dezember",
        ),
        start=1,
    )
    for name in names.split()
}
_ZONE = r"(?P<z>z|utc|gmt|[+-][0-9]{2}(?::?[0-9]{2})?)"
_CLOCK = (
    r"(?P<H>[0-9]{1,2})(?::(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]+))?)?)?"
    rf"(?:\s*(?P<p>[ap])\.?m\.?)?(?:\s*{_ZONE})?"
)
_COMPACT_CLOCK = (
    r"(?P<H>[0-9]{2})(?P<M>[0-9]{2})(?:(?P<S>[0-9]{2})(?:[.,](?P<f>[0-9]+))?)?"
    rf"(?:\s*{_ZONE})?"
)
# SAS and the logs of web servers write a colon.
_BEFORE_CLOCK = r"(?:\s*[t,]\s*|\s+|:)"
_PATTERNS: Mapping[str, str] = {
    "Y": r"(?P<Y>[0-9]{4})",
    "y": r"(?P<y>[0-9]{2})",
    "m": r"(?P<m>[0-9]{1,2})",
    "d": r"(?P<d>[0-9]{1,2})(?:st|nd|rd|th)?",
    "b": r"(?P<b>[^\W\d_]{3,10})\.?",
    "B": r"(?P<b>[^\W\d_]{3,10})\.?",
    "a": r"(?P<a>[^\W\d_]{2,10})\.?",
    "A": r"(?P<a>[^\W\d_]{2,10})\.?",
    "%": "%",
}
# The part of a format that is a clock. A cell's clock may have fewer or more digits.
_CLOCK_OF_FORMAT = re.compile(
    r"%[HI](?P<colon>:?)(?:%M(?::?%S(?:[.,]%f)?)?)?(?:\s*%p)?(?:\s*%z)?"
)


class _Match(Protocol):
    """The part of re.Match that is used here."""

    def groupdict(self) -> dict[str, str | None]:
        """Return the named parts of a text, None for those that it lacks."""
        ...


@dataclass(frozen=True)
class DateForm:
    """How the cells of a column are written.

    Parameters
    ----------
    kind : {"date", "time"}
        A date, which may have a time of day; or a time of day alone.
    format : str
        Directives of `strftime`, such as "%d/%m/%Y". A clock may follow a date whose format has
        none. With %z, each cell states its offset from UTC; without, none does, except for Z.

    Raises
    ------
    ValueError
        If the format is longer than `MAX_CHARACTERS`, or has an unknown directive, one of them
        twice, not one year and one month, or a character that cannot be shown.
    """

    kind: str
    format: str

    def __post_init__(self) -> None:
        """Compile the format, which checks it."""
        if len(self.format) > MAX_CHARACTERS:
            raise ValueError(
                f"{self.format[:MAX_CHARACTERS]!r} goes on for {len(self.format)} characters, and "
                f"a format has {MAX_CHARACTERS} at most"
            )
        if not self.format.isprintable():
            raise ValueError(f"{self.format!r} has a character that cannot be shown")
        names = self._pattern.groupindex
        counts = [len(set(each) & set(names)) for each in ("Yy", "mb")]
        if self.kind == DATE and counts != [1, 1]:
            raise ValueError(
                f"{self.format!r} has not one year (%Y, %y) and one month (%m, %b)"
            )
        if self.kind == TIME and set(names) & set("Yymdb"):
            raise ValueError(f"{self.format!r} has a date, and a time of day has none")
        if self.kind == TIME and self.has_zone:
            raise ValueError(f"{self.format!r} has a zone, and a time of day has none")

    @property
    def has_zone(self) -> bool:
        """Whether each cell states its offset from UTC."""
        return "%z" in self.format

    @property
    def allowed(self) -> str:
        """The allowed texts, in words."""
        day = datetime(2024, 1, 31, 10, 30, tzinfo=UTC)
        example = f'"{day.strftime(self.format)}"'
        if self.kind == TIME:
            return f"a time of day such as {example}"
        iso = day.isoformat() if self.has_zone else "2024-01-31T10:30:00"
        return f'a date such as {example} ({self.format}) or "{iso}"'

    def read(self, cell: object) -> float | None:
        """Read a cell that is not missing.

        Parameters
        ----------
        cell : object
            Text, or an object with `isoformat`, or a whole number such as 20240131.

        Returns
        -------
        float or None
            Seconds; None if the cell is no date of this form.
        """
        if isinstance(cell, str):
            return self.parse(cell)
        if hasattr(cell, "isoformat"):
            return self.parse(cell.isoformat())
        if isinstance(cell, bool) or not isinstance(cell, Real):
            return None
        number = float(cell)
        return self.parse(f"{number:.0f}") if number.is_integer() else None

    def parse(self, text: str, *, as_iso: bool = True) -> float | None:
        """Read a text.

        Parameters
        ----------
        text : str
            The text; spaces at its ends do not count.
        as_iso : bool, default=True
            Whether a date in ISO 8601's form is read too, as RFC 3339 has it.

        Returns
        -------
        float or None
            Seconds; None if the text is no date of this form.
        """
        text = text.strip()
        if len(text) > MAX_CHARACTERS:
            return None
        found: _Match | None = self._pattern.fullmatch(text)
        if found is None and as_iso and self.kind == DATE:
            found = self._iso_pattern.fullmatch(text)
        return None if found is None else self._to_seconds(found.groupdict())

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return _compile(self.format, clock_may_follow=self.kind == DATE)

    @cached_property
    def _iso_pattern(self) -> re.Pattern[str]:
        return _compile(ISO_DATE, clock_may_follow=True)

    def _to_seconds(self, parts: Mapping[str, str | None]) -> float | None:
        clock = _read_clock(parts)
        offset = _read_offset(parts.get("z"))
        if clock is None or offset is None or not self._takes_zone(parts, offset):
            return None
        if self.kind == TIME:
            return clock[0] + clock[1] / 1e6
        day = _read_day(parts)
        if day is None:
            return None
        whole = day * _DAY_SECONDS + clock[0] - offset
        if not _MIN_SECONDS <= whole < _MAX_SECONDS:
            return None
        return min(float(whole) + clock[1] / 1e6, LAST_SECONDS)

    def _takes_zone(self, parts: Mapping[str, str | None], offset: int) -> bool:
        has_zone = parts.get("z") is not None
        if self.kind == TIME:
            return not has_zone and parts.get("H") is not None
        return has_zone if self.has_zone else offset == 0

    def write(self, seconds: float) -> str:
        """Write seconds as text that `parse` reads as the same double.

        Parameters
        ----------
        seconds : float
            Not NaN, from `parse`.

        Returns
        -------
        str
            ISO 8601, as RFC 3339 has it; with "Z" if the column has zones.
        """
        whole = int(seconds // 1)
        micros = round((seconds - whole) * 1e6)
        moment = datetime(1970, 1, 1) + timedelta(seconds=whole, microseconds=micros)
        if self.kind == TIME:
            return moment.time().isoformat()
        return moment.isoformat() + ("Z" if self.has_zone else "")


def _compile(format_: str, *, clock_may_follow: bool) -> re.Pattern[str]:
    clock = _CLOCK_OF_FORMAT.search(format_)
    if clock is None:
        pattern = "".join(_translate(format_))
        if clock_may_follow:
            pattern += f"(?:{_BEFORE_CLOCK}{_CLOCK})?"
    else:
        before = format_[: clock.start()]
        date_part = before.rstrip(" T,")
        is_compact = "%M" in clock[0] and not clock["colon"]
        pattern = "".join(_translate(date_part))
        if date_part:
            pattern += _BEFORE_CLOCK if date_part != before else ""
        pattern += _COMPACT_CLOCK if is_compact else _CLOCK
        pattern += "".join(_translate(format_[clock.end() :]))
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{format_!r} is no format of dates: {error}") from None


def _translate(format_: str) -> Iterator[str]:
    """Yield the regular expressions of a format's directives and of the text between them."""
    tokens = re.findall(r"%.?|\s+|[^%\s]+", format_)
    for before, token, after in zip(
        ["", *tokens], tokens, [*tokens[1:], ""], strict=False
    ):
        if token.isspace():
            yield r"\s+"
        elif not token.startswith("%"):
            yield re.escape(token)
        elif before.startswith("%") or after.startswith("%"):
            # Without a separator, numbers have all their digits.
            yield _find_pattern(format_, token).replace("{1,2}", "{2}")
        else:
            yield _find_pattern(format_, token)


def _find_pattern(format_: str, token: str) -> str:
    if token[1:] not in _PATTERNS:
        known = ", ".join(f"%{name}" for name in (*_PATTERNS, *"HIMSfpz"))
        raise ValueError(f"{format_!r} has {token!r}; the directives are {known}")
    return _PATTERNS[token[1:]]


def _read_day(parts: Mapping[str, str | None]) -> int | None:
    """Return the days since 1970-01-01, None if there is no such day."""
    year = int(parts.get("Y") or parts.get("y") or 0)
    if parts.get("Y") is None:
        year += 1900 if year >= _FIRST_OF_1900 else 2000
    name = parts.get("b")
    month = _MONTHS.get(name.casefold(), 0) if name else int(parts.get("m") or 0)
    try:
        return date(year, month, int(parts.get("d") or 1)).toordinal() - _EPOCH
    except ValueError:
        return None


def _read_clock(parts: Mapping[str, str | None]) -> tuple[int, int] | None:
    """Return seconds since midnight and microseconds, None if there is no such time."""
    if parts.get("H") is None:
        return 0, 0
    half = (parts.get("p") or "").casefold()
    if parts.get("M") is None and not half:
        return None
    hour, minute, second = (int(parts.get(name) or 0) for name in "HMS")
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half == "p")
    if hour > 23 or minute > 59 or second > 59:
        return None
    micros = int(((parts.get("f") or "") + "000000")[:6])
    return hour * 3600 + minute * 60 + second, micros


def _read_offset(zone: str | None) -> int | None:
    """Return an offset from UTC in seconds, None if there is no such offset."""
    if zone is None or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 23 or minutes > 59:
        return None
    seconds = hours * 3600 + minutes * 60
    return -seconds if zone[0] == "-" else seconds
