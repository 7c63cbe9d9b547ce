"""The probes of k8s/base against a real server: when it would be restarted or get calls.

Kubernetes' own kubelet does this in a pod; here its loop is replayed (kubelet.py), ten times as
often, with the manifest's own timeouts and thresholds.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from kubelet import Kubelet
from server_process import Process, running
from support import ROOT, wait_for, write_artifact

pytestmark = pytest.mark.slow
SPEEDUP = 10.0
WATCHED_SECONDS = 5.0


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    """The server's container as k8s/base declares it."""
    text = (ROOT / "k8s/base/deployment.yaml").read_text()
    (container,) = yaml.safe_load(text)["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def kubelet_of(container: dict[str, Any], process: Process) -> Kubelet:
    return Kubelet(container, f"127.0.0.1:{process.port}", SPEEDUP)


@contextmanager
def storm(process: Process, in_flight: int) -> Iterator[dict[str, int]]:
    """Keep calls in flight during a block; then count their outcomes."""
    command = [sys.executable, str(Path(__file__).with_name("call_storm.py"))]
    calls = subprocess.Popen(
        [*command, str(process.port), str(in_flight)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    outcomes: dict[str, int] = {}
    try:
        yield outcomes
        output, _ = calls.communicate(timeout=60)
        outcomes.update(json.loads(output))
    finally:
        calls.kill()
        calls.wait()


def test_without_a_model_it_is_alive_and_with_one_ready(
    container: dict[str, Any], logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    with running("--model-dir", str(folder), "--wait-for-model") as process:
        kubelet = kubelet_of(container, process)
        with kubelet.watching():
            wait_for(lambda: kubelet.n_probes >= 2)
            assert (kubelet.would_restart, kubelet.is_ready) == (False, False)

            write_artifact(folder, logistic_artifact)
            wait_for(lambda: kubelet.is_ready)


@pytest.mark.parametrize("in_flight", [16, 2000], ids=["load", "saturation"])
def test_a_busy_server_is_never_restarted(
    container: dict[str, Any], model_dir: Path, in_flight: int, lane: str
) -> None:
    """There are far more calls than workers, so the calls and the probes wait."""
    # All calls use one connection, whose limit is raised.
    share = ("--max-calls-per-connection", "4096")
    with running("--model-dir", str(model_dir), "--lane", lane, *share) as process:
        process.wait_for("serving")
        kubelet = kubelet_of(container, process)
        with kubelet.watching():
            wait_for(lambda: kubelet.is_ready)
            with storm(process, in_flight) as outcomes:
                end = time.monotonic() + WATCHED_SECONDS
                while time.monotonic() < end:
                    assert not kubelet.would_restart
                    assert kubelet.is_ready
                    time.sleep(0.01)
            assert kubelet.n_probes >= 2

    # Calls beyond the bound are refused.
    assert set(outcomes) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert outcomes["OK"] > in_flight


def test_a_server_that_drains_gets_no_new_calls_and_is_not_restarted(
    container: dict[str, Any], model_dir: Path
) -> None:
    with running("--model-dir", str(model_dir), "--drain-seconds", "3600") as process:
        process.wait_for("serving")
        kubelet = kubelet_of(container, process)
        with kubelet.watching():
            wait_for(lambda: kubelet.is_ready)
            process.signal(signal.SIGTERM)
            process.wait_for("draining")

            wait_for(lambda: not kubelet.is_ready)
            n_probes = kubelet.n_probes
            wait_for(lambda: kubelet.n_probes > n_probes + 1)
            assert not kubelet.would_restart
            with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
                stub = PredictionServiceStub(channel)
                assert stub.Predict(PredictRequest(features=[1.0, 3.0])).label == "1"


def test_a_server_that_is_started_again_is_ready_again(
    container: dict[str, Any], model_dir: Path
) -> None:
    """A start is faster than the failure threshold of the probes."""
    with running("--model-dir", str(model_dir)) as process:
        kubelet = kubelet_of(container, process)
        port = process.port
        with kubelet.watching():
            wait_for(lambda: kubelet.is_ready)
            process.signal(signal.SIGKILL)
            process.wait()
            wait_for(lambda: not kubelet.is_ready)
            with running("--model-dir", str(model_dir), "--port", str(port)):
                wait_for(lambda: kubelet.is_ready)

                assert not kubelet.would_restart


def test_a_server_that_hangs_is_restarted(
    container: dict[str, Any], model_dir: Path
) -> None:
    """A stopped process: the kernel accepts connections, but nothing answers."""
    impatient = {**container["livenessProbe"], "timeoutSeconds": 1}
    with running("--model-dir", str(model_dir)) as process:
        process.wait_for("serving")
        kubelet = kubelet_of(container | {"livenessProbe": impatient}, process)
        with kubelet.watching():
            wait_for(lambda: kubelet.is_ready)
            process.signal(signal.SIGSTOP)

            wait_for(lambda: kubelet.would_restart, timeout_seconds=60)
            assert not kubelet.is_ready
