"""The Open Inference Protocol on a real server, on both lanes, through the generated stub."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grpc_server.canary.split import find_place
from grpc_server.model import load_model
from grpc_server.oip import model_config_pb2 as config_pb
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.open_inference_grpc_pb2_grpc import GRPCInferenceServiceStub
from grpc_server.server import PredictionServer
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1 import prediction_service_pb2 as v1
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from log_support import read_lines
from oip_support import add_input, matrix_request, mixed_artifact, mixed_requests
from support import (
    lightgbm_artifact,
    read_page,
    running_server,
    wait_for,
    write_artifact,
    write_version,
)
from wire import error_info, failure, field_violations, retry_seconds, status_of_error

INFER = "/inference.GRPCInferenceService/ModelInfer"
CONFIG = "/inference.GRPCInferenceService/ModelConfig"
ROW = np.array([[1.0, 3.0]])


class Ask:
    """Both services of one server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.oip = GRPCInferenceServiceStub(channel)
        self.v1 = PredictionServiceStub(channel)
        self.raw: Callable[..., bytes] = channel.unary_unary(INFER)
        self.config: Callable[..., config_pb.ModelConfigResponse] = channel.unary_unary(
            CONFIG,
            config_pb.ModelConfigRequest.SerializeToString,
            config_pb.ModelConfigResponse.FromString,
        )


@pytest.fixture
def ask(server: PredictionServer) -> Iterator[Ask]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Ask(channel)


def read_doubles(reply: pb.ModelInferResponse, name: str) -> bytes:
    """Return the bytes of an output of doubles, which may be typed."""
    names = [output.name for output in reply.outputs]
    if reply.raw_output_contents:
        return reply.raw_output_contents[names.index(name)]
    contents = reply.outputs[names.index(name)].contents
    return np.array(contents.fp64_contents).tobytes()


def test_one_row_and_many_are_the_bits_of_batch_predict(
    lane: str, tmp_path: Path
) -> None:
    artifact, rows, _ = lightgbm_artifact(3)
    folder = write_artifact(tmp_path, artifact)
    with running_server(folder, lane) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            ask = Ask(channel)
            for count in (1, 1, 7, 300):
                X = rows[:count]
                for is_raw in (True, False):
                    request = matrix_request(X, is_raw=is_raw)
                    request.id = "é1"
                    reply = ask.oip.ModelInfer(request)
                    batch = ask.v1.BatchPredict(
                        v1.BatchPredictRequest(values=X.ravel())
                    )
                    expected = np.array(batch.probabilities).tobytes()
                    assert read_doubles(reply, "probabilities") == expected
                    assert reply.id == "é1"
                    assert reply.model_version == batch.model_version
                    assert bool(reply.raw_output_contents) == is_raw


def test_the_prepared_reply_to_one_row_is_what_protobuf_writes(ask: Ask) -> None:
    """A request by name takes the long way to the same reply."""
    prepared = ask.oip.ModelInfer(matrix_request(ROW))
    request = pb.ModelInferRequest(model_name="model")
    for number in (0, 1):
        add_input(request, f"f{number}", "FP64", [1], ROW[:, number].tolist())

    assert ask.oip.ModelInfer(request) == prepared
    assert [output.name for output in prepared.outputs] == [
        "label",
        "prediction",
        "probabilities",
    ]
    assert prepared.raw_output_contents[0] == b"\x01\x00\x00\x001"
    assert prepared.raw_output_contents[1] == b"\x01\x00\x00\x00"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    folder = write_artifact(tmp_path_factory.mktemp("mixed"), mixed_artifact())
    with running_server(folder) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Ask(channel)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(mixed_requests(), st.booleans())
def test_columns_of_all_kinds_are_the_bits_of_batch_predict(
    mixed: Ask,
    requests: tuple[pb.ModelInferRequest, v1.BatchPredictRequest],
    wants_raw: bool,
) -> None:
    request, batch = requests
    request.parameters["binary_data_output"].bool_param = wants_raw

    reply = mixed.oip.ModelInfer(request)

    assert bool(reply.raw_output_contents) == wants_raw
    expected = mixed.v1.BatchPredict(batch)
    probabilities = np.array(expected.probabilities).tobytes()
    assert read_doubles(reply, "probabilities") == probabilities


def test_metadata_names_an_input_for_each_column(mixed: Ask) -> None:
    reply = mixed.oip.ModelMetadata(pb.ModelMetadataRequest(name="model"))

    inputs = {tensor.name: tensor.datatype for tensor in reply.inputs}
    assert inputs == {
        "age": "FP64",
        "height": "FP64",
        "smoker": "BOOL",
        "active": "BOOL",
        "born": "BYTES",
        "city": "BYTES",
        "plan": "BYTES",
        "ward": "INT64",
    }
    assert all(list(tensor.shape) == [-1, 1] for tensor in reply.inputs)
    assert reply.platform == "sklearn_logistic_regression"
    properties = dict(reply.properties)
    assert json.loads(properties["categories.city"]) == ["Oslo", ""]
    assert json.loads(properties["categories.ward"]) == [3, 7, -11]
    assert json.loads(properties["classes"]) == ["0", "1"]
    assert properties["threshold"] == "0.5"
    assert properties["calibration"] == "none"
    config = mixed.config(config_pb.ModelConfigRequest(name="model")).config
    assert [tensor.name for tensor in config.input] == list(inputs)
    assert config.input[5].data_type == config_pb.TYPE_STRING
    assert config.max_batch_size == 10_000


def test_contributions_add_up_to_the_raw_score(ask: Ask) -> None:
    request = matrix_request(np.array([[1.0, 3.0], [2.0, 0.5]]))
    request.parameters["explain_top_k"].int64_param = 2

    reply = ask.oip.ModelInfer(request)

    names = [output.name for output in reply.outputs]
    assert names[3:] == ["contributions", "base"]
    contributions = np.frombuffer(read_doubles(reply, "contributions")).reshape(2, 2)
    base = np.frombuffer(read_doubles(reply, "base"))
    probability = np.frombuffer(read_doubles(reply, "probabilities")).reshape(2, 2)
    score = np.log(probability[:, 1] / probability[:, 0])
    np.testing.assert_allclose(contributions.sum(axis=1) + base, score, rtol=1e-12)


def test_explaining_many_rows_is_refused(ask: Ask) -> None:
    request = matrix_request(np.ones((101, 2)))
    request.parameters["explain_top_k"].int64_param = 1

    error = failure(lambda: ask.oip.ModelInfer(request))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 100" in error.details()


def test_outputs_come_as_asked(ask: Ask) -> None:
    request = matrix_request(ROW)
    for name in ("probabilities", "label"):
        request.outputs.add(name=name)

    reply = ask.oip.ModelInfer(request)

    assert [output.name for output in reply.outputs] == ["probabilities", "label"]
    assert reply.raw_output_contents[1] == b"\x01\x00\x00\x001"


@pytest.mark.parametrize(("name", "version"), [("other", ""), ("model", "999")])
def test_another_model_or_version_is_not_found(
    ask: Ask, name: str, version: str
) -> None:
    request = matrix_request(ROW, name=name)
    request.model_version = version
    metadata = pb.ModelMetadataRequest(name=name, version=version)
    config = config_pb.ModelConfigRequest(name=name, version=version)
    for call in (
        lambda: ask.oip.ModelInfer(request),
        lambda: ask.oip.ModelMetadata(metadata),
        lambda: ask.config(config),
    ):
        error = failure(call)
        assert error.code() is grpc.StatusCode.NOT_FOUND
        info = error_info(status_of_error(error))
        assert (info.domain, info.reason) == ("inference", "UNKNOWN_MODEL")
    ready = pb.ModelReadyRequest(name=name, version=version)
    assert not ask.oip.ModelReady(ready).ready


def test_the_loaded_version_may_be_named(ask: Ask) -> None:
    request = matrix_request(ROW)
    request.model_version = ask.oip.ModelInfer(request).model_version

    assert ask.oip.ModelInfer(request).model_version == request.model_version


def infer_failure(ask: Ask, request: pb.ModelInferRequest) -> Any:
    return failure(lambda: ask.oip.ModelInfer(request))


def test_an_instance_that_does_not_fit_is_told_as_by_predict(ask: Ask) -> None:
    for row in (np.array([[np.nan, 1.0]]), np.array([[np.inf, 1.0]])):
        error = infer_failure(ask, matrix_request(row))

        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field_violations(status_of_error(error))
        info = error_info(status_of_error(error))
        assert (info.domain, info.reason) == ("inference", "INVALID_INSTANCE")


def test_a_timeout_in_microseconds_is_a_deadline(ask: Ask) -> None:
    request = matrix_request(np.ones((2, 2)))
    request.parameters["timeout"].int64_param = 1

    error = failure(lambda: ask.oip.ModelInfer(request))

    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    request.parameters["timeout"].int64_param = 60_000_000
    assert ask.oip.ModelInfer(request).outputs


def test_without_a_model_the_server_is_live_and_nothing_else(lane: str) -> None:
    with running_server(None, lane) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            ask = Ask(channel)
            assert ask.oip.ServerLive(pb.ServerLiveRequest()).live
            assert not ask.oip.ServerReady(pb.ServerReadyRequest()).ready
            assert not ask.oip.ModelReady(pb.ModelReadyRequest(name="model")).ready
            error = failure(lambda: ask.oip.ModelInfer(matrix_request(ROW)))
            assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_an_overloaded_server_refuses_and_stays_live(
    model_dir: Path, lane: str
) -> None:
    with running_server(model_dir, lane, max_calls_in_flight=1) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            ask = Ask(channel)
            message = matrix_request(np.ones((10_000, 2)))
            codes = set()
            for _ in range(20):
                calls = [ask.oip.ModelInfer.future(message) for _ in range(40)]
                assert ask.oip.ServerLive(pb.ServerLiveRequest()).live
                errors: list[Any] = [call.exception() for call in calls]
                codes |= {error.code() for error in errors if error is not None}
                if codes:
                    break
            assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            refused = next(error for error in errors if error is not None)
            assert retry_seconds(refused) > 0
            assert error_info(status_of_error(refused)).domain == "inference"


def test_calls_are_counted_by_method_and_rows_by_label(
    server: PredictionServer, ask: Ask
) -> None:
    for count in (1, 3):
        ask.oip.ModelInfer(matrix_request(np.ones((count, 2))))
    failure(lambda: ask.oip.ModelInfer(matrix_request(np.ones((1, 3)))))
    counted = (
        'grpc_server_handled_total{grpc_code="OK",grpc_method="ModelInfer",'
        'grpc_service="inference.GRPCInferenceService",grpc_type="unary"} 2.0'
    )
    wanted = (
        counted,
        counted.replace("OK", "INVALID_ARGUMENT").replace("2.0", "1.0"),
    )
    page = f"http://127.0.0.1:{server.http_port}/metrics"
    # A call is counted once its reply is on its way.
    wait_for(lambda: all(map(read_page(page).__contains__, wanted)))
    lines = [
        x
        for x in read_page(page).splitlines()
        if x.startswith("prediction_instances_total")
    ]
    assert sum(float(line.split()[-1]) for line in lines) == 4


def test_switched_off_the_service_is_unknown(model_dir: Path, lane: str) -> None:
    with running_server(model_dir, lane, open_inference=False) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            ask = Ask(channel)
            error = failure(lambda: ask.oip.ModelInfer(matrix_request(ROW)))
            assert error.code() is grpc.StatusCode.UNIMPLEMENTED
            assert ask.v1.Predict(v1.PredictRequest(features=[1.0, 3.0])).label == "1"


def test_the_name_is_the_settings_or_the_registered_models(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folder = write_version(tmp_path, logistic_artifact, "7")
    for setting, name in (("", "iris"), ("wine", "wine")):
        with running_server(folder, model_name=setting) as server:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                ask = Ask(channel)
                reply = ask.oip.ModelInfer(matrix_request(ROW, name=name))
                assert (reply.model_name, reply.model_version) == (name, "7")


def wait_for_lines(log: Path, n_lines: int) -> list[dict[str, Any]]:
    """Return the lines of the log once there are so many; a process of its own writes them."""
    wait_for(lambda: log.exists() and len(read_lines(log)) >= n_lines)
    return read_lines(log)


def test_the_prediction_log_has_the_rows(lane: str, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "model", mixed_artifact())
    log = tmp_path / "log"
    request = pb.ModelInferRequest(model_name="model")
    values: dict[str, tuple[str, list[Any]]] = {
        "age": ("INT32", [40, 50]),
        "height": ("FP64", [np.nan, 1.8]),
        "smoker": ("FP32", [np.nan, 1.0]),
        "active": ("BOOL", [True, False]),
        "born": ("BYTES", ["01/02/2003", "02/02/2003"]),
        "city": ("BYTES", ["Oslo", ""]),
        "plan": ("BYTES", ["a", "b"]),
        "ward": ("INT64", [3, 0]),
    }
    for name, (datatype, column) in values.items():
        add_input(request, name, datatype, [2, 1], column)
    request.inputs[-1].parameters["missing_rows"].string_param = "1"
    with running_server(folder, lane, prediction_log=log) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            reply = Ask(channel).oip.ModelInfer(
                request, metadata=(("x-request-id", "call-1"),)
            )
        first, second = wait_for_lines(log, 2)
    assert first["request_id"] == second["request_id"] == "call-1"
    assert first["features"] == {
        "age": 40.0,
        "height": None,
        "smoker": None,
        "active": True,
        "born": "01/02/2003",
        "city": "Oslo",
        "plan": "a",
        "ward": 3,
    }
    assert second["features"]["ward"] is None
    logged = [list(line["probabilities"].values()) for line in (first, second)]
    assert np.array(logged).tobytes() == read_doubles(reply, "probabilities")


def test_the_prediction_log_has_the_one_row_of_the_lane(
    lane: str, model_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running_server(model_dir, lane, prediction_log=log) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            reply = Ask(channel).oip.ModelInfer(matrix_request(ROW))
        (line,) = wait_for_lines(log, 1)
    assert line["features"] == {"f0": 1.0, "f1": 3.0}
    probabilities = np.array(list(line["probabilities"].values()))
    assert probabilities.tobytes() == read_doubles(reply, "probabilities")


def test_a_canary_answers_its_share_and_leaves_named_versions_alone(
    lane: str, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    champion = write_version(tmp_path, logistic_artifact, "1")
    logistic_artifact.provenance.metrics["holdout_roc_auc"] = 0.8  # it is another file
    canary = load_model(write_version(tmp_path, logistic_artifact, "2"))
    with running_server(
        champion, lane, canary_dir=tmp_path / "canary", canary_share=0.5
    ) as server:
        assert server.canary is not None
        server.canary.serve(canary)
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            ask = Ask(channel)
            for count in (1, 3):
                request = matrix_request(np.tile(ROW, (count, 1)), name="iris")
                for number in range(20):
                    name = f"user-{number}"
                    reply = ask.oip.ModelInfer(
                        request, metadata=(("prediction-key", name),)
                    )
                    is_canary = find_place(name) < 0.5
                    assert reply.model_version == ("2" if is_canary else "1")
            request.model_version = "1"
            versions = {ask.oip.ModelInfer(request).model_version for _ in range(20)}
            assert versions == {"1"}


def test_tokens_have_the_scopes_of_predict_and_get_model(
    lane: str, model_dir: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    lines = [
        f"{name} sha256:{hashlib.sha256(name.encode()).hexdigest()} {name}"
        for name in ("predict", "describe")
    ]
    tokens.write_text("\n".join(lines) + "\n")
    metadata = pb.ModelMetadataRequest(name="model")
    ready = pb.ModelReadyRequest(name="model")
    with running_server(model_dir, lane, tokens_file=tokens) as server:
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            ask = Ask(channel)
            calls: dict[str, list[Callable[..., Any]]] = {
                "predict": [
                    lambda **of: ask.oip.ModelInfer(matrix_request(ROW), **of),
                    lambda **of: ask.oip.ModelInfer(
                        matrix_request(np.ones((9, 2))), **of
                    ),
                ],
                "describe": [
                    lambda **of: ask.oip.ModelMetadata(metadata, **of),
                    lambda **of: ask.oip.ModelReady(ready, **of),
                    lambda **of: ask.oip.ServerMetadata(
                        pb.ServerMetadataRequest(), **of
                    ),
                    lambda **of: ask.config(
                        config_pb.ModelConfigRequest(name="model"), **of
                    ),
                ],
            }
            for scope, of_scope in calls.items():
                other = "describe" if scope == "predict" else "predict"
                for call in of_scope:
                    call(metadata=(("authorization", f"Bearer {scope}"),))
                    wrong = (("authorization", f"Bearer {other}"),)
                    denied = failure(partial(call, metadata=wrong))
                    assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
                    unknown = failure(call)
                    assert unknown.code() is grpc.StatusCode.UNAUTHENTICATED
            assert ask.oip.ServerReady(pb.ServerReadyRequest()).ready


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_bytes_are_an_internal_error(mixed: Ask, data: st.DataObject) -> None:
    """Whatever the bytes, they are answered or refused, and the server goes on."""
    good = matrix_request(np.ones((1, 3))).SerializeToString()
    message = bytearray(data.draw(st.just(good) | st.binary(max_size=200)))
    for _ in range(data.draw(st.integers(0, 4))):
        if message:
            message[data.draw(st.integers(0, len(message) - 1))] = data.draw(
                st.integers(0, 255)
            )

    try:
        mixed.raw(bytes(message))
    except grpc.RpcError as error:
        assert status_of_error(error).code in (
            code.value[0]
            for code in (
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.UNIMPLEMENTED,
            )
        )
