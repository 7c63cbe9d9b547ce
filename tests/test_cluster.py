"""The base on a real cluster: that of KUBECONFIG, with the images IMAGE_PREFIX/NAME:TAG in it.

Deployed and removed by `k8s/deploy.py`, as `make all` and `make clean` do, in a namespace of its
own. Clusters too old for gRPC probes get the components that are for them.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_support import KUBECTL, Namespace, environment, image, minor_version
from support import ROOT, lightgbm_artifact, wait_for, write_artifact

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SELECTOR = "app.kubernetes.io/name=prediction-server"


@dataclass(frozen=True, slots=True)
class Server:
    """A deployed server, and a row with the answer of the trainer's library."""

    namespace: str
    overlay: Path
    row: list[float]
    probabilities: list[float]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the namespace and return its output."""
        return Namespace(self.namespace).kubectl(*arguments, stdin=stdin)

    def pods(self) -> dict[str, bool]:
        """Return the server's pods that are not terminating, and whether each is ready."""
        pods = Namespace(self.namespace).items("pods", "--selector", SELECTOR)
        return {
            pod["metadata"]["name"]: all(
                status["ready"] for status in pod["status"].get("containerStatuses", [])
            )
            and pod["status"]["phase"] == "Running"
            for pod in pods
            if "deletionTimestamp" not in pod["metadata"]
        }

    def wait_until_two_are_ready(self) -> None:
        """Return once the two pods that the autoscaler wants are ready."""
        wait_for(
            lambda: list(self.pods().values()) == [True, True], timeout_seconds=180
        )


def write_overlay(folder: Path, namespace: str) -> tuple[Path, Server]:
    """Write an overlay of the base that serves a small model without a registry."""
    artifact, rows, expected = lightgbm_artifact(2)
    write_artifact(folder, artifact)
    k8s = os.path.relpath(ROOT / "k8s", folder.resolve())
    components = [f"{k8s}/components/model-from-config-map"]
    if minor_version() < 24:
        components += [f"{k8s}/components/http-probes", f"{k8s}/tests/kubernetes-1.20"]
    kustomization = {
        "namespace": namespace,
        "resources": ["namespace.yaml", f"{k8s}/base"],
        "components": components,
        "configMapGenerator": [{"name": "prediction-model", "files": ["model.binpb"]}],
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    (folder / "namespace.yaml").write_text(yaml.safe_dump(space))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder, Server(namespace, folder, rows[1].tolist(), expected[1].tolist())


def run_deploy(action: str, overlay: Path, *arguments: str) -> str:
    """Run the program of `make deploy` and `make clean`, and return its output."""
    program = [
        sys.executable,
        str(ROOT / "k8s/deploy.py"),
        action,
        f"--overlay={overlay}",
    ]
    result = subprocess.run(
        [*program, "--yes=1", *arguments], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def image_flags() -> list[str]:
    """Return the flags that name the images under test."""
    return [f"--prefix={environment('IMAGE_PREFIX')}", f"--tag={environment('TAG')}"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Deploy the server, and remove it and its namespace after the tests."""
    environment("KUBECONFIG")
    namespace = f"prediction-test-{uuid.uuid4().hex[:6]}"
    overlay, server = write_overlay(tmp_path_factory.mktemp("overlay"), namespace)
    try:
        run_deploy("apply", overlay, *image_flags())
        server.wait_until_two_are_ready()
        yield server
    finally:
        output = run_deploy("delete", overlay, "--data=1")
        print(output)


@pytest.fixture
def traffic(server: Server) -> Iterator["Traffic"]:
    """Run traffic in a pod beside the server."""
    running = Traffic(server)
    running.start()
    try:
        yield running
    finally:
        server.kubectl(
            "delete", "pod", "traffic", "--grace-period=1", "--ignore-not-found"
        )
        server.kubectl("delete", "configmap", "traffic", "--ignore-not-found")


class Traffic:
    """Calls from inside the cluster, through the Service, until stopped."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def start(self) -> None:
        """Start calling, and return once the first calls are made."""
        script = Path(__file__).with_name("cluster_traffic.py")
        self._server.kubectl("create", "configmap", "traffic", f"--from-file={script}")
        self._server.kubectl("apply", "--filename=-", stdin=json.dumps(self._pod()))
        self._server.kubectl(
            "wait", "--for=condition=Ready", "pod/traffic", "--timeout=120s"
        )

    def stop(self) -> dict[str, dict[str, int]]:
        """Stop calling, and return the number of calls by outcome, for each kind of channel."""
        self._server.kubectl("exec", "traffic", "--", "touch", "/tmp/stop")
        wait_for(self._has_ended, timeout_seconds=60)
        outcomes: dict[str, dict[str, int]] = json.loads(
            self._server.kubectl("logs", "traffic")
        )
        return outcomes

    def _has_ended(self) -> bool:
        phase = "--output=jsonpath={.status.phase}"
        return self._server.kubectl("get", "pod", "traffic", phase) == "Succeeded"

    def _pod(self) -> dict[str, Any]:
        container = {
            "name": "traffic",
            "image": image("prediction-server"),
            "imagePullPolicy": "IfNotPresent",
            "command": [
                "python",
                "/traffic/cluster_traffic.py",
                json.dumps(self._server.row),
            ],
            "volumeMounts": [
                {"name": "traffic", "mountPath": "/traffic"},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }
        volumes = [
            {"name": "traffic", "configMap": {"name": "traffic"}},
            {"name": "tmp", "emptyDir": {}},
        ]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "traffic"},
            "spec": {
                "restartPolicy": "Never",
                "containers": [container],
                "volumes": volumes,
            },
        }


def assert_none_was_lost(outcomes: dict[str, dict[str, int]], server: Server) -> None:
    """Check that there were many calls, and that each got the answer of the trainer's library."""
    answer = json.dumps(server.probabilities)
    for kind in ("kept", "new"):
        lost = {
            outcome: n for outcome, n in outcomes[kind].items() if outcome != answer
        }
        assert (
            lost == {}
        ), f"of {outcomes[kind].get(answer, 0)} calls on {kind} channels"
        assert outcomes[kind][answer] >= 100


def test_the_service_answers_as_the_trainer(server: Server, traffic: Traffic) -> None:
    wait_for(lambda: served_calls(server) >= 500, timeout_seconds=60)

    assert_none_was_lost(traffic.stop(), server)


COUNT_CALLS = r"""
import re, urllib.request
text = urllib.request.urlopen("http://127.0.0.1:8080/metrics").read().decode()
print(sum(map(float, re.findall(r"^grpc_server_handled_total{.*Predict.*} (.*)$", text, re.M))))
"""


def served_calls(server: Server) -> float:
    """Return how many calls the pods have answered, by their metrics."""
    program = ["exec", "--container=server", "--stdin"]
    counts = [
        server.kubectl(*program, pod, "--", "python", "-", stdin=COUNT_CALLS)
        for pod in server.pods()
    ]
    return sum(map(float, counts))


def test_a_rolling_restart_under_traffic_loses_no_call(
    server: Server, traffic: Traffic
) -> None:
    before = set(server.pods())

    server.kubectl("rollout", "restart", "deployment/prediction-server")
    server.kubectl(
        "rollout", "status", "deployment/prediction-server", "--timeout=180s"
    )
    # The last of the old pods has also drained.
    wait_for(lambda: not before & all_pods(server), timeout_seconds=90)

    assert not before & set(server.pods())
    assert_none_was_lost(traffic.stop(), server)


def all_pods(server: Server) -> set[str]:
    """Return the server's pods, terminating ones included."""
    names = server.kubectl("get", "pods", "--selector", SELECTOR, "--output=name")
    return {name.removeprefix("pod/") for name in names.split()}


def evict(server: Server, pod: str) -> str:
    """Ask for an eviction, as draining a node does, and return the answer."""
    version = "policy/v1" if minor_version() >= 22 else "policy/v1beta1"
    body = {
        "apiVersion": version,
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": server.namespace},
    }
    path = f"/api/v1/namespaces/{server.namespace}/pods/{pod}/eviction"
    command = [KUBECTL, "create", "--raw", path, "--filename=-"]
    result = subprocess.run(
        command, input=json.dumps(body), capture_output=True, text=True
    )
    return result.stdout + result.stderr


def test_an_evicted_pod_comes_back_one_at_a_time_and_no_call_is_lost(
    server: Server, traffic: Traffic
) -> None:
    server.wait_until_two_are_ready()
    first, second = server.pods()

    answers = evict(server, first), evict(server, second)

    assert "Success" in answers[0]
    # The disruption budget does not let both be evicted at once.
    assert "disruption budget" in answers[1]
    wait_for(lambda: first not in server.pods())
    server.wait_until_two_are_ready()
    assert second in server.pods()
    assert_none_was_lost(traffic.stop(), server)


def test_a_server_that_ends_is_started_again_in_its_pod(server: Server) -> None:
    server.wait_until_two_are_ready()
    pod = next(iter(server.pods()))
    restarts = "--output=jsonpath={.status.containerStatuses[0].restartCount}"
    server.kubectl("exec", pod, "--", "python", "-c", "import os; os.kill(1, 15)")

    wait_for(
        lambda: server.kubectl("get", "pod", pod, restarts) == "1", timeout_seconds=90
    )

    server.wait_until_two_are_ready()
    assert pod in server.pods()


def test_the_server_runs_with_no_rights(server: Server) -> None:
    pod = next(iter(server.pods()))
    script = (
        "id -u; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/1/status | tr -d '\\t'; "
        "touch /x 2>/dev/null || echo read-only; "
        "ls /var/run/secrets/kubernetes.io 2>/dev/null || echo no-token"
    )

    lines = server.kubectl("exec", pod, "--", "sh", "-c", script).split()

    rights = ["CapEff:0000000000000000", "NoNewPrivs:1", "Seccomp:2"]
    assert lines == ["10001", *rights, "read-only", "no-token"]


def test_deploying_again_rolls_no_pod(server: Server) -> None:
    generation = ("get", "deployment", "prediction-server")
    before = server.kubectl(*generation, "--output=jsonpath={.metadata.generation}")

    output = run_deploy("apply", server.overlay, *image_flags())

    assert " created" not in output
    after = server.kubectl(*generation, "--output=jsonpath={.metadata.generation}")
    assert after == before


def test_cleaning_removes_all_but_the_namespace_and_does_so_once(
    server: Server,
) -> None:
    first = run_deploy("delete", server.overlay)
    second = run_deploy("delete", server.overlay)

    assert f"kept namespace/{server.namespace}" in first
    assert "0 objects of ours" in second
    left = server.kubectl(
        "get", "deployments,services,horizontalpodautoscalers", "--output=name"
    )
    assert left == ""
