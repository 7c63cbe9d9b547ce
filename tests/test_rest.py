"""JSON over HTTP: curl, the real Envoy with the configuration of the pod, and a real server."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from grpc_server.descriptor_set import build_descriptor_set
from grpc_server.server import PredictionServer
from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from rest_support import (
    LOG,
    Reply,
    curl,
    five_feature_artifact,
    post,
    running_envoy,
)
from serve_rest import CONFIGURATION, Ports, render
from support import ROOT, running_server, wait_for, write_artifact
from wire import count_handled, failure, violations

# From the documentation of the predecessor, which is all that its callers know.
OLD_EXAMPLE = """
    curl -X POST http://localhost:8000/predict -H 'Content-Type: application/json'
      -d '{"features": [1.0, 2.0, 3.0, 4.0, 5.0]}'
"""
AT_CENTER = '{"features": [1.0, 2.0, 3.0, 4.0, 5.0]}'
SUBJECT = "type.googleapis.com/google.rpc."


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("envoy")


@pytest.fixture(scope="session")
def url(folder: Path, clean_environment: None) -> Iterator[str]:
    model_dir = write_artifact(folder / "model", five_feature_artifact())
    with (
        running_server(model_dir) as server,
        running_envoy(folder, server.port, server.http_port) as url,
    ):
        yield url


@pytest.fixture
def without_model(tmp_path: Path) -> Iterator[tuple[str, PredictionServer]]:
    with (
        running_server(None) as server,
        running_envoy(tmp_path, server.port, server.http_port) as url,
    ):
        yield url, server


@pytest.fixture
def channel(url: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        yield channel


def error(reply: Reply) -> tuple[int, int, str]:
    """Return status, code and message of an error, which is JSON and nothing else."""
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json) == {"code", "message", "details"}
    return reply.status, reply.json["code"], reply.json["message"]


def test_the_example_of_the_predecessor_works_unchanged(url: str) -> None:
    words = shlex.split(OLD_EXAMPLE.replace("http://localhost:8000", url))

    reply = curl(*words[1:])

    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    version = reply.json.pop("model_version")
    assert version.startswith("sha256:")
    assert reply.json | {"model_version": version} == {
        "model": "Logistic Regression",
        "prediction": 1,
        "label": "1",
        "probabilities": [0.3775406687981454, 0.6224593312018546],
        "model_version": version,
    }


def test_a_prediction_of_zero_is_printed(url: str) -> None:
    reply = post(url, '{"features": [-9, 2, 3, 4, 5]}')

    assert (reply.status, reply.json["prediction"]) == (200, 0)


def test_a_record_answers_the_same(url: str) -> None:
    record = {f"f{position}": position + 1 for position in reversed(range(5))}

    reply = post(url, json.dumps({"record": record}))

    assert (reply.status, reply.text) == (200, post(url, AT_CENTER).text)


def test_the_content_type_may_be_left_out(url: str) -> None:
    assert curl("--data", AT_CENTER, f"{url}/predict").status == 200


def test_fields_that_the_request_does_not_have_are_ignored(url: str) -> None:
    """The predecessor did the same. A misspelt field leaves out the features, which is an error."""
    body = AT_CENTER.replace("{", '{"id": [{"is": 7}], ')

    assert post(url, body).status == 200
    assert post(url, AT_CENTER.replace("features", "feature")).status == 400


BATCH = [[1.0, 2.0, 3.0, 4.0, 5.0], [-9.0, 2.0, 3.0, 4.0, 5.0]]


def test_a_batch_is_answered_row_by_row(url: str) -> None:
    alone = [post(url, json.dumps({"features": row})).json for row in BATCH]
    columns = [
        {"name": f"f{j}", "doubles": {"values": [row[j] for row in BATCH]}}
        for j in range(5)
    ]

    for body in ({"values": BATCH[0] + BATCH[1]}, {"columns": columns}):
        reply = post(url, json.dumps(body), path="/predict/batch")

        assert (reply.status, reply.json) == (
            200,
            {
                "model": "Logistic Regression",
                "classes": ["0", "1"],
                "positions": [1, 0],
                "probabilities": [p for one in alone for p in one["probabilities"]],
                "model_version": alone[0]["model_version"],
                "packed_probabilities": "",
            },
        )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "values: 0 values came"),
        ('{"values": [1, 2, 3, 4, 5, 6]}', "values: 6 values came"),
        # Without the null, these would be whole rows.
        ('{"values": [1, null, 2, 3, 4, 5]}', 'a missing number is "NaN"'),
        ('{"values": [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]}', "no list"),
        ('{"columns": [{"name": "f0", "doubles": {"values": [null]}}]}', "no null"),
        ('{"columns": [{"name": "f0", "doubles": [1]}]}', "cannot start list"),
        (
            '{"columns": [{"name": "null, [null", "strings": {"values": ["\\"[null"]}}]}',
            'columns["null, [null"]: is not a feature of the model',
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_a_400(url: str, body: str, message: str) -> None:
    status, code, text = error(post(url, body, path="/predict/batch"))

    assert (status, code) == (400, 3)
    assert message in text


def test_model_describes_the_model(url: str) -> None:
    reply = curl(f"{url}/model")

    assert reply.status == 200
    times = {name: reply.json[name] for name in ("create_time", "load_time")}
    assert times["create_time"] == "2023-11-14T22:13:20Z" < times["load_time"]
    assert reply.json == times | {
        "takes_packed_rows": True,
        "members": [],
        "model": "Logistic Regression",
        "registered_model": "",
        "model_version": post(url, AT_CENTER).json["model_version"],
        "run_id": "",
        "features": [
            {
                "name": f"f{n}",
                "kind": "FEATURE_KIND_NUMERIC",
                "nullable": False,
                "categories": [],
                "refuse_unknown": False,
                "format": "",
            }
            for n in range(5)
        ],
        "classes": ["0", "1"],
        "threshold": 0.5,
        "calibration": "CALIBRATION_NONE",
        "metrics": {"holdout_roc_auc": 0.75},
    }


def test_a_wide_model_is_described(tmp_path: Path) -> None:
    """Its description is far larger than the buffer of an Envoy connection."""
    artifact = five_feature_artifact()
    for number in range(5, 20_000):
        artifact.input_schema.features.add(name=f"f{number}").numeric.SetInParent()
        artifact.logistic_regression.coefficients.append(0.0)
        artifact.logistic_regression.centers.append(0.0)
        artifact.golden_examples[0].features.append(0.0)
    model_dir = write_artifact(tmp_path / "model", artifact)

    with (
        running_server(model_dir) as server,
        running_envoy(tmp_path, server.port, server.http_port) as url,
    ):
        features = curl(f"{url}/model").json["features"]
        answer = post(url, json.dumps({"features": [1, 2, 3, 4, 5] + [0.5] * 19_995}))

    assert len(features) == 20_000
    assert (answer.status, answer.json["prediction"]) == (200, 1)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_comes_from_the_server(url: str, path: str) -> None:
    reply = curl(url + path)

    assert (reply.status, reply.json) == (200, {"status": "ok"})


def test_metrics_come_from_the_server(url: str) -> None:
    reply = curl(f"{url}/metrics")

    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain")
    assert "prediction_model_info{" in reply.text


def test_a_bad_request_names_its_violations(url: str) -> None:
    reply = post(url, '{"features": [1.0, 2.0]}')

    problem = "2 values came, 5 are needed: f0, f1, f2, f3, f4"
    assert error(reply) == (400, 3, f"features: {problem}")
    info, bad_request, request = reply.json["details"]
    assert request["@type"] == SUBJECT + "RequestInfo"
    # Envoy makes an identifier for each call.
    assert len(request["request_id"]) == 36
    assert (info["@type"], info["reason"]) == (
        SUBJECT + "ErrorInfo",
        "INVALID_INSTANCE",
    )
    assert bad_request["@type"] == SUBJECT + "BadRequest"
    (violation,) = bad_request["field_violations"]
    assert (violation["field"], violation["description"]) == ("features", problem)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"features": [1.0, "red", 3, 4, 5]}', 'invalid value "red"'),
        ('{"features": [1.0, true, 3, 4, 5]}', "invalid value true"),
        ('{"features": {"f0": 1}}', "Starting an object on a scalar field"),
        ('{"features": [1, 2, 3, 4, "NaN"]}', "features[4]: nan is not allowed"),
        ('{"features": [1, 2, 3, 4, NaN]}', "Unexpected token"),
        ('{"features": [1, 2, 3, 4, 1e999]}', "exceeds the range of double"),
        # Without their nulls and brackets these would be five numbers.
        ('{"features": [1, null, 2, 3, 4, 5]}', 'a missing number is "NaN"'),
        ('{"features": [1, [2, 3], 4, 5]}', "a list takes no null and no list"),
        ('{"f\\u0065atures": [1, [2, 3], 4, 5]}', "no list"),
        ('{"features": [1], "features": [2, 3, 4, 5, null]}', "takes no null"),
        ('{"record": [1, 2, 3, 4, 5]}', "cannot start list"),
        (
            '{"record": {"f0": null, "f1": 1, "f2": 1, "f3": 1, "f4": 1}}',
            'record["f0"]: null is not allowed',
        ),
        ("{}", "features: 0 values came"),
        ("", "features: 0 values came"),
        ("[1, 2]", "Root element must be a message"),
        ("null", "Root element must be a message"),
        ('{"features": [1.0', "Unexpected end"),
        (AT_CENTER + " {}", "Parsing terminated before end of input"),
    ],
)
def test_what_does_not_fit_is_a_400(url: str, body: str, message: str) -> None:
    status, code, text = error(post(url, body))

    assert (status, code) == (400, 3)
    assert message in text


def test_a_parameter_in_the_query_is_a_400(url: str) -> None:
    status, code, message = error(curl(f"{url}/model?version=1"))

    assert (status, code) == (400, 3)
    assert '"version"' in message


@pytest.mark.parametrize("path", ["/", "/predict/1", "/health", "/v1/predict"])
def test_an_unknown_path_is_a_404(url: str, path: str) -> None:
    status, code, message = error(curl(url + path))

    assert (status, code) == (404, 5)
    assert "/predict" in message


def test_json_on_the_path_of_grpc_is_a_404(url: str) -> None:
    path = "/prediction.v1.PredictionService/Predict"
    kind = ("--header", "Content-Type: application/json")

    assert curl("--data", AT_CENTER, *kind, url + path).status == 404


@pytest.mark.parametrize(
    ("path", "wrong", "right"),
    [
        ("/predict", "GET", "POST"),
        ("/predict/batch", "GET", "POST"),
        ("/model", "POST", "GET"),
        ("/model", "PUT", "GET"),
    ],
)
def test_another_method_is_a_405(url: str, path: str, wrong: str, right: str) -> None:
    reply = curl("--request", wrong, url + path)

    assert error(reply) == (405, 12, f"{path} takes {right}")
    assert reply.headers["allow"] == right


@pytest.mark.parametrize("header", ["X-Length: given", "Transfer-Encoding: chunked"])
def test_a_body_beyond_the_limit_is_a_413(
    url: str, tmp_path: Path, header: str
) -> None:
    body = tmp_path / "body"
    body.write_text(json.dumps({"features": [1.0] * 300_000}))
    assert body.stat().st_size > 1024 * 1024

    reply = post(url, f"@{body}", "--header", header)

    assert error(reply)[:2] == (413, 8)


def test_a_body_just_below_the_limit_reaches_the_server(
    url: str, tmp_path: Path
) -> None:
    """As a gRPC message it is four times as large."""
    body = tmp_path / "body"
    body.write_text('{"features": [1' + ",1" * 524_000 + "]}")

    assert "features: the request has 4716009 bytes" in error(post(url, f"@{body}"))[2]


def test_without_a_model_only_the_process_is_well(
    without_model: tuple[str, PredictionServer],
) -> None:
    url, _ = without_model

    for reply in (post(url, AT_CENTER), curl(f"{url}/model")):
        assert error(reply) == (503, 14, "no model is loaded yet")
        assert reply.json["details"][0]["reason"] == "MODEL_UNAVAILABLE"
    assert curl(f"{url}/health/live").status == 200
    ready = curl(f"{url}/health/ready")
    assert (ready.status, ready.json["reason"]) == (503, "no model is loaded yet")


def handled(url: str, code: str) -> float:
    """Return how many calls of Predict the server has ended with `code`."""
    page = curl(f"{url}/metrics").text
    return count_handled(page, "Predict").get(code, 0.0)


def test_only_unavailable_is_tried_again(
    without_model: tuple[str, PredictionServer], url: str
) -> None:
    empty, _ = without_model
    before = handled(url, "INVALID_ARGUMENT")

    post(empty, AT_CENTER)
    post(url, "{}")

    wait_for(lambda: handled(empty, "UNAVAILABLE") == 3)
    wait_for(lambda: handled(url, "INVALID_ARGUMENT") == before + 1)


def test_a_server_that_is_gone_is_a_503(
    without_model: tuple[str, PredictionServer],
) -> None:
    url, server = without_model
    server.stop()

    for reply in (post(url, AT_CENTER), curl(f"{url}/model"), curl(f"{url}/metrics")):
        status, code, message = error(reply)
        assert (status, code) == (503, 14)
        assert "connection failure" in message
    # Otherwise the kubelet would restart Envoy when only the server is gone.
    assert curl(f"{url}/health/envoy").status == 200


def test_grpc_of_a_server_that_is_gone_is_unavailable(
    without_model: tuple[str, PredictionServer],
) -> None:
    url, server = without_model
    server.stop()

    with grpc.insecure_channel(url.removeprefix("http://")) as channel:
        stub = PredictionServiceStub(channel)
        unavailable = failure(lambda: stub.Predict(PredictRequest()))

    assert unavailable.code() == grpc.StatusCode.UNAVAILABLE
    assert unavailable.details().startswith("upstream connect error")


def test_grpc_passes_through_the_same_port(channel: grpc.Channel) -> None:
    stub = PredictionServiceStub(channel)

    found = violations(lambda: stub.Predict(PredictRequest(features=[1.0])))

    assert stub.Predict(PredictRequest(features=[1, 2, 3, 4, 5])).label == "1"
    assert [path for path, _ in found] == ["features"]


def test_streams_pass_through_the_same_port(channel: grpc.Channel) -> None:
    """The filter that buffers JSON bodies would wait forever for the end of a stream."""
    request = health_pb2.HealthCheckRequest(service="readiness")
    watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=10)

    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection_has_no_route(channel: grpc.Channel) -> None:
    """The server has it, for those who reach its own port."""
    refused = failure(lambda: ProtoReflectionDescriptorDatabase(channel).get_services())

    assert refused.code() is grpc.StatusCode.UNIMPLEMENTED


def access_log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / LOG).read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_a_call_is_one_line_of_the_access_log(url: str, folder: Path) -> None:
    request_id = "5c0e8f3a-0000-4000-8000-000000000000"
    mark = ("--header", f"X-Request-Id: {request_id}")
    curl(f"{url}/health/live", *mark)
    curl(f"{url}/metrics", *mark)
    post(url, "{}", *mark)

    def mine() -> list[dict[str, Any]]:
        return [line for line in access_log(folder) if line["request_id"] == request_id]

    wait_for(lambda: len(mine()) > 0)

    (line,) = mine()
    assert (line["method"], line["path"]) == ("POST", "/predict")
    assert (line["level"], line["status"]) == ("INFO", 400)


def test_the_committed_configuration_is_valid(folder: Path, url: str) -> None:
    """Unchanged, with its own ports; the other tests start it with others."""
    envoy = Path(sys.executable).with_name("envoy")

    result = subprocess.run(
        [str(envoy), "--mode", "validate", "--config-path", str(CONFIGURATION)],
        cwd=folder,
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stderr


def test_rendering_changes_each_address_once() -> None:
    # The new ports are old ports of other listeners, and must not be replaced again.
    ports = Ports(rest=8080, admin=8000, grpc=9901, http=50051)

    text = render(CONFIGURATION.read_text(), ports)

    for port in (8080, 8000, 9901, 50051):
        assert text.count(f"{{address: 127.0.0.1, port_value: {port}}}") == 1
    assert "0.0.0.0" not in text
    with pytest.raises(ValueError, match="exactly once"):
        render(text, ports)


def test_the_descriptor_set_is_complete() -> None:
    """Each file comes after its imports. Routes and error details are included."""
    known: set[str] = set()
    for file in build_descriptor_set().file:
        assert set(file.dependency) <= known
        known.add(file.name)

    assert known >= {
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
        "prediction/v1/prediction_service.proto",
    }


def test_the_descriptor_set_is_written_by_a_program(tmp_path: Path) -> None:
    path = tmp_path / "a set.binpb"

    subprocess.run(
        [sys.executable, "-m", "grpc_server.descriptor_set", str(path)],
        cwd=ROOT,
        check=True,
    )

    assert path.read_bytes() == build_descriptor_set().SerializeToString()
