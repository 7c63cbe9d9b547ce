"""Walks through the fields of an encoded message without decoding it.

The format is that of https://protobuf.dev/programming-guides/encoding/. This module knows no type
of message.
"""

from collections.abc import Iterator
from typing import TypeAlias

from grpc_server.errors import MalformedMessage

# Wire types: how the content of a field is written.
VARINT, FIXED64, BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
# The number of the elements in messages that are lists.
ELEMENTS = 1
# The number of what is within a group: no field has it.
_WITHIN_GROUP = 0
# Bytes of an element with its tag; a varint is of one byte here.
_RUN_BYTES = {VARINT: 2, FIXED64: 9}
# Elements that are looked at together, which bounds what a look in vain costs.
_RUN_LENGTH = 1024
_MAX_VARINT_BITS = 70
_CUT_SHORT = "the message is cut short"

# Number, wire type, and where the content begins and ends.
Field: TypeAlias = tuple[int, int, int, int]


class WireReader(Iterator[Field]):
    """Iterates over the fields of an encoded message; those within a group have the number 0.

    Parameters
    ----------
    message : bytes
        What holds the message.
    start, end : int
        Where it begins and ends.
    """

    def __init__(self, message: bytes, start: int, end: int) -> None:
        self.position = start
        self.depth = 0  # of the groups that are open
        self._message = message
        self._end = end

    def __next__(self) -> Field:
        """Return the next field.

        Raises
        ------
        MalformedMessage
            If the message is cut short, or this is no field.
        """
        if self.position >= self._end:
            if self.depth:
                raise MalformedMessage(_CUT_SHORT)
            raise StopIteration
        tag = self._read_varint()
        number = _WITHIN_GROUP if self.depth else tag >> 3
        start = self._skip(tag & 7)
        if self.position > self._end:
            raise MalformedMessage(_CUT_SHORT)
        return number, tag & 7, start, self.position

    def skip_numbers(self, wire_type: int) -> int:
        """Skip elements of a list of numbers that come one by one; return how many, up to 1024.

        Parameters
        ----------
        wire_type : int
            VARINT, of which those of one byte are skipped, or FIXED64.
        """
        size = _RUN_BYTES[wire_type]
        n_whole = min((self._end - self.position) // size, _RUN_LENGTH)
        run = self._message[self.position : self.position + n_whole * size]
        tags = run[::size]
        count = n_whole - len(tags.lstrip(bytes([ELEMENTS << 3 | wire_type])))
        if wire_type == VARINT:
            numbers = run[1 : count * size : size]
            count = next((n for n, byte in enumerate(numbers) if byte > 127), count)
        self.position += count * size
        return count

    def skip_texts(self) -> int:
        """Skip elements of a list of texts that come next; return how many, up to 1024.

        Texts of 128 bytes or more are left.
        """
        message, position, tag = self._message, self.position, ELEMENTS << 3 | BYTES
        last = self._end - 2  # where a field has a tag and a length
        count = 0
        while count < _RUN_LENGTH and position <= last and message[position] == tag:
            length = message[position + 1]
            if length > 127 or position + 2 + length > self._end:
                break
            position += 2 + length
            count += 1
        self.position = position
        return count

    def _skip(self, wire_type: int) -> int:
        """Go behind the content of a field, and return where it begins."""
        start = self.position
        if wire_type == VARINT:
            self._read_varint()
        elif wire_type == BYTES:
            length = self._read_varint()
            start = self.position
            self.position += length
        elif wire_type in (FIXED64, _FIXED32):
            self.position += 8 if wire_type == FIXED64 else 4
        elif wire_type == _GROUP:
            self.depth += 1
        elif wire_type == _GROUP_END and self.depth:
            self.depth -= 1
        else:
            raise MalformedMessage("the message cannot be decoded")
        return start

    def _read_varint(self) -> int:
        value = shift = 0
        while self.position < self._end and shift < _MAX_VARINT_BITS:
            byte = self._message[self.position]
            self.position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise MalformedMessage(_CUT_SHORT)
