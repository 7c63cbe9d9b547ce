"""Decodes requests, after refusing those that are too large for the current model.

Decoding blocks everything else in the process, and the heaviest messages take 40 ms per MiB. So
each message is first compared with the most bytes that a request to the current model may need. The
parts of a larger batch are counted before it is decoded in pieces.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from date_columns.forms import MAX_CHARACTERS
from grpc_server.errors import InvalidInstance, MalformedMessage, Violation
from grpc_server.model import InputSchema, LoadedModel, ModelSlot
from grpc_server.model.kinds import IntegerCategories, TextCategories
from grpc_server.rpc.wire_format import BYTES, WireReader
from grpc_server.rpc.wire_scan import BatchBounds, BatchScan
from prediction.v1 import prediction_service_pb2 as pb

# Room for long strings that are no known category, and for fields of a newer client. A message up
# to this size is decoded in 3 ms at most, whatever it contains.
_SLACK_BYTES = 64 * 1024
# Bytes of a value besides its name and text: tags and lengths, a double, and half as much again.
_VALUE_BYTES = 32
# Limit of requests with hardly any content.
_MAX_SMALL_BYTES = 4096
_CHUNK = 1
_MAX_CHUNK_FIELDS = 64

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Limits of the requests to one model."""

    model: LoadedModel | None
    instance_bytes: int
    batch: BatchBounds


class RequestDecoder:
    """Decodes the requests of prediction.v1.PredictionService.

    Parameters
    ----------
    slot : ModelSlot
        Holds the current model, whose input schema limits the requests.
    max_batch_rows : int
        Most rows of one batch, 1 or more.
    """

    def __init__(self, slot: ModelSlot, max_batch_rows: int) -> None:
        self._slot = slot
        self._max_batch_rows = max_batch_rows
        self._chunk_bounds = BatchBounds(0, max_batch_rows)
        self._bounds = _Bounds(None, 0, self._chunk_bounds)
        self._decode_instance = pb.PredictRequest.FromString

    def predict(self, message: bytes) -> pb.PredictRequest:
        """Decode a PredictRequest.

        Parameters
        ----------
        message : bytes
            Encoded request.

        Returns
        -------
        PredictRequest
            The request.

        Raises
        ------
        MalformedMessage
            If the bytes are not a PredictRequest.
        InvalidInstance
            If the message is larger than any instance of the model.
        ModelUnavailable
            If no model is loaded.
        """
        # Kept short: every call passes here.
        bounds = self._bounds
        if bounds.model is not self._slot.get():
            bounds = self._find_bounds()
        if len(message) > bounds.instance_bytes:
            raise _too_large(message, bounds)
        try:
            return self._decode_instance(message)
        except DecodeError:
            raise _malformed(pb.PredictRequest) from None

    def batch(self, message: bytes) -> pb.BatchPredictRequest:
        """Decode a BatchPredictRequest.

        Parameters
        ----------
        message : bytes
            Encoded request.

        Returns
        -------
        BatchPredictRequest
            The request.

        Raises
        ------
        MalformedMessage
            If the bytes are not a BatchPredictRequest, or have more columns or fields than a batch
            of the model can have.
        BatchTooLarge
            If the batch has more rows than the server accepts.
        ModelUnavailable
            If no model is loaded.
        """
        bounds = self._find_bounds().batch
        if len(message) <= _SLACK_BYTES:
            return decode(pb.BatchPredictRequest, message)
        pieces = BatchScan(message, bounds).scan(0, len(message))
        return _decode_pieces(pb.BatchPredictRequest(), pieces)

    def chunk(self, message: bytes) -> pb.StreamPredictRequest:
        """Decode a StreamPredictRequest; the limits of its chunk are those of a batch.

        A stream keeps its first model, which may be older than the current one. So the limits are
        those of the model with the most features so far.

        Parameters
        ----------
        message : bytes
            Encoded request.

        Returns
        -------
        StreamPredictRequest
            The request.

        Raises
        ------
        MalformedMessage, BatchTooLarge, ModelUnavailable
            See `batch`.
        """
        bounds = self._find_bounds().batch
        if bounds.n_features > self._chunk_bounds.n_features:
            self._chunk_bounds = bounds
        if len(message) <= _SLACK_BYTES:
            return decode(pb.StreamPredictRequest, message)
        pieces = _scan_chunk(message, self._chunk_bounds)
        request = pb.StreamPredictRequest()
        if pieces:
            _decode_pieces(request.chunk, pieces)
            request.chunk.SetInParent()  # marks a chunk without fields as present
        return request

    def _find_bounds(self) -> _Bounds:
        model, bounds = self._slot.get(), self._bounds
        if bounds.model is not model:
            schema = model.input_schema
            bounds = self._bounds = _Bounds(
                model,
                _count_instance_bytes(schema),
                BatchBounds(len(schema.features), self._max_batch_rows),
            )
        return bounds


def decode(kind: type[_M], message: bytes) -> _M:
    """Decode a message.

    Parameters
    ----------
    kind : type
        Type of the message.
    message : bytes
        Encoded message.

    Returns
    -------
    kind
        The message.

    Raises
    ------
    MalformedMessage
        If the bytes are not a message of this type.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise _malformed(kind) from None


def decode_small(kind: type[_M]) -> Callable[[bytes], _M]:
    """Return a decoder for requests with hardly any content; it refuses more than 4 KiB."""

    def decode_bounded(message: bytes) -> _M:
        if len(message) > _MAX_SMALL_BYTES:
            raise MalformedMessage(
                f"the request has {len(message)} bytes; at most {_MAX_SMALL_BYTES} are allowed",
                n_bytes=len(message),
                max_bytes=_MAX_SMALL_BYTES,
            )
        return decode(kind, message)

    return decode_bounded


def _scan_chunk(message: bytes, bounds: BatchBounds) -> list[bytes]:
    """Return the pieces of the chunk, which protobuf merges if there is more than one."""
    pieces: list[bytes] = []
    scan = BatchScan(message, bounds)
    fields = WireReader(message, 0, len(message))
    for n_fields, (number, wire_type, start, end) in enumerate(fields, start=1):
        if n_fields > _MAX_CHUNK_FIELDS:
            raise MalformedMessage("the request has too many unknown fields")
        if number == _CHUNK and wire_type == BYTES:
            pieces += scan.scan(start, end)
    return pieces


def _decode_pieces(
    request: pb.BatchPredictRequest, pieces: Iterable[bytes]
) -> pb.BatchPredictRequest:
    """Decode the pieces one by one, so that other threads may run in between."""
    try:
        for piece in pieces:
            request.MergeFromString(piece)
    except DecodeError:
        raise _malformed(type(request)) from None
    return request


def _malformed(kind: type[Message]) -> MalformedMessage:
    name = kind.DESCRIPTOR.full_name
    return MalformedMessage(
        f"the bytes are not a message of type {name}; its strings must be UTF-8",
        message_type=name,
    )


def _too_large(message: bytes, bounds: _Bounds) -> InvalidInstance:
    # The first byte holds the number of the first field.
    field = "features" if message[0] >> 3 == 1 else "record"
    return InvalidInstance(
        [
            Violation(
                field,
                f"the request has {len(message)} bytes; an instance of the model's "
                f"{bounds.batch.n_features} features has at most {bounds.instance_bytes}",
            )
        ]
    )


def _count_instance_bytes(schema: InputSchema) -> int:
    """Return the most bytes that one instance may take on the wire."""
    total = _SLACK_BYTES
    for feature in schema.features:
        total += _VALUE_BYTES + len(feature.name.encode())
        total += MAX_CHARACTERS if feature.parts else 0
        if isinstance(feature.kind, TextCategories | IntegerCategories):
            total += max(len(label.encode()) for label in feature.kind.labels)
    return total
