"""Packed doubles of prediction.v1: how bytes hold numbers, and which features packed rows hold.

Knows no model, and reads without NumPy: the programs beside the server do without it.
"""

import sys
from array import array
from collections.abc import Sequence

from prediction.v1 import prediction_service_pb2 as pb

BYTES_PER_DOUBLE = 8


def unpack(packed: bytes) -> "array[float]":
    """Return the doubles that little-endian bytes hold.

    Parameters
    ----------
    packed : bytes
        A multiple of 8 bytes.

    Returns
    -------
    array of float64
        The numbers.

    Raises
    ------
    ValueError
        If the bytes are no multiple of 8.
    """
    numbers = array("d")
    numbers.frombytes(packed)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def read_probabilities(reply: pb.BatchPredictResponse) -> Sequence[float]:
    """Return the probabilities of a reply, packed or not, row after row."""
    if reply.packed_probabilities:
        return unpack(reply.packed_probabilities)
    return reply.probabilities


def list_packed(request: pb.BatchPredictRequest, names: Sequence[str]) -> Sequence[str]:
    """Return the names of the packed columns of a request.

    Parameters
    ----------
    request : BatchPredictRequest
        With packed rows.
    names : sequence of str
        Names of the features of the model, in their order.

    Returns
    -------
    sequence of str
        Names in the order of the values, as the request has them: not checked.
    """
    if request.packed_rows.names:
        return tuple(request.packed_rows.names)
    if not request.columns:
        return names
    beside = {column.name for column in request.columns}
    return [name for name in names if name not in beside]
