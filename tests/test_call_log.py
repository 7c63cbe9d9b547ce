"""The access log: a line for each call that failed, and for a share of the others."""

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from grpc_server.request_id import REQUEST_ID
from grpc_server.rpc import call_log
from grpc_server.server import PredictionServer
from prediction import PredictionClient
from prediction._errors import InvalidInstanceError
from prediction.v1 import prediction_service_pb2 as pb

from gateway_support import post
from support import connect, running_server, settings_of

GOOD = pb.PredictRequest(features=[1, 2])
BAD = pb.PredictRequest(features=[1])


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    records = [r for r in caplog.records if r.name == "grpc_server.calls"]
    return [record.__dict__["fields"] for record in records if record.msg == "call"]


def test_a_server_that_never_started_ends_quietly(tmp_path: Path) -> None:
    """A model that cannot be loaded is the error to show, not one of the stop."""
    options: dict[str, Any] = {"prediction_log": tmp_path, "access_log_share": 1.0}
    PredictionServer(settings_of("fast", **options)).stop()


@pytest.mark.parametrize("lane", ["fast", "pool"])
def test_a_line_has_what_the_call_had(
    model_dir: Path, caplog: pytest.LogCaptureFixture, lane: str
) -> None:
    caplog.set_level(logging.INFO)
    with running_server(model_dir, lane, access_log_share=1.0) as server:
        with connect(server) as stub:
            stub.Predict(GOOD, metadata=((REQUEST_ID, "order-7"),))
            with pytest.raises(grpc.RpcError):
                stub.Predict(BAD, metadata=((REQUEST_ID, "order-8"),))
            batch = pb.BatchPredictRequest(values=[*GOOD.features] * 3)
            stub.BatchPredict(batch)
            chunk = pb.StreamPredictRequest(chunk=batch)
            assert len(list(stub.StreamPredict(iter([chunk, chunk])))) == 2

    found = {line["method"] + line["code"]: line for line in lines(caplog)}
    assert [found[name]["rows"] for name in sorted(found)] == [3, 0, 1, 6]
    assert found["PredictOK"]["request_id"] == "order-7"
    assert found["PredictINVALID_ARGUMENT"]["request_id"] == "order-8"
    for line in found.values():
        assert 0 < line["computing_milliseconds"] <= line["milliseconds"]
        assert line["peer"].startswith(("ipv4:127.0.0.1:", "ipv6:"))


def test_all_errors_and_a_share_of_the_rest(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with running_server(model_dir, access_log_share=0.3) as server:
        with connect(server) as stub:
            for number in range(200):
                metadata = ((REQUEST_ID, f"request-{number}"),)
                stub.Predict(GOOD, metadata=metadata)
                stub.Predict(GOOD, metadata=metadata)
            for _ in range(5):
                with pytest.raises(grpc.RpcError):
                    stub.Predict(BAD)

    by_code = Counter(line["code"] for line in lines(caplog))
    assert by_code["INVALID_ARGUMENT"] == 5
    n_by_id = Counter(line["request_id"] for line in lines(caplog))
    repeated = [n for name, n in n_by_id.items() if name.startswith("request-")]
    assert set(repeated) == {2}  # a retry is chosen alike
    assert 30 < len(repeated) < 90


def test_the_clients_exception_names_the_line(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with running_server(model_dir, access_log_share=0.0) as server:
        target = f"127.0.0.1:{server.port}"
        with PredictionClient(target) as client:
            with pytest.raises(InvalidInstanceError) as caught:
                client.predict([1.0])

    (line,) = lines(caplog)
    assert line["request_id"] == caught.value.request_id != ""


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129])
def test_an_odd_identifier_is_replaced(
    model_dir: Path, caplog: pytest.LogCaptureFixture, request_id: str
) -> None:
    caplog.set_level(logging.INFO)
    with running_server(model_dir, access_log_share=1.0) as server:
        with connect(server) as stub:
            stub.Predict(GOOD, metadata=((REQUEST_ID, request_id),))

    (line,) = lines(caplog)
    assert len(line["request_id"]) == 32


@pytest.mark.parametrize("request_id", ["order-7", "a b", "x" * 129, "\xe9"])
def test_a_line_names_the_client_of_the_http_port(
    model_dir: Path, caplog: pytest.LogCaptureFixture, request_id: str
) -> None:
    """The line has the identifier that the client was told, and not the gateway's own socket."""
    caplog.set_level(logging.INFO)
    with running_server(model_dir, access_log_share=1.0) as server:
        body, headers = {"features": [1.0, 2.0]}, {REQUEST_ID: request_id}
        reply = post(server, "/v1/predict", body, headers)

    (line,) = lines(caplog)
    assert line["request_id"] == reply.headers[REQUEST_ID]
    assert (line["request_id"] == request_id) is (request_id == "order-7")
    assert line["peer"].startswith("ipv4:127.0.0.1:")


def test_a_flood_is_cut_and_counted(
    model_dir: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(call_log, "MAX_LINES_PER_SECOND", 5)
    with running_server(model_dir, access_log_share=1.0) as server:
        with connect(server) as stub:
            for _ in range(100):
                stub.Predict(GOOD)

    (told,) = [r for r in caplog.records if r.msg == "calls not logged"][-1:]
    n_told = sum(
        r.__dict__["fields"]["calls"]
        for r in caplog.records
        if r.msg == "calls not logged"
    )
    assert told.levelname == "WARNING"
    assert len(lines(caplog)) + n_told == 100
    assert n_told > 0


def test_a_log_that_blocks_stops_no_call(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(call_log._log, "info", lambda *_, **__: free.wait(30))
    with running_server(model_dir, access_log_share=1.0) as server:
        with connect(server) as stub, ThreadPoolExecutor(4) as pool:
            for reply in pool.map(lambda _: stub.Predict(GOOD, timeout=5), range(2000)):
                assert reply.model_version is not None
        free.set()


def test_without_the_flag_no_call_is_logged(
    model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with running_server(model_dir) as server:
        with connect(server) as stub:
            stub.Predict(GOOD)

    assert not lines(caplog)
