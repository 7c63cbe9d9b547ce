"""The real Prometheus scrapes a real server with TLS and tokens, as the PodMonitor says."""

import json
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from tls_support import Authority

from grpc_server.server import PredictionServer

from support import ROOT, running_server, wait_for

PROMETHEUS = shutil.which("prometheus")
OPERATOR = ROOT / "k8s/components/prometheus-operator"
TOKEN = "a-token-of-prometheus"

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None,
    reason="prometheus is not installed; on Debian: apt-get install prometheus",
)


def endpoint() -> dict[str, Any]:
    """Return the PodMonitor's endpoint after the patches of TLS and tokens."""
    monitor = yaml.safe_load((OPERATOR / "pod-monitor.yaml").read_text())
    found: dict[str, Any] = monitor["spec"]["podMetricsEndpoints"][0]
    for part in ("tls", "tokens"):
        for change in yaml.safe_load(
            (OPERATOR / part / "pod-monitor.yaml").read_text()
        ):
            found[change["path"].rpartition("/")[2]] = change["value"]
    return found


def scrape_config(folder: Path, port: int) -> dict[str, Any]:
    """Return what the operator makes of the endpoint, with the Secrets as folders."""
    asked = endpoint()
    tls = asked["tlsConfig"]
    token = asked["authorization"]["credentials"]
    return {
        "job_name": "server",
        "scheme": asked["scheme"],
        "metrics_path": asked["path"],
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
        "authorization": {
            "type": asked["authorization"]["type"],
            "credentials_file": str(folder / token["name"] / token["key"]),
        },
        "tls_config": {
            "server_name": tls["serverName"],
            "ca_file": secret_file(folder, tls["ca"]["secret"]),
            "cert_file": secret_file(folder, tls["cert"]["secret"]),
            "key_file": secret_file(folder, tls["keySecret"]),
        },
    }


def secret_file(folder: Path, reference: dict[str, str]) -> str:
    return str(folder / reference["name"] / reference["key"])


@contextmanager
def running_prometheus(folder: Path, configuration: dict[str, Any]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    # JSON is YAML.
    path = folder / "prometheus.yml"
    path.write_text(json.dumps({"scrape_configs": [configuration]}))
    assert PROMETHEUS is not None
    command = [PROMETHEUS, f"--config.file={path}", f"--storage.tsdb.path={folder}/db"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], stdout=log, stderr=log
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def target(url: str) -> dict[str, Any]:
    """Return the state of the only target, empty until Prometheus answers."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/targets", timeout=5) as page:
            found = json.load(page)["data"]["activeTargets"]
    except OSError:
        return {}
    return dict(found[0]) if found else {}


@contextmanager
def guarded_server(
    folder: Path, model_dir: Path, scopes: str
) -> Iterator[PredictionServer]:
    """Run a server whose only caller is Prometheus, with `scopes`."""
    authority = Authority()
    name = endpoint()["tlsConfig"]["serverName"]
    for secret, dns_name in (("server", name), ("prediction-scraper-tls", "scraper")):
        (folder / secret).mkdir()
        authority.issue(x509.DNSName(dns_name)).write(folder / secret)
        (folder / secret / "ca.crt").write_bytes(authority.certificate)
    (folder / "prediction-scraper-token").mkdir()
    (folder / "prediction-scraper-token/token").write_text(TOKEN)
    digest = sha256(TOKEN.encode()).hexdigest()
    (folder / "tokens").write_text(f"prometheus sha256:{digest} {scopes}\n")
    with running_server(
        model_dir,
        tls_cert=folder / "server/tls.crt",
        tls_key=folder / "server/tls.key",
        tls_client_ca=folder / "server/ca.crt",
        tokens_file=folder / "tokens",
        health_port=0,
    ) as server:
        yield server


@pytest.mark.parametrize(
    ("scopes", "health", "error"),
    [("metrics", "up", ""), ("predict", "down", "403")],
)
def test_the_pod_monitor_reaches_the_metrics_if_its_token_may(
    tmp_path: Path, model_dir: Path, scopes: str, health: str, error: str
) -> None:
    with guarded_server(tmp_path, model_dir, scopes) as server:
        configuration = scrape_config(tmp_path, server.http_port)
        with running_prometheus(tmp_path, configuration) as url:
            wait_for(lambda: target(url).get("health", "unknown") != "unknown")

            found = target(url)

    assert found["health"] == health, found
    assert error in found["lastError"]


@pytest.mark.parametrize(
    ("part", "error"),
    [("authorization", "401"), ("tls_config", "certificate")],
)
def test_without_its_token_or_its_certificate_nothing_is_scraped(
    tmp_path: Path, model_dir: Path, part: str, error: str
) -> None:
    with guarded_server(tmp_path, model_dir, "metrics") as server:
        configuration = scrape_config(tmp_path, server.http_port)
        del configuration[part]
        with running_prometheus(tmp_path, configuration) as url:
            wait_for(lambda: target(url).get("health", "unknown") != "unknown")

            found = target(url)

    assert found["health"] == "down"
    assert error in found["lastError"], found
