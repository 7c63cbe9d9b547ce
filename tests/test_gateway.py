"""Predictions in JSON on the HTTP port: the same calls as over gRPC, and what is refused before."""

import http.client
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from test_access import ALL_LINES, DESCRIBER, SCRAPER, SECRET
from tls_support import Authority

from grpc_server.gateway.paths import PAGES, list_paths
from grpc_server.server import PredictionServer
from grpc_server.settings import Settings

from gateway_support import exchange, post, send
from server_process import Process, running
from support import ROOT, running_server, wait_for
from wire import count_handled, read_metrics
from wire import read_page_with_token as read_page
from wire import samples

CENTER = {"features": [1.0, 3.0]}
PREDICT, BATCH, MODEL = "/v1/predict", "/v1/predict/batch", "/v1/model"


def count_calls(server: Any, method: str, code: str) -> float:
    """Return how many calls of a method the metrics count with a code."""
    return count_handled(read_metrics(server), method).get(code, 0.0)


def test_a_body_of_json_is_answered_like_a_call(server: PredictionServer) -> None:
    reply = post(
        server, PREDICT, {**CENTER, "explain_top_k": 2}, {"x-request-id": "a-1"}
    )
    assert (reply.status, reply.json["label"], reply.json["prediction"]) == (
        200,
        "1",
        1,
    )
    assert reply.json["probabilities"][1] == pytest.approx(0.6224593312018546)
    assert len(reply.json["explanation"]["contributions"]) == 2
    assert reply.headers["x-request-id"] == "a-1"
    assert reply.headers["x-content-type-options"] == "nosniff"
    rows = {"values": [1.0, 3.0, 2.0, 3.0]}
    assert post(server, BATCH, rows).json["positions"] == [1, 1]
    assert send(server, "GET", MODEL).json["classes"] == ["0", "1"]


def test_a_call_of_the_http_port_is_counted_as_one(server: PredictionServer) -> None:
    post(server, PREDICT, CENTER)
    post(server, PREDICT, {"features": [1.0]})
    wait_for(lambda: count_calls(server, "Predict", "OK") == 1)
    wait_for(lambda: count_calls(server, "Predict", "INVALID_ARGUMENT") == 1)


def test_a_refused_call_has_its_status_and_details(server: PredictionServer) -> None:
    reply = post(server, PREDICT, {"features": [1.0]})
    assert (reply.status, reply.reason) == (400, "INVALID_INSTANCE")
    assert reply.json["details"][1]["field_violations"]


def test_without_a_model_the_call_is_unavailable() -> None:
    with running_server(None) as server:
        reply = post(server, PREDICT, CENTER)
        assert (reply.status, reply.reason) == (503, "MODEL_UNAVAILABLE")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b"[" * 100_000,
        b'{"features": ' + b"[" * 100_000,
        b'{"record": ' + b'{"a":' * 3_000 + b"1" + b"}" * 3_001,
        b'{"features": [NaN, 1]}',
        b'{"features": [Infinity, 1]}',
        b'{"features": [1e400, 1]}',
        b'{"features": [null, 1]}',
        b'{"features": [' + b"9" * 5_000 + b", 1]}",
        b'{"features": [1, 2], "features": [3, 4]}',
        b'{"record": {"a": 1, "a": 2}}',
        b'{"record": {"\\ud800": 1}}',
        b'{"record": 7}',
        b'{"explain_top_k": -1}',
        b'{"explain_top_k": 1e99}',
        b"\xff\xfe{}",
        b"\x00",
    ],
)
def test_a_body_that_is_no_request_is_a_bad_request(
    server: PredictionServer, body: bytes
) -> None:
    reply = post(server, PREDICT, body)
    assert reply.status == 400, reply.text[:300]
    assert reply.reason in ("MALFORMED_MESSAGE", "INVALID_INSTANCE")
    assert len(reply.text) < 5_000
    assert post(server, PREDICT, CENTER).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "application/xml"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-Length": "0" * 30 + str(len(json.dumps(CENTER)))}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Authorization": "Bearer \xe9"}, 400),
    ],
)
def test_only_json_of_the_own_origin_passes(
    server: PredictionServer, headers: dict[str, str], status: int
) -> None:
    assert post(server, PREDICT, CENTER, headers).status == status


def test_the_own_origin_passes(server: PredictionServer) -> None:
    origin = {"Origin": f"http://127.0.0.1:{server.http_port}"}
    assert post(server, PREDICT, CENTER, origin).status == 200


def test_paths_and_methods_that_are_not_there_are_named(
    server: PredictionServer,
) -> None:
    assert send(server, "GET", PREDICT).status == 405
    assert send(server, "GET", PREDICT).headers["allow"] == "POST"
    assert send(server, "GET", "/v1/other").status == 404
    assert send(server, "GET", "/v1/..%2fmetrics").status == 404
    assert send(server, "GET", "/v1x").status == 404
    # A browser's question before a request of another site stays unanswered.
    assert send(server, "OPTIONS", PREDICT).status == 405
    assert "access-control-allow-origin" not in send(server, "OPTIONS", PREDICT).headers


def raw(length: bytes, body: bytes = b"", more: bytes = b"") -> bytes:
    head = b"POST /v1/predict HTTP/1.1\r\nContent-Type: application/json\r\n"
    return head + length + more + b"\r\n" + body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (raw(b""), b"411"),
        (raw(b"Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"), b"411"),
        (raw(b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"{}"), b"411"),
        (raw(b"Content-Length: 2\r\nContent-Length: 3\r\n", b"{}"), b"400"),
        (raw(b"Content-Length: -1\r\n"), b"400"),
        (raw(b"Content-Length: 1_0\r\n"), b"400"),
        (raw(b"Content-Length: 10\r\n", b"{}"), b"400"),
        (raw(b"Content-Length: 99999999999\r\n"), b"413"),
        (raw(b"Content-Length: 1048577\r\n"), b"413"),
        (raw(b"Content-Length: " + b"9" * 5_000 + b"\r\n"), b"413"),
    ],
)
def test_a_body_of_another_length_is_refused(
    server: PredictionServer, request_bytes: bytes, status: bytes
) -> None:
    assert exchange(server, request_bytes).split(b" ")[1] == status


def test_a_client_that_asks_first_is_told_to_go_on(server: PredictionServer) -> None:
    body = json.dumps(CENTER).encode()
    length = b"Content-Length: %d\r\n" % len(body)
    reply = exchange(server, raw(length, body, b"Expect: 100-continue\r\n"))
    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_a_request_needs_the_caller_that_a_call_needs(
    model_dir: Path, tmp_path: Path, lane: str
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(ALL_LINES)
    with running_server(model_dir, lane, tokens_file=tokens) as server:

        def status(path: str, token: str | None) -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            if path == MODEL:
                return send(server, "GET", path, headers=headers).status
            return post(server, path, CENTER, headers).status

        assert [status(PREDICT, t) for t in (SECRET, DESCRIBER, "x", None)] == [
            200,
            403,
            401,
            401,
        ]
        assert [status(MODEL, t) for t in (SECRET, DESCRIBER)] == [403, 200]

        def is_counted() -> bool:
            _, page = read_page(server.http_port, "/metrics", SCRAPER)
            labels = {"caller": "billing", "grpc_code": "OK"}
            name = "prediction_calls_by_caller_total"
            return any(s.value == 1 for s in samples(page, name, **labels))

        wait_for(is_counted)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_name_of_a_certificate_is_the_caller_s(
    model_dir: Path, tmp_path: Path, processes: int
) -> None:
    authority, allowed = Authority(), tmp_path / "identities"
    authority.issue().write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    allowed.write_text("billing dns:billing predict\nops dns:ops describe\n")
    files = {"tls-cert": "tls.crt", "tls-key": "tls.key", "tls-client-ca": "ca.crt"}
    flags = [part for k, v in files.items() for part in (f"--{k}", str(tmp_path / v))]
    flags += ["--allowed-identities", str(allowed), "--model-dir", str(model_dir)]
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    body = json.dumps(CENTER).encode()
    with running(*flags, "--processes", str(processes)) as process:
        if processes > 1:
            process.wait_for("all processes are ready")
        for name, status in (("billing", 200), ("ops", 403), ("stranger", 403)):
            folder = tmp_path / name
            folder.mkdir()
            authority.issue(x509.DNSName(name)).write(folder)
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
            client = http.client.HTTPSConnection(
                "localhost", process.http_port, timeout=30, context=context
            )
            kind = {"Content-Type": "application/json"}
            # What the supervisor says of its client, said by the client itself.
            kind["X-Gateway-Client"] = '["", [["DNS", "billing"]]]'
            client.request("POST", PREDICT, body, kind)
            assert client.getresponse().status == status
            client.close()


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("traceparent", "x" * 12_000, 200),
        ("traceparent", "\xe9", 200),
        ("tracestate", "a=1,\tb=2", 200),
        ("tracestate", "x" * 12_000, 200),
        ("authorization", "Bearer " + "x" * 6_000, 200),
        ("authorization", "Bearer " + "x" * 8_000, 400),
        ("authorization", "Bearer \xe9", 400),
    ],
)
def test_no_header_is_refused_by_chance(
    server: PredictionServer, name: str, value: str, status: int
) -> None:
    """From 8 KiB on, gRPC refused some calls as overload, in words about its own headers."""
    replies = [post(server, PREDICT, CENTER, {name: value}) for _ in range(20)]

    assert {reply.status for reply in replies} == {status}
    assert status == 200 or name in replies[0].json["message"]


@pytest.mark.parametrize(
    ("token", "status"), [(None, 401), ("wrong", 401), (DESCRIBER, 403), (SECRET, 400)]
)
def test_a_large_body_is_read_from_callers_alone(
    model_dir: Path, tmp_path: Path, token: str | None, status: int
) -> None:
    """Two strangers could take the memory of all bodies, and keep others from sending theirs."""
    tokens = tmp_path / "tokens"
    tokens.write_text(ALL_LINES)
    head = f"POST {PREDICT} HTTP/1.1\r\nContent-Type: application/json\r\n"
    head += "Content-Length: 500000\r\n"
    head += f"Authorization: Bearer {token}\r\n" if token else ""
    with running_server(model_dir, tokens_file=tokens) as server:
        reply = exchange(server, f"{head}\r\n".encode(), b"{").decode()

    assert reply.startswith(f"HTTP/1.1 {status} ")
    assert ("the body ended after 1 of 500000 bytes" in reply) is (status == 400)
    assert ("WWW-Authenticate: Bearer" in reply) is (status == 401)


def list_own_sockets() -> list[str]:
    """Return the names of this process's abstract sockets of gRPC; the machine has others."""
    own = {os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    lines = Path("/proc/net/unix").read_text().splitlines()
    rows = [line.split() for line in lines if "@prediction-" in line]
    return [row[7] for row in rows if f"socket:[{row[6]}]" in own]


def test_the_server_s_own_socket_stays_closed_to_others(
    model_dir: Path, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(ALL_LINES)
    with running_server(model_dir, tokens_file=tokens):
        names = list_own_sockets()
        assert names
        codes = set()
        for name in names:
            with grpc.insecure_channel(f"unix-abstract:{name[1:]}") as channel:
                call: Any = channel.unary_unary(
                    "/prediction.v1.PredictionService/GetModel"
                )
                metadata = (
                    ("authorization", f"Bearer {DESCRIBER}"),
                    ("x-gateway-key", "0" * 32),
                    ("x-gateway-client-bin", b'["", []]'),
                )
                with pytest.raises(grpc.RpcError) as caught:
                    call(b"", metadata=metadata, timeout=5)
                codes.add(caught.value.code().name)
        assert "PERMISSION_DENIED" in codes


@pytest.fixture
def two(model_dir: Path) -> Iterator[Process]:
    with running("--model-dir", str(model_dir), "--processes", "2") as process:
        process.wait_for("all processes are ready")
        yield process


def test_the_supervisor_passes_requests_on(two: Process) -> None:
    for _ in range(4):
        assert post(two, PREDICT, CENTER).json["label"] == "1"
    assert send(two, "GET", MODEL).json["classes"] == ["0", "1"]
    refused = post(two, PREDICT, {"features": []}, {"x-gateway-client": '["x", []]'})
    assert (refused.status, refused.reason) == (400, "INVALID_INSTANCE")
    assert post(two, PREDICT, CENTER, {"Origin": "https://evil.example"}).status == 403
    assert exchange(two, raw(b"")).split(b" ")[1] == b"411"
    wait_for(lambda: count_calls(two, "Predict", "OK") == 4)


@pytest.mark.parametrize("path", PAGES)
def test_each_page_comes_with_a_strict_policy(
    server: PredictionServer, path: str
) -> None:
    reply = send(server, "GET", path)
    policy = reply.headers["content-security-policy"]
    assert reply.status == 200
    assert policy.startswith("default-src 'none'")
    assert "script-src 'self';" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.replace("style-src 'self' 'unsafe-inline'", "")
    # Nothing inline, which the policy would forbid.
    assert not re.search(r"<script>|<style>| on[a-z]+=|style=", reply.text)
    assert send(server, "HEAD", path).text == ""
    assert send(server, "POST", path, {}).status == 405


def test_a_killed_process_costs_no_more_than_a_few_requests(two: Process) -> None:
    children = ["ps", "-o", "pid=", "--ppid", str(two.pid)]
    pids = subprocess.run(children, capture_output=True, text=True).stdout.split()
    os.kill(int(pids[0]), signal.SIGKILL)
    statuses = {post(two, PREDICT, CENTER).status for _ in range(20)}
    assert 200 in statuses and statuses <= {200, 503}
    two.wait_for("all processes are ready")
    assert {post(two, PREDICT, CENTER).status for _ in range(4)} == {200}
    assert send(two, "GET", "/").text.startswith("<!DOCTYPE html>")


def test_the_commands_of_the_page_on_json_work(server: PredictionServer) -> None:
    text = (ROOT / "docs/page.md").read_text()
    commands = re.findall(r"^curl .*$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        own = command.replace("localhost:8080", f"127.0.0.1:{server.http_port}")
        shown = subprocess.run(shlex.split(own), capture_output=True, timeout=60)
        assert shown.returncode == 0, shown.stdout
        json.loads(shown.stdout)


def test_the_gateway_can_be_closed(model_dir: Path) -> None:
    assert list_paths(Settings(page=False, open_inference=False)) == ()
    with running_server(model_dir, page=False) as server:
        assert post(server, PREDICT, CENTER).status == 405
        assert send(server, "GET", MODEL).status == 404
