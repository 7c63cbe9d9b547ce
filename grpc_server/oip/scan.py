"""Counts the parts of an encoded ModelInferRequest, before it is decoded.

Decoding blocks everything else in the process, and each part takes memory: 16 MiB of empty inputs
would take seconds and a gigabyte. The scan goes field by field, while other threads may run, and
stops at the first count beyond its limit.
"""

from dataclasses import dataclass

from grpc_server.errors import BatchTooLarge, MalformedMessage
from grpc_server.rpc.wire_format import BYTES, FIXED64, VARINT, WireReader

# Fields of inference.ModelInferRequest, of an input and of its contents.
_PARAMETERS, _INPUTS, _OUTPUTS, _RAW = 4, 5, 6, 7
_SHAPE, _CONTENTS = 3, 5
_FLOATS, _DOUBLES, _TEXTS = 6, 7, 8
# Parts besides inputs: parameters, outputs, and what a newer client may send.
_MAX_OTHERS = 256
_MAX_OTHERS_OF_INPUT = 16
_MAX_SHAPE_BYTES = 128
# Bytes that do not end a number of variable length.
_UNFINISHED = bytes(range(128, 256))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a request.

    Parameters
    ----------
    n_features : int
        Number of features of the model, 1 or more.
    max_rows : int
        Most rows, 1 or more.
    """

    n_features: int
    max_rows: int


class RequestScan:
    """Scans one encoded request.

    Parameters
    ----------
    message : bytes
        The request.
    bounds : Bounds
        Its limits.
    """

    def __init__(self, message: bytes, bounds: Bounds) -> None:
        self._message = message
        self._bounds = bounds
        n_features = bounds.n_features
        self._inputs_left = self._raw_left = n_features + _MAX_OTHERS
        self._others_left = _MAX_OTHERS + _MAX_OTHERS_OF_INPUT * n_features
        self._elements_left = n_features * bounds.max_rows

    def check(self) -> None:
        """Refuse a request with more parts than any request to the model needs.

        Raises
        ------
        MalformedMessage
            If there are too many inputs or fields, or the message is cut short.
        BatchTooLarge
            If there are more elements than the most rows have.
        """
        fields = WireReader(self._message, 0, len(self._message))
        for number, wire_type, start, end in fields:
            if number == _INPUTS and wire_type == BYTES:
                self._inputs_left -= 1
                self._scan_input(start, end)
            elif number == _RAW and wire_type == BYTES:
                self._raw_left -= 1
            else:
                self._others_left -= 1
            if min(self._inputs_left, self._raw_left, self._others_left) < 0:
                raise self._too_many()

    def _scan_input(self, start: int, end: int) -> None:
        for number, wire_type, begin, after in WireReader(self._message, start, end):
            self._count_other()
            if number == _SHAPE and after - begin > _MAX_SHAPE_BYTES:
                raise MalformedMessage("the shape of an input has too many dimensions")
            if number == _CONTENTS and wire_type == BYTES:
                self._scan_contents(begin, after)

    def _scan_contents(self, start: int, end: int) -> None:
        reader = WireReader(self._message, start, end)
        for number, wire_type, begin, after in reader:
            if number == _TEXTS and wire_type == BYTES:
                self._count_elements(1 + reader.skip_texts(_TEXTS))
            elif wire_type == BYTES:
                self._count_other()
                self._count_elements(self._count_packed(number, begin, after))
            elif wire_type in (VARINT, FIXED64):
                self._count_elements(1)
            else:
                self._count_elements(1)

    def _count_packed(self, number: int, start: int, end: int) -> int:
        if number in (_FLOATS, _DOUBLES):
            return (end - start) // (4 if number == _FLOATS else 8)
        return len(self._message[start:end].translate(None, _UNFINISHED))

    def _count_other(self) -> None:
        self._others_left -= 1
        if self._others_left < 0:
            raise self._too_many()

    def _count_elements(self, count: int) -> None:
        self._elements_left -= count
        if self._elements_left < 0:
            max_rows = self._bounds.max_rows
            raise BatchTooLarge(f"more than {max_rows} rows", max_rows)

    def _too_many(self) -> MalformedMessage:
        n_features = self._bounds.n_features
        return MalformedMessage(
            f"the request has too many inputs or fields; the model has {n_features} features",
            n_features=n_features,
        )
