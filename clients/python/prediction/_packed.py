"""Packed rows and packed probabilities: doubles as little-endian bytes, without NumPy."""

import sys
from array import array
from collections.abc import Sequence
from math import nan
from typing import cast

import grpc

from prediction._columns import TypedColumn
from prediction._errors import ServerError
from prediction.v1 import prediction_service_pb2 as pb

_BYTES_PER_DOUBLE = 8


def to_request(
    columns: Sequence[TypedColumn], start: int, stop: int
) -> pb.BatchPredictRequest:
    """Pack the rows of [start, stop), all columns but those of texts, which go beside.

    Parameters
    ----------
    columns : sequence of TypedColumn
        One column for each feature.
    start, stop : int
        The rows, of which there is one or more.

    Returns
    -------
    BatchPredictRequest
        For a server that takes packed rows; it asks for packed probabilities.
    """
    packed = [column for column in columns if column.field != "strings"]
    request = pb.BatchPredictRequest(
        columns=[c.to_message(start, stop) for c in columns if c.field == "strings"],
        pack_probabilities=True,
    )
    if packed:
        request.packed_rows.names.extend(column.name for column in packed)
        request.packed_rows.values = _pack(packed, start, stop)
    return request


def add_probabilities(
    probabilities: "array[float]", response: pb.BatchPredictResponse
) -> None:
    """Append the probabilities of a response, packed or not.

    Raises
    ------
    ServerError
        If packed ones are not whole doubles.
    """
    packed = response.packed_probabilities
    if not packed:
        probabilities.extend(response.probabilities)
        return
    if len(packed) % _BYTES_PER_DOUBLE:
        raise ServerError(
            grpc.StatusCode.INTERNAL,
            f"the server answered {len(packed)} bytes of packed probabilities, not whole doubles",
        )
    numbers = array("d")
    numbers.frombytes(packed)
    probabilities.extend(_turn(numbers))


def _pack(columns: Sequence[TypedColumn], start: int, stop: int) -> bytes:
    n_columns = len(columns)
    rows = array("d", bytes(_BYTES_PER_DOUBLE * n_columns * (stop - start)))
    for position, column in enumerate(columns):
        # Numbers and truth values alone, of which true becomes 1.
        values = cast(Sequence[float], column.values)
        rows[position::n_columns] = array("d", values[start:stop])
        for row in column.missing_of(start, stop):
            rows[row * n_columns + position] = nan
    return _turn(rows).tobytes()


def _turn(numbers: "array[float]") -> "array[float]":
    """Turn the bytes of each number where the machine has the other order; in place."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
