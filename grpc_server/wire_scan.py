"""Counts what is in an encoded batch without decoding it.

Decoding is one call that nothing else in the process can interrupt, and it takes memory for every
element: 16 MiB of empty columns take 0.7 s and 400 MiB. This module goes through the message field
by field, which other threads may interrupt, and stops at the first count beyond its bound. The
format is that of https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from grpc_server.errors import BatchTooLarge, MalformedMessage

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
# Fields of prediction.v1.BatchPredictRequest, Column and its values.
_VALUES, _COLUMNS = 1, 2
_NAME, _DOUBLES, _STRINGS, _MISSING_ROWS = 1, 2, 3, 5
_ELEMENTS = 1
# Fields that a message of a newer client may have besides, and parts that protobuf would merge.
_MAX_OTHER_FIELDS = 64
# Bytes of texts that are decoded in some 8 ms even if each text is empty.
_MAX_UNCOUNTED_TEXT_BYTES = 1024 * 1024

# The most bytes that the number of a row takes.
_MISSING_ROW_BYTES = 5

# Number, wire type, and where the content begins and ends.
_Field: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """What a batch may hold.

    Parameters
    ----------
    n_features : int
        Features of the model.
    max_rows : int
        The most rows of one batch.
    """

    n_features: int
    max_rows: int


def scan_batch(message: bytes, start: int, end: int, bounds: BatchBounds) -> None:
    """Go through an encoded BatchPredictRequest.

    Parameters
    ----------
    message : bytes
        What holds the request.
    start, end : int
        Where it begins and ends in `message`.
    bounds : BatchBounds
        What it may hold.

    Raises
    ------
    BatchTooLarge
        If it has more rows.
    MalformedMessage
        If it has more columns or fields, or is cut short.
    """
    _BatchScan(message, bounds).scan(start, end)


def fields_of(message: bytes, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of an encoded message; a group's content counts as fields of its own.

    Raises
    ------
    MalformedMessage
        If the message is cut short.
    """
    position = start
    while position < end:
        tag, position = _read_varint(message, position, end)
        wire_type = tag & 7
        content = position
        if wire_type == _VARINT:
            _, position = _read_varint(message, position, end)
        elif wire_type == _BYTES:
            length, content = _read_varint(message, position, end)
            position = content + length
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        elif wire_type not in (_GROUP, _GROUP_END):
            raise MalformedMessage("the message cannot be decoded")
        if position > end:
            raise MalformedMessage("the message is cut short")
        yield tag >> 3, wire_type, content, position


def _read_varint(message: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise MalformedMessage("the message is cut short")


class _Counter:
    """Counts up to a bound, and raises an error beyond it."""

    def __init__(self, bound: int, make_error: Callable[[], Exception]) -> None:
        self._left = bound
        self._make_error = make_error

    def add(self, count: int = 1) -> None:
        self._left -= count
        if self._left < 0:
            raise self._make_error()


class _BatchScan:
    """The counts of one batch."""

    def __init__(self, message: bytes, bounds: BatchBounds) -> None:
        self._message = message
        self._bounds = bounds
        n_features, max_rows = bounds.n_features, bounds.max_rows
        self._values = _Counter(n_features * max_rows, self._too_many_rows)
        self._columns = _Counter(n_features + _MAX_OTHER_FIELDS, self._too_many_columns)
        self._others = _Counter(_MAX_OTHER_FIELDS, _too_many_fields)
        self._text_bytes = 0

    def scan(self, start: int, end: int) -> None:
        """Go through the fields of the batch."""
        for number, wire_type, content, after in fields_of(self._message, start, end):
            if number == _COLUMNS and wire_type == _BYTES:
                self._columns.add()
                self._scan_column(content, after)
            elif number == _VALUES and wire_type == _FIXED64:
                self._values.add()
            elif number == _VALUES and wire_type == _BYTES:
                # A copy of memory, however long: the number of rows is looked at when it is there.
                self._others.add()
            else:
                self._others.add()

    def _scan_column(self, start: int, end: int) -> None:
        rows = _Counter(self._bounds.max_rows, self._too_many_rows)
        missing = _Counter(
            _MISSING_ROW_BYTES * self._bounds.max_rows, self._too_many_missing_rows
        )
        others = _Counter(_MAX_OTHER_FIELDS, _too_many_fields)
        for number, wire_type, content, after in fields_of(self._message, start, end):
            if number == _MISSING_ROWS:
                is_packed = wire_type == _BYTES
                missing.add(after - content if is_packed else _MISSING_ROW_BYTES)
                continue
            others.add()
            if wire_type == _BYTES and number != _NAME:
                self._scan_values(number, content, after, rows)

    def _scan_values(self, field: int, start: int, end: int, rows: _Counter) -> None:
        if field == _STRINGS:
            self._text_bytes += end - start
            if self._text_bytes <= _MAX_UNCOUNTED_TEXT_BYTES:
                return
        others = _Counter(_MAX_OTHER_FIELDS, _too_many_fields)
        for number, wire_type, content, after in fields_of(self._message, start, end):
            if number != _ELEMENTS:
                others.add()
            elif wire_type == _BYTES and field != _STRINGS:
                # Packed: of 8 bytes each, or one where they are truth values.
                rows.add((after - content) // (8 if field == _DOUBLES else 1))
            else:
                rows.add()

    def _too_many_rows(self) -> Exception:
        return BatchTooLarge(
            f"more than {self._bounds.max_rows} rows came, the most that the server takes in a "
            "call; its flag --max-batch-rows allows more"
        )

    def _too_many_missing_rows(self) -> Exception:
        return BatchTooLarge(
            f"a column has more than {self._bounds.max_rows} missing_rows, the most rows that the "
            "server takes in a call"
        )

    def _too_many_columns(self) -> Exception:
        return MalformedMessage(
            f"the request has too many columns; the model has {self._bounds.n_features} features"
        )


def _too_many_fields() -> Exception:
    return MalformedMessage(
        "the request has too many fields that the server does not know"
    )
