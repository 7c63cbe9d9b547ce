"""Decodes requests, and refuses by their size those that no caller of the model would send.

Decoding holds up everything else in the process, and the heaviest messages take 40 ms for each MiB.
So each message is bounded by what a request to the model that answers may need, before it is looked
at. A larger batch is counted through first, and decoded in pieces.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from grpc_server.errors import InvalidInstance, MalformedMessage, Violation
from grpc_server.model import InputSchema, LoadedModel, ModelSlot
from grpc_server.model.kinds import IntegerCategories, TextCategories
from grpc_server.rpc.wire_format import BYTES, WireReader
from grpc_server.rpc.wire_scan import BatchBounds, BatchScan
from prediction.v1 import prediction_service_pb2 as pb

# Room for what a message may have besides: long texts that are no known category, and fields of a
# newer client. Messages up to it are decoded in 3 ms at most, whatever they hold.
_SLACK_BYTES = 64 * 1024
# What a value takes besides its name and text: tags and lengths, a double, and half as much again.
_VALUE_BYTES = 32
# Requests that carry next to nothing.
_MAX_SMALL_BYTES = 4096
_CHUNK = 1
_MAX_CHUNK_FIELDS = 64

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What requests to one model may hold."""

    model: LoadedModel | None
    instance_bytes: int
    batch: BatchBounds


class RequestDecoder:
    """Decodes the requests of prediction.v1.PredictionService.

    Parameters
    ----------
    slot : ModelSlot
        The model that answers, whose input schema bounds the requests.
    max_batch_rows : int
        The most rows of one batch.
    """

    def __init__(self, slot: ModelSlot, max_batch_rows: int) -> None:
        self._slot = slot
        self._max_batch_rows = max_batch_rows
        self._chunk_bounds = BatchBounds(0, max_batch_rows)
        self._bounds = _Bounds(None, 0, self._chunk_bounds)
        self._decode_instance = pb.PredictRequest.FromString

    def predict(self, message: bytes) -> pb.PredictRequest:
        """Decode a PredictRequest.

        Raises
        ------
        MalformedMessage
            If it is none.
        InvalidInstance
            If it is larger than an instance of the model can be.
        ModelUnavailable
            If no model is loaded.
        """
        # As little as can be: this is part of every call.
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

        Raises
        ------
        MalformedMessage
            If it is none, or has more columns or fields than a batch of the model can have.
        BatchTooLarge
            If it has more rows than the server takes.
        ModelUnavailable
            If no model is loaded.
        """
        bounds = self._find_bounds().batch
        if len(message) <= _SLACK_BYTES:
            return decode(pb.BatchPredictRequest, message)
        pieces = BatchScan(message, bounds).scan(0, len(message))
        return _decode_pieces(pb.BatchPredictRequest(), pieces)

    def chunk(self, message: bytes) -> pb.StreamPredictRequest:
        """Decode a StreamPredictRequest, whose chunk is bounded as a batch is.

        The model of the stream may be one that answered before the present one. So the bounds are
        those of the widest of them.
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
            request.chunk.SetInParent()  # it may have no field
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
    """Decode a message of a kind.

    Raises
    ------
    MalformedMessage
        If it is none.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise _malformed(kind) from None


def decode_small(kind: type[_M]) -> Callable[[bytes], _M]:
    """Return what decodes requests that carry next to nothing, and are refused beyond 4 KiB."""

    def decode_bounded(message: bytes) -> _M:
        if len(message) > _MAX_SMALL_BYTES:
            raise MalformedMessage(
                f"the request has {len(message)} bytes; {_MAX_SMALL_BYTES} are allowed",
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
            raise MalformedMessage(
                "the request has too many fields that the server does not know"
            )
        if number == _CHUNK and wire_type == BYTES:
            pieces += scan.scan(start, end)
    return pieces


def _decode_pieces(
    request: pb.BatchPredictRequest, pieces: Iterable[bytes]
) -> pb.BatchPredictRequest:
    """Decode the pieces one after the other, so that others get a turn between them."""
    try:
        for piece in pieces:
            request.MergeFromString(piece)
    except DecodeError:
        raise _malformed(type(request)) from None
    return request


def _malformed(kind: type[Message]) -> MalformedMessage:
    name = kind.DESCRIPTOR.full_name
    return MalformedMessage(
        f"the bytes are no message of type {name}, whose texts are UTF-8",
        message_type=name,
    )


def _too_large(message: bytes, bounds: _Bounds) -> InvalidInstance:
    # The number of the first field is in the first byte.
    field = "features" if message[0] >> 3 == 1 else "record"
    return InvalidInstance(
        [
            Violation(
                field,
                f"the request has {len(message)} bytes; an instance of the model's "
                f"{bounds.batch.n_features} features has {bounds.instance_bytes} at most",
            )
        ]
    )


def _count_instance_bytes(schema: InputSchema) -> int:
    """Return how many bytes one instance may take on the wire."""
    total = _SLACK_BYTES
    for feature in schema.features:
        total += _VALUE_BYTES + len(feature.name.encode())
        if isinstance(feature.kind, TextCategories | IntegerCategories):
            total += max(len(label.encode()) for label in feature.kind.labels)
    return total
