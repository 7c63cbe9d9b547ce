"""REST v2 on the HTTP port: the answers of ModelInfer, and no harm from any request."""

import hashlib
import http.client
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grpc_server.model.kinds import Boolean, IntegerCategories, Numeric
from grpc_server.oip.refusals import datatypes
from grpc_server.oip.requests import EXPLAINED_OUTPUTS
from grpc_server.rest.json_text import read_json
from grpc_server.server import PredictionServer
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import BatchPredictRequest, GetModelRequest

from server_process import running
from support import (
    ROOT,
    artifact_without_estimator,
    connect,
    lightgbm_artifact,
    read_page,
    running_server,
    wait_for,
    write_version,
)
from wire import Server, count_handled, read_metrics

INFER = "/v2/models/iris/infer"
ROW = {"name": "input", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 3.0]}
BODY = json.dumps({"inputs": [ROW]}).encode()
JSON_TYPE = {"Content-Type": "application/json"}


def ask(
    server: Server, path: str, body: Any = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Return status, content and headers of the answer to GET, or to POST if there is a body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    method = "GET" if body is None else "POST"
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} if body is not None else {}
    try:
        connection.request(method, path, data, {**given, **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.fixture
def folder(logistic_artifact: ModelArtifact, tmp_path: Path) -> Path:
    """Return the folder of version 7 of the registered model iris."""
    return write_version(tmp_path, logistic_artifact, "7")


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionServer]:
    """Return a server of version 7 of a logistic regression of two features."""
    artifact = artifact_without_estimator(2, 2)
    artifact.logistic_regression.coefficients.extend([2.0, -1.0])
    artifact.logistic_regression.intercepts.append(0.0)
    artifact.logistic_regression.centers.extend([1.0, 3.0])
    artifact.golden_examples.add(
        features=[1.0, 3.0], probabilities=[0.5, 0.5], label="0"
    )
    folder = write_version(tmp_path_factory.mktemp("models"), artifact, "7")
    with running_server(folder) as server:
        yield server


@pytest.mark.parametrize("path", ["models/x/ready", "models/iris/versions/6/ready"])
def test_readiness_tells_strangers_no_name_and_no_version(
    rest: PredictionServer, path: str
) -> None:
    status, content, _ = ask(rest, f"/v2/{path}")

    assert status == 404
    assert "is not found" in content["error"]
    assert "7" not in content["error"] and (
        "iris" in path or "iris" not in str(content)
    )


def test_health_and_metadata_are_there(rest: PredictionServer) -> None:
    assert ask(rest, "/v2")[1]["name"] == "prediction-server"
    assert ask(rest, "/v2/health/live")[:2] == (200, {"live": True})
    wait_for(lambda: ask(rest, "/v2/health/ready")[0] == 200)
    ready = {"name": "iris", "ready": True}
    for path in ("/v2/models/iris/ready", "/v2/models/iris/versions/7/ready"):
        assert ask(rest, path)[:2] == (200, ready)
    for path in ("/v2/models/iris", "/v2/models/iris/versions/7"):
        status, metadata, headers = ask(rest, path)
        assert status == 200
        assert metadata["inputs"] == [
            {"name": "input", "datatype": "FP64", "shape": [-1, 2]}
        ]
        assert metadata["versions"] == ["7"]
        assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("n_classes", [2, 3])
def test_answers_are_those_of_batches_to_the_bit(
    n_classes: int, tmp_path: Path
) -> None:
    artifact, rows, expected = lightgbm_artifact(n_classes)
    data = [[None if np.isnan(v) else v for v in row] for row in rows.tolist()]
    tensor = {"name": "x", "datatype": "FP64", "shape": list(rows.shape), "data": data}
    with running_server(write_version(tmp_path, artifact, "7")) as server:
        status, answer, headers = ask(server, INFER, {"id": "q", "inputs": [tensor]})
        with connect(server) as stub:
            batch = stub.BatchPredict(BatchPredictRequest(values=rows.ravel()))
        wait_for(lambda: count_handled(read_metrics(server), "ModelInfer") == {"OK": 1})

    assert status == 200
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["probabilities"]["data"] == expected.ravel().tolist()
    assert outputs["probabilities"]["shape"] == list(expected.shape)
    assert outputs["prediction"]["data"] == list(batch.positions)
    assert outputs["label"]["data"] == [batch.classes[p] for p in batch.positions]
    assert (answer["id"], answer["model_version"]) == ("q", "7")
    assert headers["x-request-id"]


def test_the_prediction_is_the_label_where_labels_are_numbers(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    del logistic_artifact.class_labels.integers.values[:]
    logistic_artifact.class_labels.integers.values.extend([10, 20])
    logistic_artifact.golden_examples[0].label = "20"
    with running_server(write_version(tmp_path, logistic_artifact, "7")) as server:
        _, answer, _ = ask(server, INFER, BODY)

    assert [output["data"] for output in answer["outputs"][:2]] == [["20"], [20]]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("/v2/models/wine/infer", BODY, {}, 404, '"wine" is not found'),
        ("/v2/models/iris/versions/8/infer", BODY, {}, 404, '"8"'),
        ("/v2/models/wine", None, {}, 404, "is not found"),
        ("/v2/models/wine/ready", None, {}, 404, "is not found"),
        ("/v2/models/iris/versions/8/ready", None, {}, 404, 'version "8" is not found'),
        ("/v2/models/", None, {}, 404, "no path"),
        ("/v2/models", None, {}, 404, "no path"),
        ("/v2/models/iris/", None, {}, 404, "no path"),
        ("/v2/models/iris/stats", None, {}, 404, "no path"),
        ("/v2/models//infer", BODY, {}, 404, "no path"),
        ("/v2/models/..%2firis/infer", BODY, {}, 404, "is not found"),
        ("/v2/models/%ff/infer", BODY, {}, 404, "not UTF-8"),
        ("/v2/models/../../metrics", None, {}, 404, "no path"),
        ("/v2/models/iris%00/infer", BODY, {}, 404, "is not found"),
        ("/v2/models/iris%0d%0aX:1/infer", BODY, {}, 404, "is not found"),
        ("/v2/models/" + "x" * 9000 + "/infer", BODY, {}, 404, "is not found"),
        (INFER, None, {}, 405, "takes POST"),
        ("/v2/models/iris", BODY, {}, 405, "takes GET"),
        (INFER, b"{}", {}, 400, "inputs must be a list"),
        (INFER, b"", {}, 400, "not JSON"),
        (INFER, BODY, {"Content-Type": "text/csv"}, 415, '"text/csv"'),
        (INFER, BODY, {"Content-Encoding": "gzip"}, 415, "'gzip'"),
        (INFER, BODY, {"Inference-Header-Content-Length": "999"}, 400, '"999"'),
        (INFER, BODY, {"Content-Type": "application/octet-stream"}, 415, "send app"),
        (INFER, BODY.replace(b"1.0", b"1e400"), {}, 400, 'inputs["input"][0,0]: inf'),
        (INFER, BODY.replace(b"1.0", b"null"), {}, 400, 'inputs["input"][0,0]: nan'),
        (INFER, BODY.replace(b"[1, 2]", b"[2, 1]"), {}, 400, "expecting [-1,2]"),
    ],
)
def test_a_refusal_is_named(
    rest: PredictionServer,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int,
    words: str,
) -> None:
    came, answer, _ = ask(rest, path, body, **headers)

    assert came == status
    assert answer.keys() >= {"error"}
    assert words in answer["error"], answer["error"]
    assert ask(rest, INFER, BODY)[0] == 200


def test_an_invalid_column_is_named_as_it_came(rest: PredictionServer) -> None:
    names = [f.name for f in _features(rest)]
    inputs = [
        {"name": n, "datatype": "FP64", "shape": [1, 1], "data": [None]} for n in names
    ]

    status, answer, _ = ask(rest, INFER, {"inputs": inputs})

    assert status == 400
    assert f'inputs["{names[0]}"][0]' in answer["error"]


def _features(server: PredictionServer) -> Any:
    with connect(server) as stub:
        return stub.GetModel(GetModelRequest()).features


def test_too_many_rows_are_refused(folder: Path) -> None:
    tensor = {**ROW, "shape": [3, 2], "data": [1.0] * 6}
    with running_server(folder, max_batch_rows=2) as server:
        status, answer, _ = ask(server, INFER, {"inputs": [tensor]})

    assert (status, "--max-batch-rows" in answer["error"]) == (400, True)


def test_a_deadline_that_has_passed_is_told(rest: PredictionServer) -> None:
    body = {"inputs": [ROW], "parameters": {"timeout": 1}}

    assert ask(rest, INFER, body)[0] == 504


@pytest.mark.parametrize("name", ["wine", "a/b ö"])
def test_the_name_may_be_another(folder: Path, name: str) -> None:
    path = "/v2/models/a%2Fb%20%C3%B6" if "/" in name else f"/v2/models/{name}"
    with running_server(folder, model_name=name) as server:
        assert ask(server, f"{path}/ready")[1] == {"name": name, "ready": True}
        assert ask(server, f"{path}/infer", BODY)[1]["model_name"] == name
        assert ask(server, "/v2/models/iris/ready")[0] == 404


def test_a_model_without_a_registry_is_called_model(model_dir: Path) -> None:
    with running_server(model_dir) as server:
        assert ask(server, "/v2/models/model/infer", BODY)[0] == 200


def test_without_a_model_it_is_not_ready() -> None:
    with running_server(None) as server:
        assert ask(server, "/v2/health/live")[0] == 200
        status, answer, _ = ask(server, "/v2/health/ready")
        assert (status, answer["ready"]) == (503, False)
        for path, body in (("/v2/models/model/ready", None), (INFER, BODY)):
            status, answer, headers = ask(server, path, body)
            assert (status, answer) == (503, {"error": "no model is loaded yet"})
            assert headers["Retry-After"] == "1"


def test_it_can_be_turned_off(folder: Path) -> None:
    with running_server(folder, open_inference=False) as server:
        for path in ("/v2", "/v2/health/live", "/v2/models/iris/ready"):
            assert ask(server, path)[0] == 404


def test_turned_off_nothing_of_the_protocol_is_imported(folder: Path) -> None:
    code = (
        "import sys\n"
        "from grpc_server.server import PredictionServer\n"
        "from grpc_server.settings import Settings\n"
        f"settings = Settings(model_dir={str(folder)!r}, host='127.0.0.1', port=0,"
        " http_port=0, open_inference=False)\n"
        "PredictionServer(settings).stop()\n"
        "print([n for n in sys.modules if n.startswith('grpc_server.oip')])"
    )
    told = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)

    assert told.splitlines()[-1] == "[]"


def test_contributions_come_as_over_grpc(rest: PredictionServer) -> None:
    tensor = {**ROW, "shape": [2, 2], "data": [1.0, 3.0, 2.5, 0.5]}
    body = {"inputs": [tensor], "parameters": {"explain_top_k": 1}}

    status, answer, _ = ask(rest, INFER, body)

    outputs = {output["name"]: output for output in answer["outputs"]}
    assert status == 200
    assert outputs["contributions"]["shape"] == [2, 2]
    scores = np.array(outputs["contributions"]["data"]).reshape(2, 2).sum(axis=1)
    scores += outputs["base"]["data"]
    positive = np.array(outputs["probabilities"]["data"])[1::2]
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), positive)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"outputs": [{"name": "base"}]}, 400, "explain_top_k"),
        ({"parameters": {"shared_memory_region": "r"}}, 200, ""),
        (
            {"inputs": [{**ROW, "parameters": {"shared_memory_region": "r"}}]},
            501,
            "shared memory",
        ),
        (
            {"outputs": [{"name": "label", "parameters": {"classification": 1}}]},
            501,
            "classification",
        ),
    ],
)
def test_the_service_refuses_what_it_does_not_have(
    changes: dict[str, Any], status: int, words: str, rest: PredictionServer
) -> None:
    came, answer, _ = ask(rest, INFER, {"inputs": [ROW], **changes})

    assert came == status
    assert words in answer.get("error", "")


def test_raw_rows_come_and_go_as_they_are(rest: PredictionServer) -> None:
    rows = np.array([[1.0, 3.0], [2.5, 0.5]])
    tensor = {"name": "input", "datatype": "FP64", "shape": [2, 2]}
    size = {"parameters": {"binary_data_size": rows.nbytes}}
    parameters = {"binary_data_output": True}
    text = json.dumps({"inputs": [{**tensor, **size}], "parameters": parameters})
    connection = http.client.HTTPConnection("127.0.0.1", rest.http_port, timeout=60)
    headers = {"Inference-Header-Content-Length": str(len(text))}
    connection.request("POST", INFER, text.encode() + rows.tobytes(), headers)
    answer = connection.getresponse()
    length = int(answer.headers["Inference-Header-Content-Length"])
    body = answer.read()
    connection.close()

    _, listed, _ = ask(
        rest, INFER, {"inputs": [{**tensor, "data": rows.ravel().tolist()}]}
    )

    outputs = json.loads(body[:length])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    assert sum(sizes) == len(body) - length
    raw = np.frombuffer(body[-sizes[2] :], "<f8")
    assert raw.tolist() == listed["outputs"][2]["data"]


def test_one_large_body_is_read_at_a_time(
    rest: PredictionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small ones do not wait for it."""
    reading: dict[bool, set[int]] = {True: set(), False: set()}
    most = {True: 0, False: 0}

    def read_slowly(text: bytes, max_values: int) -> Any:
        is_large, thread = len(text) > 100_000, threading.get_ident()
        reading[is_large].add(thread)
        most[is_large] = max(most[is_large], len(reading[is_large]))
        time.sleep(0.2)
        reading[is_large].discard(thread)
        return read_json(text, max_values)

    monkeypatch.setattr("grpc_server.rest.site.read_json", read_slowly)
    bodies = [BODY, BODY + b" " * 100_000] * 3
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda body: ask(rest, INFER, body)[0], bodies))

    assert answers == [200] * 6
    assert most[True] == 1
    assert most[False] > 1


def test_a_request_that_grows_beyond_a_message_is_refused(folder: Path) -> None:
    tensor = {**ROW, "shape": [1000, 2], "data": [1] * 2000}
    with running_server(folder, max_message_bytes=10_000) as server:
        status, answer, _ = ask(server, INFER, {"inputs": [tensor]})
        # Its answer is larger than itself.
        small = {**tensor, "datatype": "INT8", "shape": [500, 2], "data": [1] * 1000}
        status_of_small, told, headers = ask(server, INFER, {"inputs": [small]})

    assert (status, status_of_small) == (413, 413)
    assert "--max-message-bytes" in answer["error"]
    assert "the answer is larger than --max-message-bytes" in told["error"]
    assert "Retry-After" not in headers


@pytest.fixture
def send(rest: PredictionServer) -> Callable[[bytes], bytes]:
    """Return a function that sends bytes and returns all that comes back."""

    def exchange(data: bytes) -> bytes:
        address = ("127.0.0.1", rest.http_port)
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(data)
            answer = b""
            while piece := client.recv(65536):
                answer += piece
            return answer

    return exchange


def post(
    body: bytes, *lines: str, path: str = INFER, length: int | None = None
) -> bytes:
    n_bytes = len(body) if length is None else length
    head = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {n_bytes}",
        *lines,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (post(BODY), {200}),
        (post(BODY) * 3, {200}),
        (post(BODY, "Transfer-Encoding: chunked"), {400, 411}),
        (post(BODY, length=-1), {400}),
        (post(BODY, length=10**9), {413}),
        (post(BODY, length=10**30), {413}),
        (post(BODY, "Content-Length: 5"), {400}),
        (post(BODY, *["Inference-Header-Content-Length: 9"] * 2), {400}),
        (post(BODY).replace(b"HTTP/1.1", b"HTTP/0.9"), {400}),
        (b"POST " + INFER.encode() + b"\r\n\r\n", {400}),
        (post(BODY).replace(b"POST", b"OPTIONS"), {405, 415, 403}),
        (post(BODY).replace(b"POST", b"HEAD"), {405}),
        (post(BODY).replace(b"POST", b"BREW"), {405}),
        (post(b"[" * 100_000), {400}),
        (post(b'{"inputs":' + b"[" * 900), {400}),
        (post(b"\x00\xff" * 1000), {400}),
        (post(b"9" * 4000), {400}),
        (post(BODY, path="/v2/models/\x00/infer"), {400, 404}),
        (post(BODY, path="/v2/models/iris/infer?a=b"), {200}),
        (post(BODY, path="/v2/models/iris/infer#a"), {404}),
        (post(BODY, path="http://x/v2/models/iris/infer"), {400}),
        (post(BODY, "x-request-id: " + "é" * 200), {200}),
        (post(BODY, "authorization: é"), {400}),
        (post(BODY, "Origin: http://evil.example"), {403}),
        (post(BODY).replace(b"Content-Type: application/json\r\n", b""), {200}),
        (
            post(BODY, "Origin: null").replace(b"application/json", b""),
            {403},
        ),
    ],
)
def test_hostile_requests_get_an_answer(
    data: bytes, statuses: set[int], rest: PredictionServer, send: Callable[..., bytes]
) -> None:
    answer = send(data)

    assert int(answer.split(b" ")[1]) in statuses, answer[:300]
    assert ask(rest, INFER, BODY)[0] == 200


def test_a_client_that_sends_a_body_that_is_too_large_learns_why(
    rest: PredictionServer,
) -> None:
    """Without the wait, most of these see a reset connection."""
    for _ in range(10):
        status, answer, _ = ask(rest, INFER, b" " * 100 * 2**20)

        assert status == 413
        assert "send 16777216 at most" in answer["error"]


def test_slow_and_broken_bodies_hold_nobody_up(rest: PredictionServer) -> None:
    address = ("127.0.0.1", rest.http_port)
    slow = [socket.create_connection(address) for _ in range(100)]
    try:
        for client in slow:
            client.sendall(post(BODY, length=10_000))
        for client in slow[:50]:
            # A reset, not an end.
            client.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            client.close()
        start = time.monotonic()
        assert ask(rest, INFER, BODY)[0] == 200
        assert ask(rest, "/v2/health/live")[0] == 200
        assert time.monotonic() - start < 5
    finally:
        for client in slow:
            client.close()


def test_health_and_metrics_answer_under_overload(folder: Path) -> None:
    n_rows = 5_000
    tensor = {**ROW, "shape": [n_rows, 2], "data": [0.123456] * (2 * n_rows)}
    body = json.dumps({"inputs": [tensor]}).encode()
    with (
        running_server(folder, max_calls_in_flight=2, workers=1) as server,
        ThreadPoolExecutor(80) as pool,
    ):
        calls = [pool.submit(ask, server, INFER, body) for _ in range(160)]
        times = []
        while not all(call.done() for call in calls):
            start = time.monotonic()
            assert ask(server, "/v2/health/ready")[0] == 200
            assert "grpc_server_handled_total" in read_page(
                f"http://127.0.0.1:{server.http_port}/metrics"
            )
            times.append(time.monotonic() - start)
        statuses = {call.result()[0] for call in calls}

    assert statuses <= {200, 429, 503}
    assert 200 in statuses
    assert max(times) < 5


def test_a_stranger_is_refused_before_the_body_is_read(
    folder: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    lines = [
        f"{name} sha256:{hashlib.sha256(name.encode()).hexdigest()} {scopes}"
        for name, scopes in (("caller", "predict"), ("reader", "describe"))
    ]
    tokens.write_text("\n".join(lines) + "\n")
    with running_server(folder, tokens_file=tokens) as server:
        for body in (BODY, b"no json"):
            status, _, headers = ask(server, INFER, body)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
            assert ask(server, INFER, body, Authorization="Bearer wrong")[0] == 401
            assert ask(server, INFER, body, Authorization="Bearer reader")[0] == 403
        assert ask(server, INFER, BODY, Authorization="Bearer caller")[0] == 200
        assert ask(server, "/v2/models/iris")[0] == 401
        assert ask(server, "/v2/models/iris", Authorization="Bearer reader")[0] == 200
        assert ask(server, "/v2/models/iris/ready")[0] == 200
        assert ask(server, "/v2/health/ready")[0] == 200


@pytest.mark.slow
def test_two_processes_answer_on_one_port(folder: Path) -> None:
    with running("--processes", "2", "--model-dir", str(folder)) as server:
        server.wait_for("all processes are ready")
        wait_for(lambda: ask(server, "/v2/health/ready")[0] == 200)
        for _ in range(6):
            status, answer, _ = ask(server, INFER, BODY)
            assert (status, answer["model_version"]) == (200, "7")
        assert ask(server, "/v2/models/iris")[1]["versions"] == ["7"]
        wait_for(lambda: count_handled(read_metrics(server), "ModelInfer") == {"OK": 6})


def run_client(program: str, folder: Path) -> str:
    """Run a program with Triton's client, in an environment that uv makes once and keeps."""
    script = folder / "client.py"
    header = '# /// script\n# dependencies = ["tritonclient[http]==2.73.0"]\n# ///\n'
    script.write_text(header + program)
    uv = [sys.executable, "-m", "uv", "--quiet", "run", "--python", sys.executable]
    return subprocess.check_output([*uv, "--script", str(script)], text=True)


@pytest.mark.slow
def test_the_commands_of_the_page_run(folder: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "rest.md").read_text()
    (commands,) = re.findall(r"^```sh\n(.*?)\n```", page, re.M | re.S)
    (program,) = re.findall(r"^```python\n(.*?)\n```", page, re.M | re.S)
    serve, calls = commands.split("\n", 1)
    arguments = serve.replace(" model ", f" {folder} ").split()[3:]
    with running(*arguments) as server:
        server.wait_for("serving")
        calls = calls.replace("localhost:8080", f"127.0.0.1:{server.http_port}")
        script = f"set -e\n{calls.replace('curl', 'curl --fail --silent')}"
        told = subprocess.check_output(["bash", "-c", script], text=True)
        address = f"127.0.0.1:{server.http_port}"
        printed = run_client(program.replace("localhost:8080", address), tmp_path)

    ready, metadata, answer = map(json.loads, told.replace("}{", "}\n{").splitlines())
    assert ready == {"ready": True}
    assert metadata["name"] == answer["model_name"] == "wine"
    assert answer["outputs"][0]["shape"] == [2]
    probabilities = np.array(answer["outputs"][2]["data"]).reshape(2, 2)
    assert printed == f"{probabilities}\n"


def test_the_pages_tell_the_datatypes_that_are_taken() -> None:
    page = (ROOT / "docs" / "open-inference.md").read_text()
    for kind in (Numeric(), Boolean(), IntegerCategories({3: 0.0}, True)):
        for name in datatypes(kind, nullable=True):
            assert name.strip("0123456789") in page


def test_the_pages_name_the_outputs() -> None:
    page = (ROOT / "docs" / "open-inference.md").read_text()
    cells = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [A-Z]+\d* \| `\[rows", page, re.M)
    assert re.findall(r"\w+", " ".join(cells)) == list(EXPLAINED_OUTPUTS)
    page = (ROOT / "docs" / "rest.md").read_text()
    assert all(f"`{name}`" in page for name in EXPLAINED_OUTPUTS)
