"""JSON over HTTPS: the real Envoy, configured as in the pod, and a server with TLS and tokens."""

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tls_support import Authority, Pair

from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from envoy_tls import CONFIGURATION, add_tls
from rest_support import Reply, curl, five_feature_artifact, post
from serve_rest import Ports, render, write_envoy_files
from support import running_server, wait_for, write_artifact
from wire import failure

TLS = CONFIGURATION.parent / "tls"
TOKEN = "a-token-of-billing"
AT_CENTER = '{"features": [1.0, 2.0, 3.0, 4.0, 5.0]}'
# Of curl: an error of HTTP/2, no handshake, no answer, not sent, not received.
REFUSED = {16, 35, 52, 55, 56}
NAMES = (x509.DNSName("prediction-server"), x509.DNSName("localhost"))


class Secret:
    """A mounted Secret: links to a folder that a renewal replaces as one, as the kubelet does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        folder.mkdir()

    def write(self, authority: Authority, pair: Pair) -> None:
        """Renew the Secret."""
        self._count += 1
        new = self.folder / f"..{self._count}"
        new.mkdir()
        pair.write(new)
        (new / "ca.crt").write_bytes(authority.certificate)
        (self.folder / "..new").symlink_to(new.name)
        os.replace(self.folder / "..new", self.folder / "..data")
        for name in ("tls.crt", "tls.key", "ca.crt"):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")


def write_tls_files(folder: Path, secret: Path, ports: Ports) -> list[str]:
    """Write the pod's files with paths and ports of this machine, and return the command."""
    command = write_envoy_files(folder, ports)
    text = render((TLS / "envoy.yaml").read_text(), ports)
    text = text.replace("0.0.0.0, port_value: 8001", "127.0.0.1, port_value: 0")
    (folder / "envoy.yaml").write_text(text.replace("/etc/envoy/", f"{folder}/"))
    for name in ("sds-certificate.yaml", "sds-authority.yaml"):
        text = (TLS / name).read_text().replace(": /tls", f": {secret}")
        (folder / name).write_text(text)
    return command


def listening_ports(admin: Path) -> dict[str, int]:
    """Ask Envoy's admin port for the ports of its listeners, by name."""
    wait_for(lambda: admin.exists() and admin.stat().st_size > 0)
    url = f"http://{admin.read_text()}/listeners?format=json"
    with urllib.request.urlopen(url) as response:
        found = json.load(response)["listener_statuses"]
    return {
        item["name"]: item["local_address"]["socket_address"]["port_value"]
        for item in found
    }


@dataclass(frozen=True, slots=True)
class Pod:
    """A server with TLS and tokens, and Envoy before it."""

    port: int
    health_port: int
    secret: Secret
    authority: Authority
    caller: Path

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def flags(self) -> list[str]:
        """Flags of curl for a caller that has a certificate."""
        files = {"--cert": "tls.crt", "--key": "tls.key", "--cacert": "ca.crt"}
        return [
            word
            for flag, name in files.items()
            for word in (flag, f"{self.caller}/{name}")
        ]

    def post(self, *arguments: str, path: str = "/predict") -> Reply:
        """Post one instance with the caller's certificate."""
        return post(self.url, AT_CENTER, *self.flags, *arguments, path=path)


def bearer(token: str) -> tuple[str, str]:
    return ("--header", f"Authorization: Bearer {token}")


def write_caller(folder: Path, authority: Authority, pair: Pair) -> Path:
    folder.mkdir(exist_ok=True)
    pair.write(folder)
    (folder / "ca.crt").write_bytes(authority.certificate)
    return folder


@contextmanager
def running_pod(
    folder: Path, server_names: tuple[x509.DNSName, ...] = NAMES
) -> Iterator[Pod]:
    """Run both; the server's certificate has `server_names`, Envoy's has `NAMES`."""
    authority = Authority()
    secret, server_secret = Secret(folder / "secret"), Secret(folder / "server-secret")
    pair = authority.issue(*NAMES)
    secret.write(authority, pair)
    is_same = server_names == NAMES
    server_secret.write(authority, pair if is_same else authority.issue(*server_names))
    tls = secret.folder if is_same else server_secret.folder
    digest = sha256(TOKEN.encode()).hexdigest()
    (folder / "tokens").write_text(f"billing sha256:{digest} predict,metrics\n")
    model_dir = write_artifact(folder / "model", five_feature_artifact())
    with running_server(
        model_dir,
        tls_cert=tls / "tls.crt",
        tls_key=tls / "tls.key",
        tls_client_ca=tls / "ca.crt",
        tokens_file=folder / "tokens",
        health_port=0,
    ) as server:
        ports = Ports(rest=0, admin=0, grpc=server.port, http=server.http_port)
        command = write_tls_files(folder, secret.folder, ports)
        command += ["--admin-address-path", "admin"]
        with (folder / "envoy.log").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            found = listening_ports(folder / "admin")
            caller = authority.issue(x509.DNSName("caller"))
            yield Pod(
                found["http-json"],
                found["http-health"],
                secret,
                authority,
                write_caller(folder / "caller", authority, caller),
            )
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with running_pod(tmp_path_factory.mktemp("pod")) as pod:
        yield pod


@pytest.fixture
def channel(pod: Pod) -> Iterator[grpc.Channel]:
    certificate, key = (
        (pod.caller / name).read_bytes() for name in ("tls.crt", "tls.key")
    )
    credentials = grpc.ssl_channel_credentials(
        pod.authority.certificate, key, certificate
    )
    with grpc.secure_channel(f"localhost:{pod.port}", credentials) as channel:
        yield channel


def test_the_committed_file_is_that_of_the_plain_one() -> None:
    assert (TLS / "envoy.yaml").read_text() == add_tls(CONFIGURATION.read_text())


def test_a_changed_plain_file_without_a_place_for_tls_is_refused() -> None:
    text = CONFIGURATION.read_text().replace("- name: grpc\n", "- name: other\n")

    with pytest.raises(
        ValueError, match="name: grpc.* is not exactly once in envoy.yaml"
    ):
        add_tls(text)


def test_json_with_a_token_is_answered_over_https(pod: Pod) -> None:
    reply = pod.post(*bearer(TOKEN))

    assert (reply.status, reply.json["label"]) == (200, "1")


def test_the_server_decides_on_tokens_that_envoy_passes_on(pod: Pod) -> None:
    without, wrong = pod.post(), pod.post(*bearer("another"))
    out_of_scope = curl(*pod.flags, *bearer(TOKEN), f"{pod.url}/model")

    assert [without.status, wrong.status, out_of_scope.status] == [401, 401, 403]
    assert without.json["details"][0]["reason"] == "UNAUTHENTICATED"
    assert out_of_scope.json["details"][0]["reason"] == "NOT_ALLOWED"


def test_metrics_and_health_of_the_server_arrive(pod: Pod) -> None:
    page = curl(*pod.flags, *bearer(TOKEN), f"{pod.url}/metrics")
    ready = curl(*pod.flags, f"{pod.url}/health/ready")

    assert (page.status, ready.status) == (200, 200)
    assert "prediction_calls_by_caller_total" in page.text
    assert curl(*pod.flags, f"{pod.url}/metrics").status == 401


def test_probes_of_envoy_need_no_certificate_and_reach_nothing_else(pod: Pod) -> None:
    url = f"http://127.0.0.1:{pod.health_port}"

    assert curl(f"{url}/health/envoy").status == 200
    for path in ("/metrics", "/model", "/health/ready", "/predict"):
        assert curl(f"{url}{path}").status == 404


def exit_code(*arguments: str) -> int:
    """Run curl where no reply is expected."""
    return subprocess.run(
        ["curl", "--silent", "--max-time", "10", *arguments]
    ).returncode


def test_strangers_get_no_reply(pod: Pod, tmp_path: Path) -> None:
    other = Authority("other")
    trusted = ["--cacert", f"{pod.caller}/ca.crt"]
    for number, pair in enumerate(
        (
            other.issue(x509.DNSName("caller")),
            pod.authority.issue(x509.DNSName("caller"), begin_days=-3, end_days=-1),
        )
    ):
        folder = write_caller(tmp_path / str(number), pod.authority, pair)
        files = ["--cert", f"{folder}/tls.crt", "--key", f"{folder}/tls.key"]
        assert exit_code(*trusted, *files, f"{pod.url}/health/ready") in REFUSED

    assert exit_code(*trusted, f"{pod.url}/health/ready") in REFUSED
    assert (
        exit_code("--tls-max", "1.1", *pod.flags, f"{pod.url}/health/ready") in REFUSED
    )
    assert exit_code(f"http://localhost:{pod.port}/health/envoy") in REFUSED


def test_grpc_and_health_pass_and_reflection_does_not(channel: grpc.Channel) -> None:
    metadata = (("authorization", f"Bearer {TOKEN}"),)
    request = PredictRequest(features=[1, 2, 3, 4, 5])
    health = health_pb2.HealthCheckRequest(service="readiness")

    reply = PredictionServiceStub(channel).Predict(request, metadata=metadata)
    status = health_pb2_grpc.HealthStub(channel).Check(health, timeout=10).status
    refused = failure(lambda: ProtoReflectionDescriptorDatabase(channel).get_services())

    assert (reply.label, status) == ("1", health_pb2.HealthCheckResponse.SERVING)
    assert refused.code() is grpc.StatusCode.UNIMPLEMENTED


def served_serial(pod: Pod) -> int:
    """Return the serial number of the certificate that Envoy shows."""
    name = ["-connect", f"localhost:{pod.port}"]
    shown = subprocess.run(
        ["openssl", "s_client", *name], capture_output=True, stdin=subprocess.DEVNULL
    ).stdout
    return x509.load_pem_x509_certificate(
        shown[shown.index(b"-----BEGIN") :]
    ).serial_number


def test_a_renewed_secret_is_taken_without_a_restart_or_a_failed_call(
    tmp_path: Path,
) -> None:
    """The new CA too: after it, the old CA's callers are strangers, and the new one's are not."""
    with running_pod(tmp_path) as pod:
        before = served_serial(pod)
        assert pod.post(*bearer(TOKEN)).status == 200
        pod.secret.write(pod.authority, pod.authority.issue(*NAMES))
        wait_for(lambda: served_serial(pod) != before)
        assert pod.post(*bearer(TOKEN)).status == 200

        new = Authority("new")
        pod.secret.write(new, new.issue(*NAMES))
        old_flags = [*pod.flags, "--insecure", f"{pod.url}/health/ready"]
        wait_for(lambda: exit_code(*old_flags) in REFUSED)
        write_caller(pod.caller, new, new.issue(x509.DNSName("caller")))
        assert pod.post(*bearer(TOKEN)).status == 200


def test_a_server_of_another_name_gets_no_call(tmp_path: Path) -> None:
    """Of the same CA: a caller's certificate must not do to answer in the server's place."""
    with running_pod(tmp_path, server_names=(x509.DNSName("caller"),)) as pod:
        reply = pod.post(*bearer(TOKEN))

    assert (reply.status, reply.json["code"]) == (503, 14)
