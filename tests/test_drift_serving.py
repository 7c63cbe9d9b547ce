"""Drift on the page of a real server: exact in one process and in several, in both lanes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    PredictRequest,
    StreamPredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from drift_support import make_numbers, number_artifact, read_samples
from server_process import running
from support import (
    connect,
    read_page,
    running_server,
    wait_for,
    write_artifact,
)

ROWS = "prediction_drift_rows_total"
BINS = "prediction_feature_bin_total"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_artifact(tmp_path, number_artifact())


def ask(stub: PredictionServiceStub, X: np.ndarray) -> None:
    """Send a third of the rows each way."""
    third = len(X) // 3
    for row in X[:third]:
        stub.Predict(PredictRequest(features=row))
    one, other = X[third : 2 * third], X[2 * third :]
    stub.BatchPredict(BatchPredictRequest(values=one.ravel()))
    chunk = BatchPredictRequest(values=other.ravel())
    list(stub.StreamPredict(iter([StreamPredictRequest(chunk=chunk)])))


def count_gaps(page: str, feature: str) -> tuple[float, float]:
    """Return the gaps and the rows of a feature."""
    counts = read_samples(page, BINS, "feature", "bin")
    own = {name: n for (of, name), n in counts.items() if of == feature}
    return own["missing"], sum(own.values())


@pytest.mark.parametrize("lane", ["fast", "pool"])
def test_a_page_counts_each_answered_row_once(folder: Path, lane: str) -> None:
    X = make_numbers(300, seed=4)
    with running_server(folder, lane) as server, connect(server) as stub:
        ask(stub, X)
        with pytest.raises(grpc.RpcError):
            stub.Predict(PredictRequest(features=[1.0]))
        page = read_page(f"http://127.0.0.1:{server.http_port}/metrics")
    assert count_gaps(page, "f0") == (np.isnan(X[:, 0]).sum(), 300)
    outcomes = "prediction_expected_outcomes_total"
    assert sum(read_samples(page, outcomes, "predicted", "actual").values()) == (
        pytest.approx(300)
    )


def test_nothing_is_counted_if_it_is_off(folder: Path) -> None:
    with running_server(folder, drift_features=0) as server, connect(server) as stub:
        ask(stub, make_numbers(9))
        page = read_page(f"http://127.0.0.1:{server.http_port}/metrics")
    assert "prediction_feature" not in page and "expected" not in page


def test_a_model_without_a_reference_is_served_as_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = number_artifact()
    artifact.ClearField("reference")
    caplog.set_level("INFO")
    folder = write_artifact(tmp_path, artifact)
    with running_server(folder) as server, connect(server) as stub:
        ask(stub, make_numbers(9))
        page = read_page(f"http://127.0.0.1:{server.http_port}/metrics")
    assert "prediction_feature" not in page
    assert caplog.text.count("the model has no reference; train it again") == 1


def list_children(pid: int) -> list[int]:
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in paths for child in path.read_text().split()]


@pytest.fixture
def channels() -> Iterator[list[grpc.Channel]]:
    made: list[grpc.Channel] = []
    yield made
    for channel in made:
        channel.close()


@pytest.mark.slow
def test_three_processes_count_as_one_and_a_kill_loses_nothing(
    folder: Path, channels: list[grpc.Channel]
) -> None:
    arguments = ("--model-dir", str(folder), "--processes", "3")
    X = make_numbers(30, seed=2)
    n_connections = 12
    with running(*arguments) as process:
        process.wait_for("all processes are ready")

        def read() -> tuple[float, float]:
            url = f"http://127.0.0.1:{process.http_port}/metrics"
            page = read_page(url)
            assert sum(read_samples(page, ROWS).values()) == count_gaps(page, "f0")[1]
            return count_gaps(page, "f0")

        def send() -> None:
            for _ in range(n_connections):
                options = [("grpc.use_local_subchannel_pool", 1)]
                address = f"127.0.0.1:{process.port}"
                channels.append(grpc.insecure_channel(address, options))
                ask(PredictionServiceStub(channels[-1]), X)

        gaps = int(np.isnan(X[:, 0]).sum())
        send()
        expected: tuple[float, float] = (gaps * n_connections, 30 * n_connections)
        wait_for(lambda: read() == expected, 10)
        killed = list_children(process.pid)
        os.kill(killed[0], signal.SIGKILL)
        assert read() == expected
        process.wait_for("process ended")
        wait_for(lambda: len(set(list_children(process.pid)) - set(killed)) == 1)
        assert read() == expected
        process.wait_for("all processes are ready")
        send()
        wait_for(lambda: read() == (2 * expected[0], 2 * expected[1]), 10)
