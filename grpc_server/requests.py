"""Decodes requests, and refuses by their size those that no caller of the model would send.

Decoding holds up everything else in the process, and the heaviest messages take 50 ms for each MiB.
So each message is bounded by what a request to the model that answers may need, before it is looked
at. A larger batch is counted through first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from grpc_server.errors import InvalidInstance, MalformedMessage, Violation
from grpc_server.model import InputSchema, LoadedModel, ModelSlot
from grpc_server.model.kinds import IntegerCategories, TextCategories
from grpc_server.wire_scan import BatchBounds, fields_of, scan_batch
from prediction.v1 import prediction_service_pb2 as pb

# Room for what a message may have besides: long texts that are no known category, and fields of a
# newer client. Messages up to it are decoded in 3 ms at most, whatever they hold.
_SLACK_BYTES = 64 * 1024
# What a value takes besides its name and text: tags, lengths, a double, and as much again.
_VALUE_BYTES = 64
# Requests that carry next to nothing.
_MAX_SMALL_BYTES = 4096
_CHUNK = 1
_MAX_CHUNK_FIELDS = 64

_M = TypeVar("_M", bound=Message)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What requests to one model may hold."""

    model: LoadedModel
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
        self._bounds: _Bounds | None = None

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
        bounds = self._find_bounds()
        if len(message) > bounds.instance_bytes:
            raise _too_large(message, bounds)
        return _decode(pb.PredictRequest.FromString, message)

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
        bounds = self._find_bounds()
        if len(message) > _SLACK_BYTES:
            scan_batch(message, 0, len(message), bounds.batch)
        return _decode(pb.BatchPredictRequest.FromString, message)

    def chunk(self, message: bytes) -> pb.StreamPredictRequest:
        """Decode a StreamPredictRequest, whose chunk is bounded as a batch is."""
        bounds = self._find_bounds()
        if len(message) > _SLACK_BYTES:
            _scan_chunk(message, bounds.batch)
        return _decode(pb.StreamPredictRequest.FromString, message)

    def _find_bounds(self) -> _Bounds:
        model, bounds = self._slot.get(), self._bounds
        if bounds is None or bounds.model is not model:
            schema = model.input_schema
            bounds = self._bounds = _Bounds(
                model,
                _count_instance_bytes(schema),
                BatchBounds(len(schema.features), self._max_batch_rows),
            )
        return bounds


def decode_small(
    decode: Callable[[bytes], _M],
) -> Callable[[bytes], _M]:
    """Return `decode` for requests that carry next to nothing, and are refused beyond 4 KiB."""

    def decode_bounded(message: bytes) -> _M:
        if len(message) > _MAX_SMALL_BYTES:
            raise MalformedMessage(
                f"the request has {len(message)} bytes; {_MAX_SMALL_BYTES} are allowed"
            )
        return _decode(decode, message)

    return decode_bounded


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


def _scan_chunk(message: bytes, bounds: BatchBounds) -> None:
    fields = fields_of(message, 0, len(message))
    for n_fields, (number, wire_type, start, end) in enumerate(fields, start=1):
        if n_fields > _MAX_CHUNK_FIELDS:
            raise MalformedMessage(
                "the request has fields that the server does not know"
            )
        if number == _CHUNK and wire_type == 2:
            scan_batch(message, start, end, bounds)


def _decode(decode: Callable[[bytes], _M], message: bytes) -> _M:
    try:
        return decode(message)
    except DecodeError:
        raise MalformedMessage(
            "the bytes are no message of the method's type; texts have to be UTF-8"
        ) from None


def _count_instance_bytes(schema: InputSchema) -> int:
    """Return how many bytes one instance may take on the wire."""
    total = _SLACK_BYTES
    for feature in schema.features:
        total += _VALUE_BYTES + len(feature.name.encode())
        if isinstance(feature.kind, TextCategories | IntegerCategories):
            total += max(len(label.encode()) for label in feature.kind.labels)
    return total
