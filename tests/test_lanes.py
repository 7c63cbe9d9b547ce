"""Both lanes keep the same promises on the wire; test_server.py has the other promises."""

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_server.errors import GrpcioUnusable
from grpc_server.model import load_model
from grpc_server.model.arrays import Matrix
from grpc_server.model.estimator import Explanation
from grpc_server.rpc.desks import LanePolicy
from grpc_server.rpc.self_test import check_grpcio, echo_server
from grpc_server.server import PREDICT_PATH, PredictionServer
from grpc_server.settings import LANES
from prediction.v1.prediction_service_pb2 import PredictRequest, PredictResponse
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from support import (
    ROOT,
    connect,
    lightgbm_artifact,
    read_page,
    running_server,
    settings_of,
    wait_for,
    write_artifact,
)
from wire import (
    count_handled,
    failure,
    raw_method,
    read_metrics,
    reason,
    retry_seconds,
)

AT_CENTER = PredictRequest(features=[1.0, 3.0])
# Calls may wait in line as long as they have to: a busy machine is no reason to refuse one.
PATIENT = LanePolicy(max_wait_seconds=60.0)


class Gate:
    """An estimator that answers once `opened` is set."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.n_asked = 0

    def predict_probabilities(self, row: object) -> list[float]:
        self.n_asked += 1
        assert self.opened.wait(30)
        return [0.25, 0.75]

    def predict_batch(self, X: Matrix) -> Matrix:
        return np.array([self.predict_probabilities(row) for row in X])

    def explain(self, row: object, position: int) -> Explanation:
        self.predict_probabilities(row)
        return Explanation(score=1.0, base=1.0, contributions=[0.0, 0.0])


@pytest.fixture
def channel(server: PredictionServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@pytest.fixture
def gate(server: PredictionServer, model_dir: Path) -> Iterator[Gate]:
    gate = Gate()
    server.serve(replace(load_model(model_dir), estimator=gate))
    yield gate
    gate.opened.set()


def handled(server: PredictionServer, code: str) -> float:
    """Return how many calls of Predict the metrics say ended with `code`."""
    return count_handled(read_metrics(server), "Predict").get(code, 0.0)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_lanes_answer_the_same_bytes(n_classes: int, tmp_path: Path) -> None:
    artifact, rows, _ = lightgbm_artifact(n_classes)
    folder = write_artifact(tmp_path / "model", artifact)
    answers = {}
    for lane in LANES:
        with running_server(folder, lane) as server:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                predict = raw_method(channel, "Predict")
                requests = [PredictRequest(features=row) for row in rows]
                answers[lane] = [predict(r.SerializeToString()) for r in requests]

    assert answers["fast"] == answers["pool"]


def test_bytes_that_are_no_request_are_a_fault_of_the_call_alone(
    channel: grpc.Channel,
) -> None:
    error = failure(lambda: raw_method(channel, "Predict")(b"\xff\xff\xff"))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "MALFORMED_MESSAGE"
    assert PredictionServiceStub(channel).Predict(AT_CENTER).label == "1"


def test_a_call_without_a_message_is_refused(channel: grpc.Channel) -> None:
    call: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(
        PREDICT_PATH
    )

    error = failure(lambda: call(iter([])))

    assert error.code() == grpc.StatusCode.UNIMPLEMENTED
    assert reason(error) == "MESSAGE_MISSING"
    assert PredictionServiceStub(channel).Predict(AT_CENTER).label == "1"


@pytest.mark.parametrize("compression", list(grpc.Compression))
def test_a_compressed_request_is_read(
    compression: grpc.Compression, channel: grpc.Channel
) -> None:
    stub = PredictionServiceStub(channel)

    assert stub.Predict(AT_CENTER, compression=compression).label == "1"


def test_metadata_of_any_kind_does_no_harm(channel: grpc.Channel) -> None:
    metadata = (("x-request-id", "7"), ("x-bytes-bin", b"\x00\xff"))

    response, call = PredictionServiceStub(channel).Predict.with_call(
        AT_CENTER, metadata=metadata
    )

    assert response.label == "1"
    assert (call.code(), call.details()) == (grpc.StatusCode.OK, "")
    assert [*call.initial_metadata(), *call.trailing_metadata()] == []


def test_the_details_of_an_error_come_as_metadata(channel: grpc.Channel) -> None:
    error = failure(lambda: PredictionServiceStub(channel).Predict(PredictRequest()))

    assert [key for key, _ in error.trailing_metadata()] == ["grpc-status-details-bin"]


def test_a_call_whose_deadline_has_passed_is_not_computed(
    channel: grpc.Channel, gate: Gate, server: PredictionServer, lane: str
) -> None:
    stub = PredictionServiceStub(channel)
    n_running = 1 if lane == "fast" else 4
    held = [stub.Predict.future(AT_CENTER) for _ in range(n_running)]
    wait_for(lambda: gate.n_asked == n_running)

    late = stub.Predict.future(AT_CENTER, timeout=0.2)
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(
        0.5
    )  # the server counts from the call's arrival, so its deadline is later
    gate.opened.set()
    assert [call.result().label for call in held] == ["1"] * n_running
    assert stub.Predict(AT_CENTER).label == "1"

    assert gate.n_asked == n_running + 1


def test_a_call_whose_caller_hung_up_is_not_computed(
    channel: grpc.Channel, gate: Gate, server: PredictionServer, lane: str
) -> None:
    stub = PredictionServiceStub(channel)
    n_running = 1 if lane == "fast" else 4
    held = [stub.Predict.future(AT_CENTER) for _ in range(n_running)]
    wait_for(lambda: gate.n_asked == n_running)

    # These wait behind the held ones: in grpc-core on the fast lane, in the pool on the other.
    gone = [stub.Predict.future(AT_CENTER) for _ in range(10)]
    # On the fast lane, grpc-core holds the calls, so nothing shows that they came or ended.
    time.sleep(0.2)
    for call in gone:
        call.cancel()
    time.sleep(0.2)
    gate.opened.set()
    assert [call.result().label for call in held] == ["1"] * n_running
    assert stub.Predict(AT_CENTER).label == "1"

    assert gate.n_asked == n_running + 1


def test_calls_whose_callers_hung_up_make_room_for_others(model_dir: Path) -> None:
    gate = Gate()
    with running_server(model_dir, "fast", max_calls_in_flight=5) as server:
        server.serve(replace(load_model(model_dir), estimator=gate))
        with connect(server) as stub:
            held = stub.Predict.future(AT_CENTER)
            wait_for(lambda: gate.n_asked == 1)
            for call in [stub.Predict.future(AT_CENTER) for _ in range(100)]:
                call.cancel()
            gate.opened.set()

            assert held.result().label == "1"
            # There is no room until the last of them is over.
            wait_for(
                lambda: stub.Predict.future(AT_CENTER).code() is grpc.StatusCode.OK
            )


def test_cancelled_calls_leave_the_server_well(
    channel: grpc.Channel, server: PredictionServer
) -> None:
    stub = PredictionServiceStub(channel)
    for _ in range(300):
        stub.Predict.future(AT_CENTER).cancel()

    assert stub.Predict(AT_CENTER).label == "1"


def test_calls_beyond_the_bound_are_refused_and_health_is_answered(
    model_dir: Path,
) -> None:
    gate = Gate()
    with running_server(model_dir, "pool", max_calls_in_flight=6) as server:
        server.serve(replace(load_model(model_dir), estimator=gate))
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = PredictionServiceStub(channel)
            held = [stub.Predict.future(AT_CENTER) for _ in range(6)]
            wait_for(lambda: gate.n_asked == 4)
            errors = [
                failure(lambda: stub.Predict(AT_CENTER, timeout=10)) for _ in range(20)
            ]
            health = health_pb2_grpc.HealthStub(channel)
            check = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
            gate.opened.set()
            labels = [call.result().label for call in held]

        wait_for(lambda: handled(server, "RESOURCE_EXHAUSTED") == 20)

    assert_overloaded(errors)
    assert check.status == health_pb2.HealthCheckResponse.SERVING
    assert labels == ["1"] * 6


def assert_overloaded(errors: list[Any]) -> None:
    """Check that each error tells when to try again."""
    for error in errors:
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason(error) == "OVERLOADED"
        assert retry_seconds(error) > 0


def test_a_storm_on_the_fast_lane_is_cut_at_the_bound(model_dir: Path) -> None:
    gate = Gate()
    with running_server(model_dir, "fast", max_calls_in_flight=2) as server:
        server.serve(replace(load_model(model_dir), estimator=gate))
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = PredictionServiceStub(channel)
            calls = [stub.Predict.future(AT_CENTER) for _ in range(1000)]
            wait_for(lambda: gate.n_asked == 1)
            gate.opened.set()
            codes = Counter(call.code() for call in calls)
            refused = [
                c for c in calls if c.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            ]
            assert stub.Predict(AT_CENTER).label == "1"

        n_refused = codes[grpc.StatusCode.RESOURCE_EXHAUSTED]
        wait_for(lambda: handled(server, "RESOURCE_EXHAUSTED") == n_refused)

    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert gate.n_asked == codes[grpc.StatusCode.OK] + 1
    assert_overloaded(refused[:5])


def test_calls_that_come_together_are_all_answered_and_counted(
    model_dir: Path, lane: str
) -> None:
    with (
        running_server(model_dir, lane, lane_policy=PATIENT) as server,
        connect(server) as stub,
    ):
        good = [stub.Predict.future(AT_CENTER) for _ in range(300)]
        bad = [stub.Predict.future(PredictRequest()) for _ in range(200)]

        assert {call.result().label for call in good} == {"1"}
        assert {call.code() for call in bad} == {grpc.StatusCode.INVALID_ARGUMENT}
        # The last of them may be counted a moment after its answer.
        wait_for(lambda: handled(server, "OK") == 300)
        wait_for(lambda: handled(server, "INVALID_ARGUMENT") == 200)


def test_calls_are_refused_once_the_first_in_line_has_waited_long(
    model_dir: Path,
) -> None:
    policy = LanePolicy(min_long_line=1, max_wait_seconds=0.0)
    gate = Gate()
    # So many may be in flight that only the wait is a reason to refuse.
    with running_server(
        model_dir, "fast", lane_policy=policy, max_calls_in_flight=100_000
    ) as server:
        server.serve(replace(load_model(model_dir), estimator=gate))
        with connect(server) as stub:
            calls = [stub.Predict.future(AT_CENTER) for _ in range(1000)]
            wait_for(lambda: gate.n_asked == 1)
            gate.opened.set()
            refused = [
                c for c in calls if c.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            ]

            assert stub.Predict(AT_CENTER).label == "1"

    assert 0 < len(refused) < 1000
    assert gate.n_asked == 1000 - len(refused) + 1
    assert_overloaded(refused[:5])


def test_calls_are_answered_however_little_time_there_is_to_take_them_in(
    model_dir: Path,
) -> None:
    policy = replace(PATIENT, intake_seconds=0.0)
    with (
        running_server(model_dir, "fast", lane_policy=policy) as server,
        connect(server) as stub,
    ):
        calls = [stub.Predict.future(AT_CENTER) for _ in range(100)]

        assert {call.result().label for call in calls} == {"1"}


def test_calls_in_flight_at_the_stop_are_answered(
    server: PredictionServer, channel: grpc.Channel, gate: Gate, lane: str
) -> None:
    stub = PredictionServiceStub(channel)
    n_running = 1 if lane == "fast" else 4
    # The message of each call has arrived once the estimator has been asked as often.
    calls = [stub.Predict.future(AT_CENTER) for _ in range(n_running)]
    wait_for(lambda: gate.n_asked == n_running)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    gate.opened.set()

    assert [call.result().label for call in calls] == ["1"] * n_running
    stopping.join()


def test_a_stop_between_any_two_calls_of_a_storm_comes_to_its_end() -> None:
    for number in range(40):
        dispatcher, port, path = echo_server(PATIENT)
        dispatcher.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            calls = [echo.future(b"ping") for _ in range(200)]
            calls[5 * number].result()
            stopping = threading.Thread(target=dispatcher.stop, args=(5,), daemon=True)
            stopping.start()
            stopping.join(30)

            assert not stopping.is_alive()
            codes = {call.code() for call in calls}

        # grpc-core refuses calls that the server has not accepted, or does not even send them.
        turned_away = {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}
        assert codes <= {grpc.StatusCode.OK, *turned_away}


def test_a_thousand_connections_come_and_go(server: PredictionServer) -> None:
    for number in range(1000):
        # An argument of its own keeps grpcio from sharing one connection between channels.
        options = [("connection", number)]
        address = f"127.0.0.1:{server.port}"
        with grpc.insecure_channel(address, options) as channel:
            assert PredictionServiceStub(channel).Predict(AT_CENTER).label == "1"

    # The last of them may be counted a moment after its answer.
    wait_for(lambda: handled(server, "OK") == 1000)


def test_this_grpcio_knows_what_the_image_sets() -> None:
    dockerfile = (ROOT / "grpc_server" / "Dockerfile").read_text()
    (experiments,) = re.findall(
        r"^ENV GRPC_EXPERIMENTS=(\S+)$", dockerfile, re.MULTILINE
    )
    code = "from grpc_server.rpc.self_test import check_grpcio; check_grpcio()"

    for name, errors in ((experiments, ""), ("-unheard_of", "Unknown experiment")):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "GRPC_EXPERIMENTS": name},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        assert errors in result.stderr if errors else result.stderr == ""


def test_this_grpcio_can_be_used() -> None:
    check_grpcio()


def test_a_grpcio_without_what_the_server_needs_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("grpc._cython.cygrpc.SendMessageOperation")

    with pytest.raises(GrpcioUnusable, match="install grpcio>="):
        PredictionServer(settings_of("fast"))


def test_the_metric_names_the_lane(server: PredictionServer, lane: str) -> None:
    page = read_page(f"http://127.0.0.1:{server.http_port}/metrics")

    assert f'prediction_lane_info{{asked="{lane}",lane="{lane}"}} 1.0' in page


def test_an_answer_is_a_response_message(channel: grpc.Channel) -> None:
    raw = raw_method(channel, "Predict")(AT_CENTER.SerializeToString())

    assert PredictResponse.FromString(raw).label == "1"
