"""`make serve-rest`: the server and Envoy start together and stop in order."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rest_support import curl, five_feature_artifact, post, wait_until_well
from serve_rest import Ports
from support import ROOT, wait_for, write_artifact
from wire import is_free

PROGRAM = ROOT / "k8s" / "components" / "envoy-json" / "serve_rest.py"


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "a model", five_feature_artifact())


def free_ports() -> Ports:
    """Return ports that were free a moment ago, because the program needs them as flags."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            for _ in range(3)
        ]
        rest, grpc, http = (item.getsockname()[1] for item in sockets)
    return Ports(rest=rest, grpc=grpc, http=http)


def command(ports: Ports, *arguments: str) -> list[str]:
    numbers = ["--rest-port", str(ports.rest), "--admin-port", "0"]
    numbers += ["--port", str(ports.grpc), "--http-port", str(ports.http)]
    return [sys.executable, str(PROGRAM), *numbers, *arguments]


@contextmanager
def running(ports: Ports, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        command(ports, *arguments), stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until_well(f"http://127.0.0.1:{ports.rest}/health/ready")
        yield process
    finally:
        # For a test that failed: the program ends both without waiting for callers.
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_an_interrupt_stops_both(model_dir: Path) -> None:
    ports = free_ports()
    with running(ports, "--model-dir", str(model_dir)) as process:
        reply = post(f"http://127.0.0.1:{ports.rest}", '{"features": [1, 2, 3, 4, 5]}')
        assert (reply.status, reply.json["label"]) == (200, "1")

        process.send_signal(signal.SIGINT)

        assert process.wait(timeout=30) == 0
    assert is_free(ports.rest) and is_free(ports.grpc) and is_free(ports.http)


def test_envoy_stays_for_as_long_as_the_server_drains(model_dir: Path) -> None:
    ports = free_ports()
    url = f"http://127.0.0.1:{ports.rest}"
    arguments = ["--model-dir", str(model_dir), "--drain-seconds", "3600"]
    with running(ports, *arguments) as process:
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: curl(f"{url}/health/ready").status == 503)

        assert curl(f"{url}/model").status == 200

        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert is_free(ports.rest)


def test_an_envoy_that_cannot_start_ends_the_server(model_dir: Path) -> None:
    ports = free_ports()
    with socket.create_server(("127.0.0.1", ports.rest)):
        result = subprocess.run(
            command(ports, "--model-dir", str(model_dir), "--drain-seconds", "0"),
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert result.returncode == 1
    assert "Address already in use" in result.stderr
    assert is_free(ports.grpc)


def test_a_server_that_cannot_start_ends_envoy(tmp_path: Path) -> None:
    ports = free_ports()

    result = subprocess.run(
        command(ports, "--model-dir", str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.returncode == 1
    assert "error: no model at" in result.stderr
    assert is_free(ports.rest)


def child_of(process: "subprocess.Popen[str]", name: str) -> int:
    """Return the ID of the child whose command line contains a word."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    (found,) = (
        int(pid)
        for pid in path.read_text().split()
        if name in Path(f"/proc/{pid}/cmdline").read_text()
    )
    return found


@pytest.mark.parametrize(
    ("name", "ended"), [("grpc_server", "the server"), ("envoy.yaml", "Envoy")]
)
def test_one_that_dies_ends_the_other_and_is_named(
    name: str, ended: str, model_dir: Path
) -> None:
    """The server does not drain, because no caller can reach it."""
    ports = free_ports()
    arguments = ["--model-dir", str(model_dir), "--drain-seconds", "3600"]
    with subprocess.Popen(
        command(ports, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until_well(f"http://127.0.0.1:{ports.rest}/health/ready")
        os.kill(child_of(process, name), signal.SIGKILL)
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    (line,) = (line for line in errors.splitlines() if line.startswith("error: "))
    assert line == f"error: {ended} has ended, with SIGKILL"
    assert is_free(ports.rest) and is_free(ports.grpc)


def test_ports_of_zero_are_free_ones_that_envoy_knows(model_dir: Path) -> None:
    arguments = ["--model-dir", str(model_dir), "--drain-seconds", "0"]
    with subprocess.Popen(
        command(Ports(rest=0, grpc=0, http=0), *arguments),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        try:
            wait_until_well(f"{url}/health/ready")
            reply = post(url, '{"features": [1, 2, 3, 4, 5]}')
        finally:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)

    assert (reply.status, process.returncode) == (200, 0)


@pytest.mark.parametrize("arguments", [("--host", "::1"), ("--host=0.0.0.0",)])
def test_the_host_is_not_to_be_chosen(arguments: tuple[str, ...]) -> None:
    """Envoy would not find the server."""
    result = subprocess.run(
        command(Ports(), *arguments), capture_output=True, text=True, timeout=60
    )

    assert result.returncode == 2
    assert "--host cannot be given" in result.stderr
