"""StreamPredict answers chunks in order, by one model, as fast as the caller takes them."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from grpc_server.model import load_model
from grpc_server.server import PredictionServer
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    StreamPredictRequest,
    StreamPredictResponse,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from support import (
    connect,
    lightgbm_artifact,
    running_server,
    wait_for,
    write_artifact,
)
from wire import (
    count_handled,
    failure,
    is_free,
    read_metrics,
    retry_seconds,
    samples,
    violations,
)

Call = Callable[[Iterator[StreamPredictRequest]], Any]
STREAM = {
    "grpc_method": "StreamPredict",
    "grpc_service": "prediction.v1.PredictionService",
}


def chunk(rows: np.ndarray) -> StreamPredictRequest:
    """Return a chunk of rows by position."""
    return StreamPredictRequest(chunk=BatchPredictRequest(values=rows.ravel()))


def flatten(answers: list[StreamPredictResponse]) -> list[float]:
    """Return the probabilities of all chunks."""
    return [p for answer in answers for p in answer.chunk.probabilities]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PredictionServer]:
    """A server with a LightGBM model of three classes, room for two streams and no draining."""
    folder = write_artifact(tmp_path, lightgbm_artifact(3)[0])
    with running_server(folder, max_streams=2, grace_seconds=5.0) as running:
        yield running


@pytest.fixture
def stub(server: PredictionServer) -> Iterator[PredictionServiceStub]:
    with connect(server) as stub:
        yield stub


def test_chunks_are_answered_in_order_with_the_bits_of_a_batch(
    stub: PredictionServiceStub,
) -> None:
    _, rows, expected = lightgbm_artifact(3)
    parts = [rows[start : start + 7] for start in range(0, len(rows), 7)]

    answers = list(stub.StreamPredict(map(chunk, parts)))

    assert len(answers) == len(parts)
    assert [len(a.chunk.positions) for a in answers] == [len(part) for part in parts]
    assert flatten(answers) == expected.ravel().tolist()
    batch = stub.BatchPredict(BatchPredictRequest(values=rows.ravel()))
    assert flatten(answers) == list(batch.probabilities)
    assert list(stub.StreamPredict(iter(()))) == []


def test_an_unfit_chunk_ends_the_stream_and_is_named_by_its_number(
    stub: PredictionServiceStub,
) -> None:
    _, rows, expected = lightgbm_artifact(3)
    chunks = [chunk(rows[:3]), chunk(rows[3:5]), chunk(np.full((1, 99), 1.0))]
    answers = stub.StreamPredict(iter(chunks))

    taken = [next(answers), next(answers)]
    found = violations(lambda: next(answers))

    assert flatten(taken) == expected[:5].ravel().tolist()
    assert [path for path, _ in found] == ["chunks[2].values"]


def test_whoever_takes_no_answers_is_asked_for_no_more_chunks(
    stub: PredictionServiceStub,
) -> None:
    """The server holds one chunk at a time. Flow control keeps the rest with the caller."""
    _, rows, expected = lightgbm_artifact(3)
    large = np.tile(rows[:1], (9000, 1))
    n_chunks, sent = 120, 0

    def send() -> Iterator[StreamPredictRequest]:
        nonlocal sent
        for _ in range(n_chunks):
            sent += 1
            yield chunk(large)

    answers = stub.StreamPredict(send())
    before = -1
    while sent != before:
        before = sent
        time.sleep(1.0)
    n_ahead = sent
    n_answers = sum(1 for _ in answers)

    assert n_ahead < n_chunks / 2
    assert n_answers == n_chunks == sent


def test_one_model_answers_a_stream_whatever_is_loaded_meanwhile(
    server: PredictionServer, stub: PredictionServiceStub, tmp_path: Path
) -> None:
    _, rows, _ = lightgbm_artifact(3)
    other = lightgbm_artifact(3)[0]
    other.provenance.code_version = "another"
    send: Any = iter([chunk(rows[:2])] * 2)
    gate = threading.Event()

    def chunks() -> Iterator[StreamPredictRequest]:
        yield next(send)
        gate.wait(10)
        yield next(send)

    answers = stub.StreamPredict(chunks())
    first = next(answers)
    (tmp_path / "other").mkdir()
    server.serve(load_model(write_artifact(tmp_path / "other", other)))
    gate.set()
    second = next(answers)
    (after,) = stub.StreamPredict(iter([chunk(rows[:2])]))

    assert first.chunk.model_version == second.chunk.model_version
    assert after.chunk.model_version != first.chunk.model_version


def test_more_streams_than_there_is_room_for_are_refused(
    stub: PredictionServiceStub,
) -> None:
    _, rows, _ = lightgbm_artifact(3)
    gate = threading.Event()

    def chunks() -> Iterator[StreamPredictRequest]:
        yield chunk(rows[:1])
        gate.wait(10)

    open_streams = [stub.StreamPredict(chunks()) for _ in range(2)]
    for stream in open_streams:
        next(stream)
    error = failure(lambda: next(stub.StreamPredict(iter([chunk(rows[:1])]))))
    alone = stub.BatchPredict(BatchPredictRequest(values=rows[:1].ravel()))
    gate.set()
    for stream in open_streams:
        assert not list(stream)

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert retry_seconds(error) > 0
    assert alone.positions
    answer = next(stub.StreamPredict(iter([chunk(rows[:1])])))
    assert answer.chunk.positions == alone.positions


def test_a_deadline_and_a_cancellation_end_a_stream_between_chunks(
    server: PredictionServer, stub: PredictionServiceStub
) -> None:
    _, rows, _ = lightgbm_artifact(3)

    def endless() -> Iterator[StreamPredictRequest]:
        while True:
            time.sleep(0.05)
            yield chunk(rows[:1])

    late = stub.StreamPredict(endless(), timeout=0.5)
    error = failure(lambda: list(late))
    hung_up = stub.StreamPredict(endless())
    next(hung_up)
    hung_up.cancel()

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # Both threads are free again.
    wait_for(lambda: count_ended(server) == 2)
    assert len(list(stub.StreamPredict(iter([chunk(rows[:1])] * 3)))) == 3
    wait_for(lambda: count_ended(server) == 3)
    name = "grpc_server_handled_total"
    assert samples(read_metrics(server), name, grpc_type="bidi_stream", **STREAM)


def count_ended(server: PredictionServer) -> float:
    """Return how many streams are over, by the metrics."""
    return sum(count_handled(read_metrics(server), "StreamPredict").values())


def test_a_stream_in_flight_may_end_while_the_server_stops(
    server: PredictionServer, stub: PredictionServiceStub
) -> None:
    _, rows, expected = lightgbm_artifact(3)
    stopping = threading.Thread(target=server.stop)

    def chunks() -> Iterator[StreamPredictRequest]:
        yield chunk(rows[:2])
        stopping.start()
        wait_for(lambda: is_free(server.port))
        yield chunk(rows[2:4])

    answers = list(stub.StreamPredict(chunks()))
    stopping.join()

    assert flatten(answers) == expected[:4].ravel().tolist()
