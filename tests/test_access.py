"""Who may call, over real ports: tokens, certificates, scopes, shares and guesses of tokens."""

import hashlib
import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeAlias, cast

import grpc
import pytest
from cryptography import x509
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from tls_support import Authority, connect_tls, replace

from grpc_server.access import MAX_WRONG_TOKENS, Attempts
from grpc_server.callers import CallersFile
from grpc_server.errors import CallersError, SettingsError
from grpc_server.security import open_access
from grpc_server.server import PredictionServer
from grpc_server.settings import Settings
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    GetModelRequest,
    PredictRequest,
    StreamPredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from server_process import running
from support import connect, running_server, wait_for
from wire import read_page_with_token as read_page

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
AT_CENTER = PredictRequest(features=[1.0, 3.0])
SECRET, DESCRIBER, SCRAPER = "s3cret-of-billing", "s3cret-of-ops", "s3cret-of-prom"


def line(name: str, token: str, scopes: str) -> str:
    return f"{name} sha256:{hashlib.sha256(token.encode()).hexdigest()} {scopes}\n"


ALL_LINES = (
    "# a remark\n\n"
    + line("billing", SECRET, "predict")
    + line("ops", DESCRIBER, "describe")
    + line("prometheus", SCRAPER, "metrics")
)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(ALL_LINES)
    return path


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


@contextmanager
def guarded(
    model_dir: Path, tokens: Path, lane: str = "fast", **changes: Any
) -> Iterator[tuple[PredictionServer, PredictionServiceStub]]:
    with (
        running_server(model_dir, lane, tokens_file=tokens, **changes) as server,
        connect(server) as stub,
    ):
        yield server, stub


def outcome(call: Any, request: Any, token: str | None = None) -> str:
    """Return "OK", or the code and the reason of the refusal."""
    return outcome_with(call, request, () if token is None else bearer(token))


def outcome_with(call: Any, request: Any, metadata: Metadata) -> str:
    try:
        answer = call(request, metadata=metadata, timeout=10)
        if hasattr(answer, "__next__"):
            list(answer)  # a stream
    except grpc.RpcError as error:
        assert SECRET not in str(error)
        info = ErrorInfo()
        failed = cast(grpc.Call, error)
        status = rpc_status.from_call(failed)
        if status is not None:
            status.details[0].Unpack(info)
        return f"{failed.code().name} {info.reason}"
    return "OK"


def test_each_method_needs_its_scope(model_dir: Path, tokens: Path, lane: str) -> None:
    refused, unknown = (
        "PERMISSION_DENIED NOT_ALLOWED",
        "UNAUTHENTICATED UNAUTHENTICATED",
    )
    batch = BatchPredictRequest()
    with guarded(model_dir, tokens, lane) as (_, stub):
        for token, may_predict, may_describe in (
            (SECRET, "OK", refused),
            (DESCRIBER, refused, "OK"),
            (SCRAPER, refused, refused),
            ("wrong", unknown, unknown),
            (None, unknown, unknown),
        ):
            assert outcome(stub.Predict, AT_CENTER, token) == may_predict
            assert outcome(stub.GetModel, GetModelRequest(), token) == may_describe
            assert outcome(stub.StreamPredict, iter([]), token) == may_predict
            answer = outcome(stub.BatchPredict, batch, token)
            # An empty batch is wrong in itself, which only those learn who may predict.
            expected = "INVALID_ARGUMENT INVALID_INSTANCE"
            assert answer == (expected if may_predict == "OK" else may_predict)


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", SECRET),),
        (("authorization", "Bearer "),),
        (("authorization", f"Basic {SECRET}"),),
        (("authorization", f"Bearer {SECRET[:-1]}"),),
        (("authorization", f"Bearer {SECRET} {SECRET}"),),
        bearer(SECRET) + bearer(SECRET),
        bearer("x" * 7000),
    ],
)
def test_odd_authorizations_are_refused(
    model_dir: Path, tokens: Path, metadata: Metadata
) -> None:
    with guarded(model_dir, tokens) as (_, stub):
        answer = outcome_with(stub.Predict, AT_CENTER, metadata)
        assert answer == "UNAUTHENTICATED UNAUTHENTICATED"
        assert outcome(stub.Predict, AT_CENTER, SECRET) == "OK"


def wait_for_metric(port: int, sample: str) -> None:
    """Return once the metrics have a sample: a call is counted once it is over."""
    wait_for(lambda: sample in read_page(port, "/metrics", SCRAPER)[1])


def test_health_needs_no_token_and_metrics_do(model_dir: Path, tokens: Path) -> None:
    with guarded(model_dir, tokens) as (server, stub):
        outcome(stub.Predict, AT_CENTER, SECRET)
        outcome(stub.Predict, AT_CENTER, "wrong")
        assert read_page(server.http_port, "/health/ready")[0] == 200
        assert read_page(server.http_port, "/metrics")[0] == 401
        assert read_page(server.http_port, "/metrics", "wrong")[0] == 401
        assert read_page(server.http_port, "/metrics", SECRET)[0] == 403
        name = "prediction_calls_by_caller_total"
        for labels in (
            'caller="billing",grpc_code="OK"',
            'caller="unknown",grpc_code="UNAUTHENTICATED"',
        ):
            wait_for_metric(server.http_port, f"{name}{{{labels}}} 1.0")
        status, page = read_page(server.http_port, "/metrics", SCRAPER)
    assert status == 200
    assert SECRET not in page


def test_revoked_token_ends_its_stream_and_a_new_one_works(
    model_dir: Path, tokens: Path, lane: str
) -> None:
    goes_on = Event()

    def messages() -> Iterator[StreamPredictRequest]:
        chunk = StreamPredictRequest()
        goes_on.wait(30)
        yield chunk

    with guarded(model_dir, tokens, lane) as (_, stub):
        stream = stub.StreamPredict(messages(), metadata=bearer(SECRET), timeout=30)
        assert outcome(stub.Predict, AT_CENTER, SECRET) == "OK"
        replace(tokens, line("billing", "renewed", "predict").encode())
        wait_for(lambda: outcome(stub.Predict, AT_CENTER, "renewed") == "OK")
        answer = outcome(stub.Predict, AT_CENTER, SECRET)
        assert answer.startswith("UNAUTHENTICATED")
        goes_on.set()
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_broken_file_keeps_the_old_callers(
    tokens: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[None] = []
    monkeypatch.setattr("grpc_server.callers.LOOK_SECONDS", 0.0)
    callers = CallersFile.of_tokens(tokens, lambda: failures.append(None))
    proof = line("x", SECRET, "predict").split()[1]
    for content in (b"billing " + SECRET.encode() + b" predict", b"", b"\xff"):
        replace(tokens, content)
        assert callers.find(proof)
        assert callers.find(proof)
    tokens.unlink()
    assert callers.find(proof)
    assert len(failures) == 4
    assert SECRET not in caplog.text
    assert caplog.text.count("old kept") == 4


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("billing s3cret-of-billing predict", "line 1: the second word of 'billing'"),
        ("# no line", "has 0 callers"),
        (
            line("billing", SECRET, "predict") * 2,
            "line 2: the second word occurs twice",
        ),
        (line("billing", SECRET, "admin"), "'admin' is not a scope"),
        (line("unknown", SECRET, "predict"), "must not be 'unknown'"),
        (line('a"b', SECRET, "predict"), "the name may have"),
        ("billing predict", "2 words"),
        (
            "".join(line(f"c{i}", f"{i}", "predict") for i in range(1001)),
            "1001 callers",
        ),
    ],
)
def test_error_names_the_line_and_no_token(
    tokens: Path, content: str, what: str
) -> None:
    tokens.write_text(content)
    with pytest.raises(CallersError, match=what) as caught:
        CallersFile.of_tokens(tokens, lambda: None)
    assert SECRET not in str(caught.value)


def test_ten_thousand_wrong_tokens_hurt_only_their_sender(
    model_dir: Path, tokens: Path, lane: str
) -> None:
    with guarded(model_dir, tokens, lane) as (server, stub):
        assert outcome(stub.Predict, AT_CENTER, SECRET) == "OK"
        with connect_apart(server.port) as other:
            codes = set()
            for first in range(0, 10_000, 200):
                calls = [
                    other.Predict.future(AT_CENTER, metadata=bearer(f"guess {n}"))
                    for n in range(first, first + 200)
                ]
                codes |= {call.code() for call in calls}
            assert codes == {grpc.StatusCode.UNAUTHENTICATED}
            # The right guess of a connection that has guessed too often is not seen to be right.
            answer = outcome(other.Predict, AT_CENTER, SECRET)
            assert answer == "UNAUTHENTICATED TOO_MANY_ATTEMPTS"
        assert outcome(stub.Predict, AT_CENTER, SECRET) == "OK"


@contextmanager
def connect_apart(port: int) -> Iterator[PredictionServiceStub]:
    """Return a stub over a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        yield PredictionServiceStub(channel)


def test_those_behind_the_proxy_of_a_guesser_go_on() -> None:
    attempts = Attempts()
    attempts.note_right(b"proxy", "sha256:right")
    for _ in range(MAX_WRONG_TOKENS):
        assert not attempts.must_wait(b"proxy", "sha256:wrong")
        attempts.note_wrong(b"proxy")
    assert attempts.must_wait(b"proxy", "sha256:wrong")
    assert not attempts.must_wait(b"proxy", "sha256:right")
    assert not attempts.must_wait(b"other", "sha256:wrong")


def test_one_caller_cannot_take_all_room(
    model_dir: Path, tokens: Path, lane: str
) -> None:
    tokens.write_text(ALL_LINES + line("other", "s3cret-of-other", "predict"))
    changes = {"max_streams": 4, "max_caller_share": 0.5}
    over = Event()

    def silence() -> Iterator[StreamPredictRequest]:
        over.wait(30)
        yield from ()

    with guarded(model_dir, tokens, lane, **changes) as (_, stub), ExitStack() as stack:
        stack.callback(over.set)
        # On a connection that is up, calls arrive in order.
        assert outcome(stub.Predict, AT_CENTER, SECRET) == "OK"
        held = [
            stub.StreamPredict(silence(), metadata=bearer(SECRET), timeout=30)
            for _ in range(2)
        ]
        expected = "RESOURCE_EXHAUSTED CALLER_SHARE_EXHAUSTED"
        wait_for(lambda: outcome(stub.StreamPredict, iter([]), SECRET) == expected)
        assert outcome(stub.StreamPredict, iter([]), "s3cret-of-other") == "OK"
        assert outcome(stub.Predict, AT_CENTER, SECRET) == "OK"
        over.set()
        for stream in held:
            list(stream)
        assert outcome(stub.StreamPredict, iter([]), SECRET) == "OK"


def test_names_of_certificates_are_callers(
    model_dir: Path, tmp_path: Path, lane: str
) -> None:
    authority, folder = Authority(), tmp_path
    authority.issue().write(folder)
    (folder / "ca.crt").write_bytes(authority.certificate)
    allowed = folder / "identities"
    allowed.write_text(
        "billing uri:spiffe://example.com/billing predict\n"
        "prometheus dns:prometheus metrics\n"
    )
    files: dict[str, Any] = {
        "tls_cert": folder / "tls.crt",
        "tls_key": folder / "tls.key",
        "tls_client_ca": folder / "ca.crt",
    }
    uri = x509.UniformResourceIdentifier("spiffe://example.com/billing")
    with running_server(model_dir, lane, allowed_identities=allowed, **files) as server:
        for name, expected in (
            (uri, "OK"),
            (x509.DNSName("prometheus"), "PERMISSION_DENIED NOT_ALLOWED"),
            (x509.DNSName("stranger"), "PERMISSION_DENIED NOT_ALLOWED"),
            # A name of the wrong kind.
            (x509.DNSName("spiffe-example.com"), "PERMISSION_DENIED NOT_ALLOWED"),
        ):
            pair = authority.issue(name)
            with connect_tls(server.port, authority.certificate, pair) as stub:
                assert outcome(stub.Predict, AT_CENTER) == expected


def list_pulse_sockets() -> list[str]:
    """Return the names of this process's sockets; other servers may run beside the test."""
    mine = {os.readlink(f"/proc/self/fd/{fd}") for fd in list_descriptors()}
    lines = map(str.split, Path("/proc/net/unix").read_text().splitlines())
    return [
        words[-1]
        for words in lines
        if words[-1].startswith("@prediction-") and f"socket:[{words[-2]}]" in mine
    ]


def list_descriptors() -> Iterator[str]:
    """Yield the open file descriptors, without that of the listing itself."""
    for name in os.listdir("/proc/self/fd"):
        if os.path.lexists(f"/proc/self/fd/{name}"):
            yield name


def test_the_pulse_socket_is_no_way_around_certificates(
    model_dir: Path, tmp_path: Path, lane: str
) -> None:
    """Programs that share the network find the socket in /proc/net/unix."""
    authority = Authority()
    authority.issue().write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    with running_server(
        model_dir,
        lane,
        tls_cert=tmp_path / "tls.crt",
        tls_key=tmp_path / "tls.key",
        tls_client_ca=tmp_path / "ca.crt",
    ):
        found = list_pulse_sockets()
        assert found
        for word in found:
            with grpc.insecure_channel(f"unix-abstract:{word[1:]}") as channel:
                stub = PredictionServiceStub(channel)
                answer = outcome(stub.Predict, AT_CENTER)
                assert answer.split()[0] in ("PERMISSION_DENIED", "UNAVAILABLE")


def test_closed_methods_do_not_exist(model_dir: Path, lane: str) -> None:
    with (
        running_server(model_dir, lane, describe=False, reflection=False) as server,
        connect(server) as stub,
    ):
        answer = outcome(stub.GetModel, GetModelRequest())
        assert answer == "UNIMPLEMENTED UNKNOWN_METHOD"
        assert outcome(stub.Predict, AT_CENTER) == "OK"


def test_tokens_in_plain_text_need_a_flag(tokens: Path) -> None:
    with pytest.raises(SettingsError, match="--tokens-without-tls"):
        open_access(Settings(tokens_file=tokens))
    open_access(Settings(tokens_file=tokens, tokens_without_tls=True))
    open_access(Settings(tokens_file=tokens, host="::1"))
    with pytest.raises(SettingsError, match="--tls-client-ca"):
        open_access(Settings(allowed_identities=tokens))


def test_two_processes_know_their_callers(model_dir: Path, tokens: Path) -> None:
    arguments = ["--model-dir", str(model_dir), "--processes", "2"]
    arguments += ["--host", "127.0.0.1", "--tokens-file", str(tokens)]
    with running(*arguments) as process:
        process.wait_for("all processes are ready")
        for _ in range(4):
            with connect_apart(process.port) as stub:
                assert outcome(stub.Predict, AT_CENTER, SECRET) == "OK"
                answer = outcome(stub.Predict, AT_CENTER, "wrong")
                assert answer.startswith("UNAUTHENTICATED")
        assert read_page(process.http_port, "/metrics")[0] == 401
        wait_for_metric(process.http_port, 'caller="billing",grpc_code="OK"} 4.0')


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Authorization: Bearer \xff\xfe\r\n", b"401"),
        (b"Authorization: Bearer " + b"x" * 8192 + b"\r\n", b"401"),
        (b"Authorization: \r\n", b"401"),
        (2 * b"Authorization: Bearer s3cret-of-prom\r\n", b"400"),
        (b"authorization: bearer s3cret-of-prom\r\n", b"200"),
    ],
)
def test_odd_headers_are_refused(
    model_dir: Path, tokens: Path, headers: bytes, status: bytes
) -> None:
    with (
        guarded(model_dir, tokens) as (server, _),
        socket.create_connection(("127.0.0.1", server.http_port)) as client,
    ):
        client.sendall(b"GET /metrics HTTP/1.1\r\n" + headers + b"\r\n")
        assert client.recv(1000).split()[1] == status


def test_metrics_are_read_with_a_certificate(model_dir: Path, tmp_path: Path) -> None:
    authority, allowed = Authority(), tmp_path / "identities"
    authority.issue().write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    allowed.write_text("prometheus dns:prometheus metrics\n")
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    with running_server(
        model_dir,
        tls_cert=tmp_path / "tls.crt",
        tls_key=tmp_path / "tls.key",
        tls_client_ca=tmp_path / "ca.crt",
        allowed_identities=allowed,
    ) as server:
        for name, status in (("prometheus", b"200"), ("stranger", b"403")):
            folder = tmp_path / name
            folder.mkdir()
            authority.issue(x509.DNSName(name)).write(folder)
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
            with (
                socket.create_connection(("127.0.0.1", server.http_port)) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as client,
            ):
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                assert client.recv(1000).split()[1] == status


def test_a_file_that_cannot_be_read_for_a_moment_is_read_later(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A revoked token must not stay valid because no file descriptor was left."""
    monkeypatch.setattr("grpc_server.callers.LOOK_SECONDS", 0.0)
    failures: list[int] = []
    callers = CallersFile.of_tokens(tokens, lambda: failures.append(1))
    old = line("a", "one", "predict").split()[1]
    replace(tokens, line("a", "one", "predict").encode())
    assert callers.find(old) is not None
    replace(tokens, line("b", "two", "predict").encode())

    with monkeypatch.context() as patch:
        patch.setattr("grpc_server.followed_files._open_at_once", fail_to_open)
        assert callers.find(old) is not None
        assert callers.find(old) is not None

    assert failures == [1]
    assert callers.find(old) is None


def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a pipe waits for its other end, and calls would wait with it."""
    monkeypatch.setattr("grpc_server.callers.LOOK_SECONDS", 0.0)
    failures: list[int] = []
    callers = CallersFile.of_tokens(tokens, lambda: failures.append(1))
    tokens.unlink()
    os.mkfifo(tokens)
    proof = line("billing", SECRET, "predict").split()[1]
    looker = Thread(target=callers.find, args=(proof,), daemon=True)
    looker.start()
    looker.join(5.0)
    assert not looker.is_alive()
    assert callers.find(proof) is not None
    assert failures == [1]
    with pytest.raises(CallersError, match="a pipe or a device"):
        CallersFile.of_tokens(tokens, lambda: None)


def fail_to_open(*_: object) -> None:
    raise OSError(24, "Too many open files")


def test_a_page_that_needs_a_token_says_so(model_dir: Path, tokens: Path) -> None:
    with guarded(model_dir, tokens) as (server, _):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/metrics")

    with caught.value as refusal:
        assert refusal.headers["WWW-Authenticate"] == "Bearer"
