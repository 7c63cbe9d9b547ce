"""The real Envoy with the committed configuration, in front of a real server, and curl."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from serve_rest import Ports, write_envoy_files
from support import artifact_without_estimator, wait_for

LOG = "envoy.log"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, as curl received it."""

    status: int
    headers: "Message[str, str]"
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


def curl(*arguments: str) -> Reply:
    """Run curl to its end and parse the reply."""
    output = subprocess.run(
        ["curl", "--silent", "--show-error", "--include", "--max-time", "30"]
        # Without it, curl announces a large body and waits, which gives another reply to parse.
        + ["--header", "Expect:", *arguments],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    head, _, text = output.partition("\n\n")
    first, _, headers = head.partition("\n")
    return Reply(int(first.split()[1]), Parser().parsestr(headers), text)


def post(url: str, body: str, *arguments: str, path: str = "/predict") -> Reply:
    """Post JSON; a body that begins with @ is a file that curl reads."""
    kind = ["--header", "Content-Type: application/json"]
    return curl("--data-binary", body, *kind, *arguments, f"{url}{path}")


def five_feature_artifact() -> ModelArtifact:
    """Return a logistic regression that answers 1 to [1, 2, 3, 4, 5], its center."""
    artifact = artifact_without_estimator(5, 2)
    artifact.logistic_regression.coefficients.extend([2.0, -1.0, 0.5, 0.25, 1.0])
    artifact.logistic_regression.intercepts.append(0.5)
    artifact.logistic_regression.centers.extend([1.0, 2.0, 3.0, 4.0, 5.0])
    artifact.provenance.family = "logistic_regression"
    artifact.provenance.display_name = "Logistic Regression"
    artifact.golden_examples.add(
        features=[1.0, 2.0, 3.0, 4.0, 5.0],
        # At the center the log-odds are the intercept: 1 / (1 + exp(-0.5)).
        probabilities=[0.3775406687981454, 0.6224593312018546],
        label="1",
    )
    return artifact


def _listening_port(admin_address: Path) -> int:
    """Ask Envoy's admin port for the port of its listener."""
    wait_for(lambda: admin_address.exists() and admin_address.stat().st_size > 0)
    url = f"http://{admin_address.read_text()}/listeners?format=json"
    with urllib.request.urlopen(url) as response:
        (listener,) = json.load(response)["listener_statuses"]
    return int(listener["local_address"]["socket_address"]["port_value"])


@contextmanager
def running_envoy(folder: Path, grpc_port: int, http_port: int) -> Iterator[str]:
    """Run Envoy in `folder`, on free ports, and give its URL."""
    ports = Ports(rest=0, admin=0, grpc=grpc_port, http=http_port)
    command = write_envoy_files(folder, ports)
    command += ["--admin-address-path", "admin", "--file-flush-interval-msec", "50"]
    with (folder / LOG).open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{_listening_port(folder / 'admin')}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_well(url: str) -> None:
    """Return once `url` answers with a success."""
    wait_for(lambda: not subprocess.run(["curl", "--silent", "--fail", url]).returncode)
