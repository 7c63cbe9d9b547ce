"""Makes the reply to a batch from arrays: as encoded bytes, without a Python object per number.

protobuf reads packed fields from bytes many times faster than from a list: 20,000 doubles in
0.01 ms instead of 0.5 ms. https://protobuf.dev/programming-guides/encoding/#packed defines the
format.
"""

from grpc_server.model import LoadedModel
from grpc_server.model.arrays import Matrix, Positions
from prediction.v1 import prediction_service_pb2 as pb

_POSITIONS, _PROBABILITIES = 3, 4
_BYTES = 2
# A varint below this is one byte, the number itself.
_END_OF_BYTE = 128


def make_reply(
    model: LoadedModel, positions: Positions, probabilities: Matrix, *, is_packed: bool
) -> pb.BatchPredictResponse:
    """Make the reply to a batch.

    Parameters
    ----------
    model : LoadedModel
        Model that answered.
    positions : ndarray of int64, shape (n_rows,)
        Positions of the predicted classes.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Their probabilities.
    is_packed : bool
        Whether the caller wants `packed_probabilities`.

    Returns
    -------
    BatchPredictResponse
        The reply.
    """
    labels = model.classes.labels
    reply = pb.BatchPredictResponse(
        model=model.display_name,
        classes=labels,
        model_version=model.source.version,
    )
    if len(labels) <= _END_OF_BYTE:
        reply.MergeFromString(_field(_POSITIONS, positions.astype("u1").tobytes()))
    else:
        reply.positions.extend(positions.tolist())
    packed = probabilities.astype("<f8", copy=False).tobytes()
    if is_packed:
        reply.packed_probabilities = packed
    else:
        reply.MergeFromString(_field(_PROBABILITIES, packed))
    return reply


def count_labels(model: LoadedModel, positions: Positions) -> dict[str, int]:
    """Return the number of rows by predicted label, for the labels that occur."""
    import numpy as np

    counts = np.bincount(positions).tolist()
    return {model.classes.labels[p]: n for p, n in enumerate(counts) if n}


def _field(number: int, content: bytes) -> bytes:
    """Return an encoded field of bytes."""
    return bytes([number << 3 | _BYTES]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= _END_OF_BYTE:
        encoded.append(value & 127 | _END_OF_BYTE)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
