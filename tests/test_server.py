"""The server through its own ports: real stubs, real health and reflection, real HTTP."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from math import nan
from pathlib import Path
from threading import Event

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from grpc_server.errors import StartupError
from grpc_server.model import LoadedModel, load_model
from grpc_server.model.arrays import Matrix
from grpc_server.model.estimator import Explanation
from grpc_server.model.source import ModelSource
from grpc_server.rpc.calls import Call
from grpc_server.rpc.desks import AtOnce
from grpc_server.server import PredictionServer
from grpc_server.settings import Settings
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact, StringLabels
from prediction.v1.prediction_service_pb2 import (
    FEATURE_KIND_NUMERIC,
    BatchPredictRequest,
    GetModelRequest,
    PredictRequest,
    StreamPredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from support import (
    artifact_without_estimator,
    connect,
    lightgbm_artifact,
    running_server,
    wait_for,
)
from wire import (
    count_handled,
    error_info,
    failure,
    field_violations,
    read_metrics,
    samples,
    status_of_error,
    violations,
)

Serve = Callable[[ModelArtifact], PredictionServiceStub]
AT_CENTER = PredictRequest(features=[1.0, 3.0])


def get(server: PredictionServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{server.http_port}{path}"
        ) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def sample(server: PredictionServer, name: str, **labels: str) -> float | None:
    found = samples(read_metrics(server), name, **labels)
    return found[0].value if found else None


def health(server: PredictionServer, service: str) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        status = health_pb2_grpc.HealthStub(channel).Check(request).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))


def test_predict_answers_by_position(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    response = serve(logistic_artifact).Predict(AT_CENTER)

    assert response.model == "Logistic Regression"
    assert (response.prediction, response.label) == (1, "1")
    assert list(response.probabilities) == [0.3775406687981454, 0.6224593312018546]
    assert response.model_version.startswith("sha256:")


def test_predict_answers_the_same_by_name(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)
    request = PredictRequest()
    request.record.update({"f1": 3.0, "f0": 1.0})

    assert stub.Predict(request) == stub.Predict(AT_CENTER)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_predict_gives_the_probabilities_of_lightgbm(
    serve: Serve, n_classes: int
) -> None:
    artifact, rows, expected = lightgbm_artifact(n_classes)
    stub = serve(artifact)

    responses = [stub.Predict(PredictRequest(features=row)) for row in rows]

    assert [list(r.probabilities) for r in responses] == expected.tolist()
    assert [r.prediction for r in responses] == expected.argmax(axis=1).tolist()


def test_prediction_is_the_label_where_labels_are_integers(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    logistic_artifact.class_labels.integers.values[:] = [-1, 40]
    logistic_artifact.golden_examples[0].label = "40"

    response = serve(logistic_artifact).Predict(AT_CENTER)

    assert (response.prediction, response.label) == (40, "40")


def test_prediction_is_the_position_where_labels_are_text(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    logistic_artifact.class_labels.strings.CopyFrom(StringLabels(values=["no", "yes"]))
    logistic_artifact.golden_examples[0].label = "yes"

    response = serve(logistic_artifact).Predict(AT_CENTER)

    assert (response.prediction, response.label) == (1, "yes")


def test_the_threshold_of_the_artifact_decides(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    logistic_artifact.threshold = 0.7
    logistic_artifact.golden_examples[0].label = "0"

    assert serve(logistic_artifact).Predict(AT_CENTER).label == "0"


def test_get_model_describes_the_model(
    model_dir: Path, logistic_artifact: ModelArtifact
) -> None:
    digest = load_model(model_dir).source.sha256
    ModelSource("iris", "7", "run-1", digest).write(model_dir)

    with running_server(model_dir) as server, connect(server) as stub:
        response = stub.GetModel(GetModelRequest())

    assert response.model == "Logistic Regression"
    assert (response.registered_model, response.model_version) == ("iris", "7")
    assert response.run_id == "run-1"
    assert [(f.name, f.kind, f.nullable) for f in response.features] == [
        ("f0", FEATURE_KIND_NUMERIC, False),
        ("f1", FEATURE_KIND_NUMERIC, False),
    ]
    assert list(response.classes) == ["0", "1"]
    assert response.threshold == 0.5
    assert dict(response.metrics) == {"holdout_roc_auc": 0.75}
    assert response.create_time == logistic_artifact.provenance.create_time
    assert response.load_time.seconds > response.create_time.seconds


def test_get_model_has_no_threshold_for_three_classes(serve: Serve) -> None:
    artifact, _, _ = lightgbm_artifact(3)

    assert not serve(artifact).GetModel(GetModelRequest()).HasField("threshold")


def test_a_bad_request_names_field_value_and_what_is_allowed(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)

    error = failure(lambda: stub.Predict(PredictRequest(features=[1.0, nan])))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    description = 'nan is not allowed for "f1", which takes a finite number'
    assert error.details() == f"features[1]: {description}"
    status = status_of_error(error)
    info = error_info(status)
    assert (info.reason, info.domain) == ("INVALID_INSTANCE", "prediction.v1")
    assert field_violations(status) == [("features[1]", description)]


@pytest.mark.parametrize(
    "request_", [PredictRequest(), PredictRequest(features=[1.0] * 3)]
)
def test_a_wrong_count_is_an_invalid_argument(
    serve: Serve, logistic_artifact: ModelArtifact, request_: PredictRequest
) -> None:
    stub = serve(logistic_artifact)

    error = failure(lambda: stub.Predict(request_))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "2 are needed: f0, f1" in error.details()


def test_features_and_record_at_once_are_refused(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)
    request = PredictRequest(features=[1.0, 3.0])
    request.record.update({"f0": 1.0, "f1": 3.0})

    error = failure(lambda: stub.Predict(request))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert (
        error.details() == "record: cannot be sent with features; send one of the two"
    )


def test_a_flood_of_violations_still_arrives_as_invalid_argument(serve: Serve) -> None:
    """Details beyond 8 KiB would reach the caller as RESOURCE_EXHAUSTED."""
    artifact, rows, _ = lightgbm_artifact(2)
    request = PredictRequest()
    request.record.update({"ü" * 200 + str(number): "ü" * 200 for number in range(60)})

    stub = serve(artifact)

    # 60 names are unknown and 6 features are absent.
    *told, (_, more) = violations(lambda: stub.Predict(request))
    assert len(told) > 5
    assert more == f"{66 - len(told)} more fields do not fit"


def test_a_fault_is_told_by_an_id_only(
    server: PredictionServer, model_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def predict_probabilities(self, row: object) -> list[float]:
            raise ValueError("secret path /etc")

        def predict_batch(self, X: Matrix) -> Matrix:
            raise ValueError("secret path /etc")

        def explain(self, row: object, position: int) -> Explanation:
            raise ValueError("secret path /etc")

    good = load_model(model_dir)
    server.serve(
        LoadedModel(
            good.input_schema,
            good.classes,
            Broken(),
            good.provenance,
            good.source,
            good.load_time,
        )
    )

    with connect(server) as stub:
        error = failure(lambda: stub.Predict(AT_CENTER))

    assert error.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(error)
    (record,) = [r for r in caplog.records if r.getMessage() == "call failed"]
    assert record.__dict__["fields"]["error_id"] in error.details()
    assert record.exc_info is not None and "secret path" in str(record.exc_info[1])


def test_without_a_model_the_server_is_alive_but_not_ready(lane: str) -> None:
    with running_server(None, lane) as server, connect(server) as stub:
        error = failure(lambda: stub.Predict(AT_CENTER))

        assert error.code() == grpc.StatusCode.UNAVAILABLE
        assert error.details() == "no model is loaded yet"
        assert [health(server, name) for name in ("", "liveness")] == ["SERVING"] * 2
        names = ("readiness", "prediction.v1.PredictionService")
        assert [health(server, name) for name in names] == ["NOT_SERVING"] * 2
        assert get(server, "/health/live")[0] == 200
        status, body = get(server, "/health/ready")
        assert status == 503
        assert json.loads(body)["reason"] == "no model is loaded yet"


def test_with_a_model_the_server_is_ready(server: PredictionServer) -> None:
    names = ("", "liveness", "readiness", "prediction.v1.PredictionService")

    assert [health(server, name) for name in names] == ["SERVING"] * 4
    assert get(server, "/health/ready") == (200, '{"status": "ok"}')


def test_health_of_an_unknown_name_is_not_found(server: PredictionServer) -> None:
    error = failure(lambda: health(server, "nobody"))

    assert error.code() == grpc.StatusCode.NOT_FOUND


def test_open_watches_do_not_take_the_workers(server: PredictionServer) -> None:
    """A blocking Watch would hold one of the workers for as long as it is open."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(16)]
        assert [next(watch).status for watch in watches] == [1] * 16

        assert (
            PredictionServiceStub(channel).Predict(AT_CENTER, timeout=10).label == "1"
        )

        for watch in watches:
            watch.cancel()


def test_while_draining_the_server_answers_but_is_not_ready(
    server: PredictionServer,
) -> None:
    wake = Event()
    wake.set()
    server.drain(wake)

    with connect(server) as stub:
        assert stub.Predict(AT_CENTER).label == "1"
    assert health(server, "readiness") == "NOT_SERVING"
    assert health(server, "liveness") == "SERVING"
    assert "draining" in get(server, "/health/ready")[1]


def test_a_connection_ends_at_its_age_and_no_call_with_it(
    model_dir: Path, lane: str
) -> None:
    """Otherwise a busy connection would outlive the draining, and lose a call at the stop."""
    ended = Event()

    def watch(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.IDLE and answers:
            ended.set()

    answers: list[str] = []
    settings = Settings(
        host="127.0.0.1", port=0, http_port=0, max_connection_age_seconds=0.2, lane=lane
    )
    server = PredictionServer(settings)
    server.start()
    try:
        server.serve(load_model(model_dir))
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            channel.subscribe(watch)
            stub = PredictionServiceStub(channel)
            for _ in range(20_000):
                answers.append(stub.Predict(AT_CENTER, timeout=10).label)
                if ended.is_set():
                    break
            channel.unsubscribe(watch)
            # grpcio looks at a watched channel every 0.2 s, and raises if it is closed meanwhile.
            time.sleep(0.5)
    finally:
        server.stop()

    assert ended.is_set()
    assert set(answers) == {"1"}


def test_reflection_lists_and_describes_the_services(server: PredictionServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)

        assert set(database.get_services()) == {
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
            "inference.GRPCInferenceService",
            "prediction.v1.PredictionService",
        }
        file = database.FindFileContainingSymbol("prediction.v1.PredictionService")
        assert [method.name for method in file.service[0].method] == [
            "Predict",
            "BatchPredict",
            "StreamPredict",
            "GetModel",
        ]


def linear_of_three_classes() -> ModelArtifact:
    """A model whose scores overflow where the features are large."""
    artifact = artifact_without_estimator(2, 3)
    linear = artifact.logistic_regression
    linear.coefficients.extend([3.0, -3.0, -2.0, 2.0, 1.0, 1.0])
    linear.intercepts.extend([0.0] * 3)
    third = [1 / 3] * 3
    artifact.golden_examples.add(features=[0.0, 0.0], probabilities=third, label="0")
    return artifact


def calibrated_by_steps() -> ModelArtifact:
    """The same with maps that end in a constant, which NaN scores must not get."""
    artifact = linear_of_three_classes()
    for _ in range(3):
        isotonic = artifact.calibration.maps.add().isotonic
        isotonic.inputs.extend([-1.0, 0.0, 1.0])
        isotonic.outputs.extend([0.1, 0.5, 0.9])
    return artifact


@pytest.mark.parametrize("size", [1e308, 1.7e308])
@pytest.mark.parametrize("make", [linear_of_three_classes, calibrated_by_steps])
def test_an_answer_that_is_no_probability_is_not_sent(
    serve: Serve, size: float, make: Callable[[], ModelArtifact]
) -> None:
    """Neither Predict, nor a batch, a chunk or an explanation sends one."""
    stub = serve(make())
    rows = [0.5, 1.0, size, size]
    batch = BatchPredictRequest(values=rows)
    by_name = PredictRequest()
    by_name.record.update({"f0": size, "f1": size})

    for call in (
        lambda: stub.Predict(PredictRequest(features=[size, size])),
        lambda: stub.Predict(by_name),
        lambda: stub.BatchPredict(batch),
        lambda: list(stub.StreamPredict(iter([StreamPredictRequest(chunk=batch)]))),
        lambda: stub.Predict(PredictRequest(features=[size, -size], explain_top_k=1)),
    ):
        error = failure(call)
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "its score overflows" in error.details()


def test_a_serving_thread_that_hangs_is_no_life(
    model_dir: Path, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Liveness checks the whole path of a call from outside."""
    let_go = Event()

    take = AtOnce.take

    def hang(desk: AtOnce, call: Call) -> None:
        let_go.wait(60)
        take(desk, call)

    with running_server(model_dir, lane, max_silence_seconds=3.0) as server:
        assert get(server, "/health/live") == (200, '{"status": "ok"}')
        # Where each message of a call is handled, which is on the serving thread.
        monkeypatch.setattr(AtOnce, "take", hang)
        try:
            wait_for(lambda: get(server, "/health/live")[0] == 503)
            reason = json.loads(get(server, "/health/live")[1])["reason"]
            assert "has not answered for" in reason
        finally:
            monkeypatch.undo()
            let_go.set()
        wait_for(lambda: get(server, "/health/live")[0] == 200)


def test_reflection_can_be_switched_off() -> None:
    settings = Settings(host="127.0.0.1", port=0, http_port=0, reflection=False)
    server = PredictionServer(settings)
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            error = failure(
                lambda: ProtoReflectionDescriptorDatabase(channel).get_services()
            )
    finally:
        server.stop()

    assert error.code() == grpc.StatusCode.UNIMPLEMENTED


def test_metrics_count_calls_by_status(server: PredictionServer) -> None:
    method = {
        "grpc_service": "prediction.v1.PredictionService",
        "grpc_method": "Predict",
    }
    with connect(server) as stub:
        stub.Predict(AT_CENTER)
        stub.Predict(AT_CENTER)
        failure(lambda: stub.Predict(PredictRequest()))

    # A call is counted once it is over, a moment after its answer.
    counted = {"OK": 2, "INVALID_ARGUMENT": 1}
    wait_for(lambda: count_handled(read_metrics(server), "Predict") == counted)
    assert sample(server, "grpc_server_started_total", **method) == 3
    assert sample(server, "grpc_server_handling_seconds_count", **method) == 3
    assert sample(server, "prediction_instances_total", label="1") == 2


def test_metrics_tell_which_model_answers(server: PredictionServer) -> None:
    assert sample(server, "prediction_model_info", family="logistic_regression") == 1
    assert (sample(server, "prediction_model_loaded_timestamp_seconds") or 0) > 1.7e9
    assert (sample(server, "process_resident_memory_bytes") or 0) > 0


def test_an_unknown_path_is_not_found(server: PredictionServer) -> None:
    status, body = get(server, "/nothing")

    assert status == 404
    paths = json.loads(body)["paths"]
    assert {"/metrics", "/health/live", "/health/ready", "/v2"} <= set(paths)


def test_a_port_in_use_is_an_error(server: PredictionServer) -> None:
    settings = Settings(host="127.0.0.1", port=server.port, http_port=0)
    with pytest.raises(
        StartupError,
        match=f"127.0.0.1:{server.port}: Address already in use; .* --port",
    ):
        PredictionServer(settings)

    settings = Settings(host="127.0.0.1", port=0, http_port=server.http_port)
    with pytest.raises(
        StartupError, match="Address already in use; choose .* --http-port"
    ):
        PredictionServer(settings)


def test_ports_can_be_had_again_at_once() -> None:
    """Connections that the process before has closed linger for a minute."""
    with running_server(None) as server:
        port = server.http_port
        assert get(server, "/metrics")[0] == 200

    again = PredictionServer(Settings(host="127.0.0.1", port=0, http_port=port))

    again.stop()


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(
        StartupError, match="cannot listen on 192.0.2.1:0: Cannot assign"
    ):
        PredictionServer(Settings(host="192.0.2.1", port=0, http_port=0))


def test_ipv6_is_served(logistic_artifact: ModelArtifact, model_dir: Path) -> None:
    server = PredictionServer(Settings(host="::1", port=0, http_port=0))
    server.start()
    try:
        server.serve(load_model(model_dir))
        with grpc.insecure_channel(f"[::1]:{server.port}") as channel:
            assert PredictionServiceStub(channel).Predict(AT_CENTER).label == "1"
        with urllib.request.urlopen(
            f"http://[::1]:{server.http_port}/health/ready"
        ) as response:
            assert response.status == 200
    finally:
        server.stop()


def test_a_message_beyond_the_limit_is_refused(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)
    values = np.zeros(Settings().max_message_bytes // 8 + 1)

    error = failure(lambda: stub.Predict(PredictRequest(features=values)))

    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
