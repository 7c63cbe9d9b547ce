"""Requests are refused by their size before they are decoded."""

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
from grpc_server.rpc.requests import RequestDecoder, decode_small
from grpc_server.rpc.wire_format import WireReader
from grpc_server.rpc.wire_scan import BatchBounds, BatchScan
from prediction.v1 import prediction_service_pb2 as pb

from support import artifact_without_estimator, write_artifact
from wire import field

MAX_ROWS = 100


def column(*parts: bytes) -> bytes:
    """Return a column of a batch."""
    return field(2, b"".join(parts))


@pytest.fixture
def decoder(model_dir: Path) -> RequestDecoder:
    """A decoder for a model of the two numeric features f0 and f1."""
    slot = ModelSlot()
    slot.put(load_model(model_dir))
    return RequestDecoder(slot, MAX_ROWS)


def nested(depth: int) -> bytes:
    """Return a record with a list of lists."""
    value = b"\x20\x01"
    for _ in range(depth):
        value = field(6, field(1, value))
    return field(2, field(1, field(1, b"f0") + field(2, value)))


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
    name: str, decoder: RequestDecoder
) -> None:
    """Decoding any of these would delay all other calls, and then fail."""
    with pytest.raises(InvalidInstance, match="an instance of the model's 2 features"):
        decoder.predict(HOSTILE_INSTANCES[name] + b"\x09")


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
    "packed values": (field(1, bytes(800_000)), BatchTooLarge),
    "packed values in parts": (field(1, bytes(80_000)) * 10, BatchTooLarge),
    "packed rows": (field(3, field(1, bytes(800_000))), BatchTooLarge),
    "packed rows in parts": (field(3, field(1, bytes(80_000))) * 10, BatchTooLarge),
    "names of packed rows": (field(3, field(2, b"a") * 30_000), MalformedMessage),
    "empty names of packed rows": (field(3, b"\x12\x00" * 100_000), MalformedMessage),
    "unknown fields of packed rows": (
        field(3, b"\x98\x06\x01" * 100_000),
        MalformedMessage,
    ),
    "empty packed rows": (b"\x1a\x00" * 100_000, MalformedMessage),
    "packed rows cut short": (
        field(3, bytes([10, 255, 255, 127]) + bytes(70_000)),
        MalformedMessage,
    ),
    "values with long tags": ((b"\x89\x00" + bytes(8)) * 100_000, BatchTooLarge),
    "truth values one by one": (
        column(field(4, b"\x08\x01" * 100_000)),
        BatchTooLarge,
    ),
    "truth values of many bytes": (
        column(field(4, b"\x08\x80\x00" * 100_000)),
        BatchTooLarge,
    ),
    "texts in parts": (column(field(3, b"\x0a\x00" * 1_000) * 60), BatchTooLarge),
    "short texts": (column(field(3, b"\x0a\x05abcde" * 100_000)), BatchTooLarge),
    "long texts": (column(field(3, field(1, bytes(200)) * 1_000)), BatchTooLarge),
    "fields among texts": (
        column(field(3, b"\x10\x01" * 1_000_000) * 3),
        MalformedMessage,
    ),
    "texts with long tags": (
        column(field(3, b"\x8a\x00\x00" * 100_000)),
        BatchTooLarge,
    ),
    "a group of fields": (
        b"\xfb\x3e" + b"\x09" * 9 * 10_000 + b"\xfc\x3e",
        MalformedMessage,
    ),
    "open groups": (b"\xfb\x3e" * 100_000, MalformedMessage),
    "a group that does not end": (
        field(900, bytes(70_000)) + b"\xfb\x3e",
        MalformedMessage,
    ),
    "fields within columns": (
        column(field(2, b"\x10\x01" * 30) * 60) + field(900, bytes(70_000)),
        MalformedMessage,
    ),
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
    packed = pb.BatchPredictRequest(
        packed_rows=pb.PackedRows(values=bytes(16 * MAX_ROWS), names=["f1", "f0"])
    )
    # Unusual but valid: a field for each number, and 64 KiB of a newer client's text.
    one_by_one = (b"\x09" + struct.pack("<d", 1.0)) * 2 * MAX_ROWS
    padding = field(900, bytes(64 * 1024))

    for message in (by_name, by_position, packed):
        encoded = message.SerializeToString()
        assert decoder.batch(encoded + padding).packed_rows == message.packed_rows
        assert decoder.batch(encoded + padding).columns == message.columns
        assert decoder.batch(encoded + padding).values == message.values
        assert decoder.chunk(field(1, encoded + padding)).chunk.values == message.values
    assert decoder.batch(one_by_one + padding).values == by_position.values


def test_a_chunk_in_many_parts_is_bounded_as_a_whole(
    decoder: RequestDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """protobuf merges the parts, each of which is within the bounds."""
    rows = column(field(1, b"f0"), field(2, field(1, bytes(8 * MAX_ROWS))))
    parts = field(1, field(1, bytes(8 * 2 * MAX_ROWS))) * 60
    columns = field(1, rows * 60 + field(900, bytes(20_000))) * 4
    monkeypatch.setattr(pb, "StreamPredictRequest", None)

    with pytest.raises(BatchTooLarge):
        decoder.chunk(parts)
    with pytest.raises(MalformedMessage, match="too many columns"):
        decoder.chunk(columns)


def test_no_piece_that_is_decoded_at_once_is_larger_than_a_column() -> None:
    """Nothing can interrupt the decoding of a piece."""
    rows = column(field(1, b"f"), field(2, field(1, bytes(80_000))))
    message = rows * 30 + field(900, b"newer") + (b"\x09" + bytes(8)) * 100_000

    pieces = BatchScan(message, BatchBounds(30, 10_000)).scan(0, len(message))

    assert b"".join(pieces) == message
    assert max(map(len, pieces)) < 128 * 1024 + len(rows)
    whole, merged = pb.BatchPredictRequest.FromString(message), pb.BatchPredictRequest()
    for piece in pieces:
        merged.MergeFromString(piece)
    assert merged == whole


UNUSUAL = {
    "a field of a newer column": column(
        field(1, b"f0"), field(2, field(1, bytes(16))), field(7, b"km per hour")
    ),
    "a group with numbers like ours": field(1, bytes(16))
    + b"\xfb\x3e\x12\x03abc\x0a\x05vwxyz\xfc\x3e",
    "groups in groups": b"\xfb\x3e\xfb\x3e\x09" + bytes(8) + b"\xfc\x3e\xfc\x3e",
    "elements one by one": column(
        field(4, b"\x08\x01\x08\x80\x00\x08\x01"),
        field(1, b"f1"),
        b"\x28\x01\x28\x00",
    ),
    "parts of a list": column(
        field(2, field(1, bytes(8))), field(2, b"\x09" + bytes(8) + field(1, bytes(8)))
    ),
    "texts of all lengths": column(
        field(3, b"".join(field(1, b"x" * n) for n in (0, 1, 127, 128, 20_000, 3)))
    ),
    "texts with many lines": column(
        field(3, field(1, b"\n" * 100 + b"\xc2\x8a" * 100) * MAX_ROWS)
    ),
    "a column without anything": column(),
    "parts of packed rows": field(3, field(2, b"f1") + field(1, bytes(8)))
    + field(3, field(2, b"f0") + field(1, bytes(16)) + field(9, b"newer")),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_encodings_of_a_batch_are_read_as_by_protobuf(
    name: str, decoder: RequestDecoder
) -> None:
    """Each is small. The unknown field of a newer client makes the server scan it."""
    message = UNUSUAL[name] + field(900, bytes(64 * 1024))
    expected = pb.BatchPredictRequest.FromString(message)

    assert decoder.batch(message) == expected
    assert decoder.chunk(field(1, message)).chunk == expected
    assert decoder.chunk(field(1, message) + field(1, b"")).chunk == expected


def test_a_stream_goes_on_with_its_model_when_a_narrower_one_is_loaded(
    tmp_path: Path,
) -> None:
    wide = artifact_without_estimator(200, 2)
    wide.logistic_regression.coefficients.extend([0.0] * 200)
    wide.logistic_regression.intercepts.append(0.0)
    wide.golden_examples.add(features=[0.0] * 200, probabilities=[0.5, 0.5], label="0")
    narrow = artifact_without_estimator(1, 2)
    narrow.logistic_regression.coefficients.append(0.0)
    narrow.logistic_regression.intercepts.append(0.0)
    narrow.golden_examples.add(features=[0.0], probabilities=[0.5, 0.5], label="0")
    slot = ModelSlot()
    decoder = RequestDecoder(slot, MAX_ROWS)
    slot.put(load_model(write_artifact(tmp_path / "wide", wide)))
    decoder.chunk(b"")
    slot.put(load_model(write_artifact(tmp_path / "narrow", narrow)))
    chunk = pb.BatchPredictRequest(values=[1.0] * 200 * MAX_ROWS)

    request = pb.StreamPredictRequest(chunk=chunk)

    assert decoder.chunk(request.SerializeToString()) == request
    with pytest.raises(BatchTooLarge):
        decoder.batch(chunk.SerializeToString())


NO_MESSAGES = {
    "cut short": b"\x0a\xff\xff\xff\xff\x0f",
    "no field": b"\xff\xff",
    # In an instance this is a record, in a batch a column with this name.
    "not UTF-8": b"\x12\x0e\x0a\x0c\x0a\x04city\x12\x04\x1a\x02K\xf6",
    "nested too deeply": nested(200),
}


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_bytes_of_no_message_are_malformed(name: str, decoder: RequestDecoder) -> None:
    message = NO_MESSAGES[name]
    large = field(900, bytes(64 * 1024)) + message

    with pytest.raises(MalformedMessage, match="prediction.v1.PredictRequest"):
        decoder.predict(message)
    for batch in (message, large):
        with pytest.raises(MalformedMessage):
            decoder.batch(batch)
        with pytest.raises(MalformedMessage):
            decoder.chunk(field(1, batch))


def test_small_requests_are_bounded() -> None:
    decode = decode_small(pb.GetModelRequest)

    assert decode(b"") == pb.GetModelRequest()
    with pytest.raises(MalformedMessage, match="5000 bytes; at most 4096 are allowed"):
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
    st.integers(0, 300),
    st.lists(st.sampled_from(["doubles", "strings", "booleans"]), max_size=5),
    st.integers(0, 300),
)
VALUE: dict[str, Any] = {"doubles": 1.5, "strings": "ü" * 40, "booleans": True}


@settings(deadline=None, max_examples=200)
@given(columns)
def test_no_batch_within_the_bounds_is_refused_by_the_scan(drawn: Columns) -> None:
    batch = pb.BatchPredictRequest()
    for number, kind in enumerate(drawn.kinds):
        added = batch.columns.add(name=f"f{number}")
        getattr(added, kind).values.extend([VALUE[kind]] * drawn.n_rows)
        added.missing_rows.extend(range(drawn.n_missing))
    message = batch.SerializeToString()

    pieces = BatchScan(message, BatchBounds(len(drawn.kinds), 300)).scan(
        0, len(message)
    )

    assert b"".join(pieces) == message


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=200))
def test_any_bytes_are_scanned_or_refused(message: bytes) -> None:
    try:
        fields = list(WireReader(message, 0, len(message)))
        BatchScan(message, BatchBounds(2, 10)).scan(0, len(message))
    except DomainError:
        return

    assert all(start <= end <= len(message) for _, _, start, end in fields)


def test_what_protobuf_writes_is_walked_field_by_field() -> None:
    message: Message = pb.PredictRequest(features=[1.0], explain_top_k=7)
    encoded = message.SerializeToString()
    numbers: Callable[[bytes], list[int]] = lambda m: [
        f[0] for f in WireReader(m, 0, len(m))
    ]

    assert numbers(encoded) == [1, 3]
