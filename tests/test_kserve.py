"""The manifests for KServe fit its schema, and what they start serves."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import latest_version

from grpc_server.settings import parse_command_line
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from server_process import COMMAND
from support import ROOT, answers, write_artifact

Manifest = dict[str, Any]

KINDS = json.loads((ROOT / "tests" / "testdata" / "kserve-0.21.0.json").read_text())[
    "kinds"
]
KUBECTL = Path(sys.executable).parent / "kubectl"
NAME = "prediction"
"""An InferenceService whose service links are names of settings."""


@pytest.fixture(scope="module")
def manifests() -> dict[str, Manifest]:
    """Return the objects by name and kind."""
    page = (ROOT / "docs" / "kserve.md").read_text()
    (command,) = re.findall(r"^```sh\n(.*?)\n```", page, re.M | re.S)
    words = command.split()
    assert words[0] == "kubectl"
    built = subprocess.run(
        [KUBECTL, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert built.stderr == ""
    objects = yaml.safe_load_all(built.stdout)
    return {f"{o['kind']}/{o['metadata']['name']}": o for o in objects}


@pytest.fixture(params=["prediction-server", "prediction-server-rest"])
def runtime(request: pytest.FixtureRequest, manifests: dict[str, Manifest]) -> Manifest:
    spec: Manifest = manifests[f"ServingRuntime/{request.param}"]["spec"]
    return spec


def faults(value: Any, kind: str, place: str) -> Iterator[str]:
    """Return where a value does not fit a kind of KServe's schema."""
    found = re.fullmatch(r"list\[(\w+)\]", kind)
    if found and not isinstance(value, list):
        yield f"{place} is no list"
    elif found:
        for number, item in enumerate(value):
            yield from faults(item, found[1], f"{place}[{number}]")
    elif kind in KINDS:
        members = KINDS[kind]["members"]
        for name in [*(value.keys() - members), *KINDS[kind]["required"]]:
            if name not in members or name not in value:
                yield f"{place}.{name}"
        for name in value.keys() & members.keys():
            yield from faults(value[name], members[name], f"{place}.{name}")
    elif kind in ("str", "int", "bool") and type(value).__name__ != kind:
        yield f"{place} is no {kind}"
    elif kind == "dict(str, str)" and not all(
        isinstance(text, str) for pair in value.items() for text in pair
    ):
        yield f"{place} has other values than texts"


def test_the_manifests_fit_the_schema_of_kserve(
    manifests: dict[str, Manifest],
) -> None:
    for name, manifest in manifests.items():
        version = "V1beta1" if manifest["kind"] == "InferenceService" else "V1alpha1"
        assert manifest["apiVersion"] == f"serving.kserve.io/{version.lower()}"
        assert not list(faults(manifest, f"{version}{manifest['kind']}", name))
    assert len(manifests) == 3


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("enableServiceLinks", False),
        ("securityContext", {}),
        ("protocolVersions", "grpc-v2"),
        ("annotations", {"prometheus.kserve.io/port": 8080}),
        ("supportedModelFormats", [{"name": "a", "autoSelect": "true"}]),
    ],
)
def test_the_check_of_the_schema_sees_what_is_wrong(
    runtime: Manifest, member: str, value: Any
) -> None:
    wrong = {**runtime, member: value}

    assert list(faults(wrong, "V1alpha1ServingRuntimeSpec", "spec"))


def make_pod(runtime: Manifest) -> Manifest:
    """Return the pod that KServe makes of a runtime, but for the container that fetches."""
    container = dict(runtime["containers"][0])
    container["args"] = [a.replace("{{.Name}}", NAME) for a in container["args"]]
    container["volumeMounts"] = [
        *container["volumeMounts"],
        {"name": "model", "mountPath": "/mnt/models", "readOnly": True},
    ]
    volumes = [*runtime["volumes"], {"name": "model", "emptyDir": {}}]
    spec = {"containers": [container], "volumes": volumes}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "predictor"},
        "spec": spec,
    }


def test_the_pod_fits_the_schema_of_kubernetes(runtime: Manifest) -> None:
    kubernetes_validate.validate(make_pod(runtime), latest_version(), strict=True)


def test_the_container_is_the_one_of_the_base(runtime: Manifest) -> None:
    base = yaml.safe_load((ROOT / "k8s" / "base" / "deployment.yaml").read_text())
    pod = base["spec"]["template"]["spec"]
    server = next(c for c in pod["containers"] if c["name"] == "server")
    (container,) = runtime["containers"]

    for member in ("image", "resources", "livenessProbe", "readinessProbe"):
        assert container[member] == server[member]
    of_pod = {k: v for k, v in pod["securityContext"].items() if k != "fsGroup"}
    assert container["securityContext"] == {**of_pod, **server["securityContext"]}
    tmp = next(v for v in pod["volumes"] if v["name"] == "tmp")
    assert runtime["volumes"] == [tmp]


def test_the_runtimes_differ_in_their_first_port_alone(
    manifests: dict[str, Manifest],
) -> None:
    grpc, rest = (
        deepcopy(manifests[f"ServingRuntime/prediction-server{end}"]["spec"])
        for end in ("", "-rest")
    )
    ports = [
        [port["containerPort"] for port in spec["containers"][0].pop("ports")]
        for spec in (grpc, rest)
    ]

    assert (grpc.pop("protocolVersions"), ports[0]) == (["grpc-v2"], [50051, 8080])
    assert (rest.pop("protocolVersions"), ports[1]) == (["v2"], [8080, 50051])
    assert grpc == rest


def test_the_service_names_a_runtime_that_is_there(
    manifests: dict[str, Manifest],
) -> None:
    model = manifests["InferenceService/wine"]["spec"]["predictor"]["model"]
    runtime = manifests[f"ServingRuntime/{model['runtime']}"]["spec"]

    assert model["protocolVersion"] in runtime["protocolVersions"]
    assert model["modelFormat"]["name"] in [
        form["name"] for form in runtime["supportedModelFormats"]
    ]


def test_a_pod_has_longer_to_end_than_the_server_takes(runtime: Manifest) -> None:
    (container,) = make_pod(runtime)["spec"]["containers"]

    settings = parse_command_line(container["args"], {}).settings

    assert settings.drain_seconds + settings.grace_seconds < 30
    assert settings.model_name == NAME
    assert str(settings.model_folder) == "/mnt/models"


def read_tree(folder: Path) -> dict[str, str]:
    """Return a digest of all that a folder holds, by path."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        )
        for path in folder.rglob("*")
    }


@pytest.mark.slow
def test_its_arguments_serve_a_read_only_folder_among_service_links(
    runtime: Manifest, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folder = write_artifact(tmp_path / "models" / "extra_files", logistic_artifact)
    (folder.parent / "MLmodel").write_text("flavors: {}")
    for path in (folder / "model.binpb", folder, folder.parent):
        path.chmod(0o555)
    before = read_tree(folder.parent)
    (container,) = make_pod(runtime)["spec"]["containers"]
    arguments = [
        a.replace("/mnt/models", str(folder.parent)) for a in container["args"]
    ]
    links = {
        "PREDICTION_SERVICE_HOST": "10.0.0.7",
        "PREDICTION_SERVICE_PORT": "80",
        "PREDICTION_PORT": "tcp://10.0.0.7:80",
        "PREDICTION_PORT_80_TCP": "tcp://10.0.0.7:80",
        "PREDICTION_PORT_80_TCP_ADDR": "10.0.0.7",
        "PREDICTION_PREDICTOR_PORT": "tcp://10.0.0.8:80",
    }
    free = ["--host=127.0.0.1", "--port=0", "--http-port=0", "--drain-seconds=0"]
    process = subprocess.Popen(
        [*COMMAND, *arguments, *free],
        cwd=ROOT,
        env={**os.environ, **links},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        events = {}
        for line in process.stdout:
            fields = json.loads(line)
            events[fields["event"]] = fields
            if fields["event"] == "serving":
                break
        assert events["Kubernetes' service links are not settings"]["variables"] == 6
        port = events["listening"]["http_port"]
        assert answers(f"http://127.0.0.1:{port}/health/ready")
    finally:
        process.terminate()
        process.communicate(timeout=60)
        for path in (folder.parent, folder):
            path.chmod(0o755)
    assert process.returncode == 0
    assert read_tree(folder.parent) == before
