"""Iterates over the fields of an encoded message without decoding it.

https://protobuf.dev/programming-guides/encoding/ defines the format. This module knows no message
types.
"""

from collections.abc import Iterator
from typing import TypeAlias

from grpc_server.errors import MalformedMessage

# Wire types: how the content of a field is encoded.
VARINT, FIXED64, BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
# Field number of the elements in list messages.
ELEMENTS = 1
# Stands for the number of a field within a group; no field has it.
_WITHIN_GROUP = 0
# Bytes of an element with its tag; only varints of one byte count here.
_RUN_BYTES = {VARINT: 2, FIXED64: 9}
# Elements that are checked together, which limits the cost of a check that finds none.
_RUN_LENGTH = 1024
_MAX_VARINT_BITS = 70
_CUT_SHORT = "the message is cut short"

# Number, wire type, and start and end of the content.
Field: TypeAlias = tuple[int, int, int, int]


class WireReader(Iterator[Field]):
    """Iterates over the fields of an encoded message; fields within a group have the number 0.

    Parameters
    ----------
    message : bytes
        Bytes that contain the message.
    start, end : int
        Start and end of the message in the bytes.
    """

    def __init__(self, message: bytes, start: int, end: int) -> None:
        self.position = start
        self.depth = 0  # number of open groups
        self._message = message
        self._end = end

    def __next__(self) -> Field:
        """Return the next field.

        Raises
        ------
        MalformedMessage
            If the message is cut short, or the next bytes are not a field.
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
        """Skip unpacked numbers of a list that come next.

        Parameters
        ----------
        wire_type : int
            FIXED64, or VARINT, which skips numbers of one byte only.

        Returns
        -------
        int
            Number of skipped elements, [0, 1024].
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

    def skip_texts(self, element: int = ELEMENTS) -> int:
        """Skip strings of a list that come next; stop at a string of 128 bytes or more.

        Parameters
        ----------
        element : int
            Number of the list's field, [1, 15].

        Returns
        -------
        int
            Number of skipped elements, [0, 1024].
        """
        message, position, tag = self._message, self.position, element << 3 | BYTES
        last = self._end - 2  # last position with room for a tag and a length
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
        """Move past the content of a field, and return its start."""
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
