"""TLS on both ports, with real certificates: who gets in, and how certificates are renewed."""

import os
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tls_support import Authority, Pair, connect_tls, replace

from grpc_server import followed_files
from grpc_server.certificates import CertificateStore, TlsFiles
from grpc_server.errors import CertificateError
from grpc_server.server import PredictionServer
from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from server_process import running
from support import running_server, wait_for

AT_CENTER = PredictRequest(features=[1.0, 3.0])


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def folder(tmp_path: Path, authority: Authority) -> Path:
    """Return a folder with tls.crt, tls.key and ca.crt, as in Kubernetes."""
    (tmp_path / "tls").mkdir()
    authority.issue().write(tmp_path / "tls")
    (tmp_path / "tls" / "ca.crt").write_bytes(authority.certificate)
    return tmp_path / "tls"


def files_in(folder: Path, *, with_ca: bool = True) -> TlsFiles:
    return TlsFiles(
        folder / "tls.crt", folder / "tls.key", folder / "ca.crt" if with_ca else None
    )


@contextmanager
def serving(
    model_dir: Path, folder: Path, lane: str = "fast", *, with_ca: bool = False
) -> Iterator[PredictionServer]:
    with running_server(
        model_dir,
        lane,
        tls_cert=folder / "tls.crt",
        tls_key=folder / "tls.key",
        tls_client_ca=folder / "ca.crt" if with_ca else None,
        health_port=0,
    ) as server:
        yield server


def label(stub: PredictionServiceStub) -> str:
    return stub.Predict(AT_CENTER, timeout=10).label


def refusal(stub: PredictionServiceStub) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(AT_CENTER, timeout=2)
    code: grpc.StatusCode = caught.value.code()
    return code


def health(port: int | None, service: str = "readiness") -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        stub = health_pb2_grpc.HealthStub(channel)
        return int(stub.Check(request, timeout=10).status)


def read_http(port: int, path: str, ca: bytes, client: Path | None = None) -> str:
    context = ssl.create_default_context(cadata=ca.decode())
    if client is not None:
        context.load_cert_chain(client / "tls.crt", client / "tls.key")
    address = f"https://localhost:{port}{path}"
    with urllib.request.urlopen(address, context=context, timeout=10) as page:
        return str(page.read().decode())


def certificate_of(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_calls_and_pages_arrive_over_tls(
    model_dir: Path, folder: Path, authority: Authority, lane: str
) -> None:
    with (
        serving(model_dir, folder, lane) as server,
        connect_tls(server.port, authority.certificate) as stub,
    ):
        assert label(stub) == "1"
        page = read_http(server.http_port, "/metrics", authority.certificate)
    assert "prediction_tls_reload_failures_total 0.0" in page


def test_without_trust_or_in_plain_text_nobody_gets_in(
    model_dir: Path, folder: Path
) -> None:
    with serving(model_dir, folder) as server:
        with connect_tls(server.port, Authority("other").certificate) as stub:
            assert refusal(stub) is grpc.StatusCode.UNAVAILABLE
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert (
                refusal(PredictionServiceStub(channel)) is grpc.StatusCode.UNAVAILABLE
            )
        with pytest.raises(urllib.error.URLError):
            read_http(server.http_port, "/metrics", Authority("other").certificate)


def test_with_client_ca_only_its_clients_get_in(
    model_dir: Path, folder: Path, authority: Authority, lane: str
) -> None:
    name = x509.DNSName("caller")
    strangers = [
        None,
        Authority("other").issue(name),
        authority.issue(name, begin_days=-3, end_days=-1),
    ]
    ca = authority.certificate
    with serving(model_dir, folder, lane, with_ca=True) as server:
        for stranger in strangers:
            with connect_tls(server.port, ca, stranger) as stub:
                assert refusal(stub) is grpc.StatusCode.UNAVAILABLE
        with connect_tls(server.port, ca, authority.issue(name)) as stub:
            assert label(stub) == "1"
        with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
            read_http(server.http_port, "/metrics", ca)
        assert read_http(server.http_port, "/health/ready", ca, folder)


def test_old_versions_of_tls_are_refused(model_dir: Path, folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with serving(model_dir, folder) as server:
        for port in (server.port, server.http_port):
            with pytest.warns(DeprecationWarning):
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                pytest.raises((ssl.SSLError, OSError)),
            ):
                context.wrap_socket(plain)


def test_health_port_answers_health_and_nothing_else(
    model_dir: Path, folder: Path
) -> None:
    with serving(model_dir, folder, with_ca=True) as server:
        assert health(server.health_port) == health_pb2.HealthCheckResponse.SERVING
        with grpc.insecure_channel(f"127.0.0.1:{server.health_port}") as channel:
            stub = PredictionServiceStub(channel)
            assert refusal(stub) is grpc.StatusCode.UNIMPLEMENTED
            path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            ask: grpc.StreamStreamMultiCallable[bytes, bytes]
            ask = channel.stream_stream(path)
            with pytest.raises(grpc.RpcError) as caught:
                list(ask(iter([b""]), timeout=5))
            code = caught.value.code()
            assert code is grpc.StatusCode.UNIMPLEMENTED


def test_renewal_under_load_fails_no_call(
    model_dir: Path, folder: Path, authority: Authority, lane: str
) -> None:
    """Callers that stay connected and callers that connect anew all get answers."""
    over = threading.Event()
    answers: list[str] = []
    errors: list[grpc.RpcError] = []

    def call(is_new_each_time: bool) -> None:
        while not over.is_set():
            with connect_tls(server.port, authority.certificate) as stub:
                while not over.is_set():
                    try:
                        answers.append(label(stub))
                    except grpc.RpcError as error:
                        errors.append(error)
                    if is_new_each_time:
                        break

    with serving(model_dir, folder, lane) as server:
        threads = [
            threading.Thread(target=call, args=(index % 2 == 0,)) for index in range(4)
        ]
        for thread in threads:
            thread.start()
        seen = set()
        for _ in range(5):
            pair = authority.issue()
            pair.write(folder)
            seen.add(certificate_of(server.port))
            wait_for(lambda n=len(answers): len(answers) > n + 20)  # type: ignore[misc]
            assert certificate_of(server.http_port) == pair.certificate.decode()
        over.set()
        for thread in threads:
            thread.join()
    assert not errors
    assert set(answers) == {"1"}
    assert len(seen) == 5


def test_broken_pair_keeps_the_old_one_and_is_counted_once(
    folder: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[None] = []
    store = CertificateStore(files_in(folder), lambda: failures.append(None))
    old = store.current()
    key = authority.issue().key
    for content in (key, key[: len(key) // 2], b""):
        replace(folder / "tls.key", content)
        assert store.current() is store.current() is old
    (folder / "tls.key").unlink()
    assert store.current() is old
    assert len(failures) == 4
    refusals = [record for record in caplog.records if "refused" in record.message]
    assert len(refusals) == 4
    assert "PRIVATE KEY-----\n" not in caplog.text
    pair = authority.issue()
    pair.write(folder)
    assert store.current().chain == pair.certificate
    assert len(failures) == 4


def _not_pem(folder: Path, pair: Pair) -> None:
    (folder / "tls.crt").write_bytes(b"\x30\x82\x00")


def _other_key(folder: Path, pair: Pair) -> None:
    (folder / "tls.key").write_bytes(pair.key)


def _no_file(folder: Path, pair: Pair) -> None:
    (folder / "tls.key").unlink()


def _no_ca(folder: Path, pair: Pair) -> None:
    (folder / "ca.crt").write_bytes(b"hello")


def _leaf_as_ca(folder: Path, pair: Pair) -> None:
    (folder / "ca.crt").write_bytes(pair.certificate)


def _cut_key(folder: Path, pair: Pair) -> None:
    key = (folder / "tls.key").read_bytes()
    (folder / "tls.key").write_bytes(key[: len(key) // 2])


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (_not_pem, "tls.crt of --tls-cert is not a certificate in PEM"),
        (_other_key, "tls.key of --tls-key is not the key of the certificate"),
        (_no_file, "cannot read .*tls.key: No such file"),
        (_no_ca, "ca.crt of --tls-client-ca holds no certificate"),
        (_leaf_as_ca, "ca.crt of --tls-client-ca holds no certificate of a CA"),
        (_cut_key, "tls.key is cut or altered"),
    ],
)
def test_error_names_the_file(
    folder: Path, authority: Authority, damage: object, what: str
) -> None:
    assert callable(damage)
    damage(folder, authority.issue())
    with pytest.raises(CertificateError, match=what):
        CertificateStore(files_in(folder))


@pytest.mark.parametrize(
    ("times", "what"),
    [
        ({"begin_days": -3.0, "end_days": -1.0}, "has expired"),
        ({"begin_days": 1.0, "end_days": 3.0}, "is not valid yet"),
        ({"password": b"secret"}, "tls.key of --tls-key is encrypted"),
    ],
)
def test_error_says_what_is_wrong_with_the_pair(
    folder: Path, authority: Authority, times: dict[str, float], what: str
) -> None:
    authority.issue(**times).write(folder)  # type: ignore[arg-type]  # of several types
    with pytest.raises(CertificateError, match=what):
        CertificateStore(files_in(folder))


def test_key_that_all_users_can_read_is_reported(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "tls.key").chmod(0o644)
    CertificateStore(files_in(folder, with_ca=False))
    assert "every user can read the private key" in caplog.text


def test_half_a_pair_of_flags_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="give --tls-key FILE too"):
        TlsFiles.from_settings(tmp_path, None, None)
    with pytest.raises(CertificateError, match="give --tls-cert FILE too"):
        TlsFiles.from_settings(None, None, tmp_path)


def test_garbage_and_half_handshakes_keep_nobody_out(
    model_dir: Path, folder: Path, authority: Authority, lane: str
) -> None:
    ca = authority.certificate
    with serving(model_dir, folder, lane) as server, ExitStack() as stack:
        assert server.health_port
        for port in (server.port, server.http_port, server.health_port):
            for content in (b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"):
                for _ in range(30):
                    held = stack.enter_context(
                        socket.create_connection(("127.0.0.1", port))
                    )
                    held.sendall(content or b"\x00" * 100)
        with connect_tls(server.port, ca) as stub:
            assert label(stub) == "1"
        assert read_http(server.http_port, "/health/ready", ca)
        with connect_tls(server.health_port, ca) as stub:
            assert refusal(stub) is grpc.StatusCode.UNAVAILABLE
        assert health(server.health_port) == health_pb2.HealthCheckResponse.SERVING


def test_two_processes_share_ports_and_renew(
    model_dir: Path, folder: Path, authority: Authority
) -> None:
    arguments = ["--model-dir", str(model_dir), "--processes", "2"]
    arguments += ["--tls-cert", str(folder / "tls.crt")]
    arguments += ["--tls-key", str(folder / "tls.key"), "--health-port", "0"]
    ca = authority.certificate
    with running(*arguments) as process:
        process.wait_for("all processes are ready")
        for _ in range(6):
            with connect_tls(process.port, ca) as stub:
                assert label(stub) == "1"
            assert health(process.health_port) == health_pb2.HealthCheckResponse.SERVING
        pair = authority.issue()
        pair.write(folder)
        for port in (process.port, process.port, process.port, process.http_port):
            assert certificate_of(port) == pair.certificate.decode()
        page = read_http(process.http_port, "/metrics", ca)
        assert "prediction_tls_reload_failures_total" in page


def test_files_that_cannot_be_read_for_a_moment_are_read_later(
    folder: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renewal must not be lost because no file descriptor was left."""
    failures: list[int] = []
    store = CertificateStore(files_in(folder), lambda: failures.append(1))
    old = store.current()

    def fail(*_: object) -> int:
        raise OSError(24, "Too many open files")

    for owner, name in ((followed_files, "_open_at_once"), (os, "memfd_create")):
        authority.issue().write(folder)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            assert store.current() is old
            assert store.current() is old
        assert store.current() is not old
        old = store.current()
    assert failures == [1, 1]


def test_remarks_in_any_alphabet_are_no_part_of_a_certificate(folder: Path) -> None:
    files = files_in(folder)
    assert files.client_ca is not None
    for path in (files.certificate, files.client_ca):
        path.write_bytes("# Müller GmbH, 東京\n".encode() + path.read_bytes())

    store = CertificateStore(files)

    assert store.needs_client
    assert store.context().get_ca_certs()
