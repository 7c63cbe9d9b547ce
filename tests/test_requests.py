"""Requests are refused by their size before they are decoded, and decoded within the boundary."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_server.errors import (
    BatchTooLarge,
    DomainError,
    InvalidInstance,
    MalformedMessage,
    ModelUnavailable,
)
from grpc_server.model import ModelSlot, load_model
from grpc_server.requests import RequestDecoder, decode_small
from grpc_server.wire_scan import BatchBounds, fields_of, scan_batch
from prediction.v1 import prediction_service_pb2 as pb

MAX_ROWS = 100


def varint(value: int) -> bytes:
    """Return a number as the wire format has it."""
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def column(*parts: bytes) -> bytes:
    """Return a column of a batch."""
    return field(2, b"".join(parts))


@pytest.fixture
def decoder(model_dir: Path) -> RequestDecoder:
    """A decoder for a model of the two numeric features f0 and f1."""
    slot = ModelSlot()
    slot.put(load_model(model_dir))
    return RequestDecoder(slot, MAX_ROWS)


HOSTILE_INSTANCES = {
    "unknown names": field(
        2,
        b"".join(
            field(1, field(1, b"%06d" % n) + field(2, b"\x20\x01"))
            for n in range(10_000)
        ),
    ),
    "empty members": field(2, b"\x0a\x00" * 100_000),
    "a nested list": field(
        2, field(1, field(1, b"f0") + field(2, field(6, b"\x0a\x00" * 100_000)))
    ),
    "unknown fields": b"\x98\x06\x01" * 100_000,
    "records to be merged": b"\x12\x00" * 100_000,
    "too many features": field(1, bytes(800_000)),
}


@pytest.mark.parametrize("name", HOSTILE_INSTANCES)
def test_an_instance_larger_than_any_of_the_model_is_refused_unread(
    name: str, decoder: RequestDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of these may be decoded: that would hold up everybody else."""
    monkeypatch.setattr(pb, "PredictRequest", None)

    with pytest.raises(InvalidInstance, match="an instance of the model's 2 features"):
        decoder.predict(HOSTILE_INSTANCES[name])


HOSTILE_BATCHES = {
    "empty columns": (b"\x12\x00" * 100_000, MalformedMessage),
    "missing rows": (column(field(5, bytes(100_000))), BatchTooLarge),
    "missing rows one by one": (column(b"\x28\x00" * 100_000), BatchTooLarge),
    "rows of a column": (
        column(field(1, b"f0"), field(2, field(1, bytes(800_000)))),
        BatchTooLarge,
    ),
    "truth values": (column(field(4, field(1, bytes(100_000)))), BatchTooLarge),
    "empty texts": (column(field(3, b"\x0a\x00" * 1_000_000)), BatchTooLarge),
    "names of one column": (column(field(1, b"a") * 100_000), MalformedMessage),
    "unknown groups": (b"\xfb\x3e\xfc\x3e" * 100_000, MalformedMessage),
    "values one by one": ((b"\x09" + bytes(8)) * 100_000, BatchTooLarge),
    "cut short": (bytes(70_000)[:-1] + b"\x12", MalformedMessage),
}


@pytest.mark.parametrize("name", HOSTILE_BATCHES)
def test_a_batch_of_more_than_a_batch_can_be_is_refused_unread(
    name: str, decoder: RequestDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, error = HOSTILE_BATCHES[name]
    monkeypatch.setattr(pb, "BatchPredictRequest", None)

    with pytest.raises(error):
        decoder.batch(message)


@pytest.mark.parametrize("name", HOSTILE_BATCHES)
def test_a_chunk_of_a_stream_is_bounded_as_a_batch_is(
    name: str, decoder: RequestDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    message, error = HOSTILE_BATCHES[name]
    monkeypatch.setattr(pb, "StreamPredictRequest", None)

    with pytest.raises(error):
        decoder.chunk(field(1, message))


def test_the_largest_batch_is_decoded(decoder: RequestDecoder) -> None:
    by_name = pb.BatchPredictRequest()
    for name in ("f0", "f1"):
        numbers = by_name.columns.add(name=name)
        numbers.doubles.values.extend([1.0] * MAX_ROWS)
        numbers.missing_rows.extend(range(MAX_ROWS))
    by_position = pb.BatchPredictRequest(values=[1.0] * 2 * MAX_ROWS)
    # Unusual, and as valid: each number a field of its own, and 64 KiB of a newer client's text.
    one_by_one = (b"\x09" + struct.pack("<d", 1.0)) * 2 * MAX_ROWS
    padding = field(900, bytes(64 * 1024))

    for message in (by_name, by_position):
        encoded = message.SerializeToString()
        assert decoder.batch(encoded + padding).columns == message.columns
        assert decoder.batch(encoded + padding).values == message.values
        assert decoder.chunk(field(1, encoded + padding)).chunk.values == message.values
    assert decoder.batch(one_by_one + padding).values == by_position.values


NO_MESSAGES = {
    "cut short": b"\x0a\xff\xff\xff\xff\x0f",
    "no field": b"\xff\xff",
    "not UTF-8": b"\x12\x0e\x0a\x0c\x0a\x04city\x12\x04\x1a\x02K\xf6",
}


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_bytes_that_are_no_message_are_the_caller_s_mistake(
    name: str, decoder: RequestDecoder
) -> None:
    for decode in (decoder.predict, decoder.batch, decoder.chunk):
        if decode == decoder.predict or name != "not UTF-8":
            with pytest.raises(MalformedMessage, match="no message"):
                decode(NO_MESSAGES[name])


def test_small_requests_are_bounded() -> None:
    decode = decode_small(pb.GetModelRequest.FromString)

    assert decode(b"") == pb.GetModelRequest()
    with pytest.raises(MalformedMessage, match="5000 bytes; 4096 are allowed"):
        decode(bytes(5000))


def test_without_a_model_nothing_is_decoded() -> None:
    with pytest.raises(ModelUnavailable):
        RequestDecoder(ModelSlot(), MAX_ROWS).predict(b"")


@dataclass(frozen=True)
class Columns:
    """A batch by name: rows of each column, and how many are missing."""

    n_rows: int
    kinds: list[str]
    n_missing: int


columns = st.builds(
    Columns,
    st.integers(0, 30),
    st.lists(st.sampled_from(["doubles", "strings", "booleans"]), max_size=5),
    st.integers(0, 30),
)
VALUE: dict[str, Any] = {"doubles": 1.5, "strings": "ü", "booleans": True}


@settings(deadline=None, max_examples=200)
@given(columns)
def test_no_batch_within_the_bounds_is_refused_by_the_scan(drawn: Columns) -> None:
    """And one beyond them in rows is."""
    batch = pb.BatchPredictRequest()
    for number, kind in enumerate(drawn.kinds):
        added = batch.columns.add(name=f"f{number}")
        getattr(added, kind).values.extend([VALUE[kind]] * drawn.n_rows)
        added.missing_rows.extend(range(drawn.n_missing))
    message = batch.SerializeToString()

    scan_batch(message, 0, len(message), BatchBounds(len(drawn.kinds), 30))
    if drawn.n_rows > 1 and set(drawn.kinds) & {"doubles", "booleans"}:
        with pytest.raises(BatchTooLarge):
            bounds = BatchBounds(len(drawn.kinds), drawn.n_rows - 1)
            scan_batch(message, 0, len(message), bounds)


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_or_refused(message: bytes) -> None:
    try:
        fields = list(fields_of(message, 0, len(message)))
        scan_batch(message, 0, len(message), BatchBounds(2, 10))
    except DomainError:
        return

    assert all(start <= end <= len(message) for _, _, start, end in fields)


def test_what_protobuf_writes_is_walked_field_by_field() -> None:
    message: Message = pb.PredictRequest(features=[1.0], explain_top_k=7)
    encoded = message.SerializeToString()
    numbers: Callable[[bytes], list[int]] = lambda m: [
        f[0] for f in fields_of(m, 0, len(m))
    ]

    assert numbers(encoded) == [1, 3]
