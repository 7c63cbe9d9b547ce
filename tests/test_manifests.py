"""Every overlay and component of k8s/ builds, fits Kubernetes' schemas, and is consistent."""

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate.utils import all_versions

import grpc_server
from grpc_server.model_uri import ModelUri
from grpc_server.rpc.health import LIVENESS_NAMES, READINESS_NAMES
from grpc_server.settings import Settings, parse_command_line

from support import ROOT

Manifest = dict[str, Any]

K8S = ROOT / "k8s"
KUBECTL = Path(sys.executable).parent / "kubectl"
OVERLAYS = ["base", "overlays/local", "overlays/production"]
HTTPS = (
    "components/envoy-json",
    "components/prometheus-annotations",
    "components/tls",
    "components/envoy-json/tls",
    "components/prometheus-annotations/tls",
)
PART_OF_PRODUCTION = {"components/envoy-json", "components/prometheus-annotations"}
OPERATOR = (
    "components/prometheus-operator",
    "components/prometheus-operator/tls",
    "components/prometheus-operator/tokens",
)
# Each component alone, and the combinations for clusters before 1.29 and 1.24, in this order.
COMBINATIONS = [
    ("components/canary",),
    ("components/envoy-json",),
    ("components/http-probes",),
    ("components/model-from-config-map",),
    ("components/monitoring",),
    ("components/plain-sidecar",),
    ("components/prediction-log",),
    ("components/prometheus-annotations",),
    ("components/prometheus-operator",),
    ("components/signed-models",),
    ("components/tls",),
    (*HTTPS, *OPERATOR, "components/tokens", "components/signed-models"),
    ("components/plain-sidecar", *HTTPS, "components/envoy-json/plain-sidecar"),
    ("components/plain-sidecar", "components/http-probes"),
    (
        "components/plain-sidecar",
        "components/envoy-json",
        "components/envoy-json/plain-sidecar",
        "components/prometheus-annotations",
        "components/prometheus-operator",
    ),
]
# Custom resources, whose schemas are not Kubernetes'. They are checked by hand below.
WITHOUT_SCHEMA = {"PodMonitor", "PrometheusRule", "GRPCRoute"}
NEWEST = sorted(set(all_versions()), key=lambda v: [int(n) for n in v.split(".")])[-3:]
# Its pods are Metaflow's.
STEPS = "training-step"
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
STABLE_LABELS = {"app.kubernetes.io/name", "app.kubernetes.io/component"}


@cache
def build(folder: Path) -> list[Manifest]:
    """Build a folder with kustomize."""
    result = subprocess.run(
        [KUBECTL, "kustomize", str(folder)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    # kustomize warns of deprecated fields, which a later version removes.
    assert result.stderr == ""
    return [item for item in yaml.load_all(result.stdout, yaml.CSafeLoader) if item]


@cache
def build_with(components: tuple[str, ...], on: str = "base") -> list[Manifest]:
    """Build the base, or an overlay, with components."""
    with tempfile.TemporaryDirectory() as folder:
        # kustomize accepts no absolute path.
        up = Path(os.path.relpath(K8S, Path(folder).resolve()))
        kustomization = {
            "resources": [str(up / on)],
            "components": [str(up / component) for component in components],
        }
        # JSON is YAML.
        Path(folder, "kustomization.yaml").write_text(json.dumps(kustomization))
        return build(Path(folder))


@pytest.fixture(
    params=[*OVERLAYS, *COMBINATIONS],
    ids=lambda p: "+".join([p] if isinstance(p, str) else p),
)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    if isinstance(request.param, str):
        return build(K8S / request.param)
    return build_with(request.param)


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Return the name and the pod's specification of each workload."""
    for item in manifests:
        if item["kind"] in WORKLOADS:
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Return the full name and the specification of each container."""
    for name, spec in pod_specs(manifests):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield f"{name}/{container['name']}", container


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the object of a kind whose name is `name`, or was before its hash."""
    found = [
        item
        for item in manifests
        if item["kind"] == kind
        and re.fullmatch(re.escape(name) + "(-[a-z0-9]{10})?", item["metadata"]["name"])
    ]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def server(manifests: list[Manifest]) -> Manifest:
    """Return the server's container."""
    return dict(containers(manifests))["prediction-server/server"]


def selects(labels: dict[str, str], manifests: list[Manifest]) -> list[Manifest]:
    """Return the workloads whose pods have the labels."""
    return [
        item
        for item in manifests
        if item["kind"] in WORKLOADS
        and labels.items() <= item["spec"]["template"]["metadata"]["labels"].items()
    ]


def port_names(workload: Manifest) -> set[str | int]:
    """Return names and numbers of the ports of a workload's containers."""
    spec = workload["spec"]["template"]["spec"]
    found = [
        c.get("ports", [])
        for c in [*spec.get("initContainers", []), *spec["containers"]]
    ]
    ports = [port for ports in found for port in ports]
    return {value for p in ports for value in (p["name"], p["containerPort"])}


def bytes_of(quantity: str) -> float:
    """Return a Kubernetes quantity as a number."""
    match = re.fullmatch(r"(\d+)(m|Ki|Mi|Gi)?", quantity)
    assert match is not None, f"{quantity!r} is no quantity"
    return (
        int(match[1])
        * {None: 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[match[2]]
    )


def test_all_folders_are_tested() -> None:
    tested = {*OVERLAYS, *(name for names in COMBINATIONS for name in names)}
    # Tested with the flow and on a real cluster, and in a file of its own.
    elsewhere = {"components/metaflow", "components/kserve"}

    folders = {
        str(path.parent.relative_to(K8S))
        for pattern in ("base", "overlays/*", "components/*", "components/*/*")
        for path in K8S.glob(f"{pattern}/kustomization.yaml")
    }

    assert folders - elsewhere == tested


@pytest.mark.parametrize("version", NEWEST)
def test_the_manifests_fit_the_schemas_of_the_three_newest_versions(
    manifests: list[Manifest], version: str
) -> None:
    checked = [item for item in manifests if item["kind"] not in WITHOUT_SCHEMA]

    for item in checked:
        kubernetes_validate.validate(item, version, strict=True)

    assert len(checked) >= 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda spec: spec.update(enableServiceLink=False), "enableServiceLink"),
        (
            lambda spec: spec["containers"][0].update(readynessProbe={}),
            "readynessProbe",
        ),
        (
            lambda spec: spec["containers"][0]["livenessProbe"]["grpc"].update(
                port="grpc"
            ),
            "port",
        ),
    ],
    ids=["misspelt", "misspelt probe", "name for a number"],
)
def test_the_schema_check_sees_what_is_wrong(
    change: Callable[[Manifest], None], words: str
) -> None:
    deployment = json.loads(
        json.dumps(find(build(K8S / "base"), "Deployment", "prediction-server"))
    )

    change(deployment["spec"]["template"]["spec"])

    with pytest.raises(kubernetes_validate.ValidationError, match=words):
        kubernetes_validate.validate(deployment, NEWEST[-1], strict=True)


def test_pods_are_hardened(manifests: list[Manifest]) -> None:
    for name, spec in pod_specs(manifests):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0 and security["runAsGroup"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        # Otherwise the server would read the variables of Services as settings.
        assert spec["enableServiceLinks"] is False, name
        account = find(manifests, "ServiceAccount", spec["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False, name
    for name, container in containers(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name


def test_containers_have_requests_and_limits(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        requests, limits = (
            container["resources"][key] for key in ("requests", "limits")
        )
        for resource in ("cpu", "memory"):
            low, high = bytes_of(requests[resource]), bytes_of(limits[resource])
            assert 0 < low <= high, f"{name} {resource}"


def test_volumes_on_the_node_are_bounded(manifests: list[Manifest]) -> None:
    for name, spec in pod_specs(manifests):
        for volume in spec.get("volumes", []):
            assert volume.get("emptyDir", {"sizeLimit": 1}).get(
                "sizeLimit"
            ), f"{name} {volume}"


def test_images_are_named_with_a_tag_or_digest_that_does_not_move(
    manifests: list[Manifest],
) -> None:
    for name, container in containers(manifests):
        image = container["image"]
        assert re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", image), f"{name} {image}"
        assert not image.endswith(":latest"), f"{name} {image}"


def test_probes_ask_for_what_the_server_registers(manifests: list[Manifest]) -> None:
    container = server(manifests)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    names = {
        "startupProbe": LIVENESS_NAMES,
        "livenessProbe": LIVENESS_NAMES,
        "readinessProbe": READINESS_NAMES,
    }
    paths = {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }

    for kind in names:
        probe = container[kind]
        if "grpc" in probe:
            assert probe["grpc"]["port"] == ports.get("grpc-health", ports["grpc"])
            assert probe["grpc"]["service"] in names[kind]
        else:
            assert probe["httpGet"] == {"port": "http-metrics", "path": paths[kind]}


def test_a_busy_server_has_a_minute_before_it_is_restarted(
    manifests: list[Manifest],
) -> None:
    probe = server(manifests)["livenessProbe"]

    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


def effective_settings(manifests: list[Manifest]) -> Settings:
    """Return the settings that the server's container starts with."""
    (source,) = server(manifests)["envFrom"]
    config_map = find(manifests, "ConfigMap", source["configMapRef"]["name"])
    return parse_command_line(
        server(manifests).get("args", []), config_map["data"]
    ).settings


def test_the_settings_are_ones_that_the_server_takes(manifests: list[Manifest]) -> None:
    settings = effective_settings(manifests)
    ports = {port["name"]: port["containerPort"] for port in server(manifests)["ports"]}

    assert settings.wait_for_model
    assert (settings.port, settings.http_port) == (ports["grpc"], ports["http-metrics"])
    mounts = [mount["mountPath"] for mount in server(manifests)["volumeMounts"]]
    assert any(settings.model_folder.is_relative_to(mount) for mount in mounts)


def test_a_pod_has_longer_to_end_than_the_server_takes(
    manifests: list[Manifest],
) -> None:
    settings = effective_settings(manifests)
    spec = dict(pod_specs(manifests))["prediction-server"]

    assert "lifecycle" not in server(manifests)
    longest = settings.drain_seconds + settings.grace_seconds
    assert spec["terminationGracePeriodSeconds"] >= longest + 5


def test_no_connection_outlives_the_draining(manifests: list[Manifest]) -> None:
    """gRPC varies the age by a tenth. The stop may lose a call on a connection that is left."""
    settings = effective_settings(manifests)

    assert 0 < settings.max_connection_age_seconds * 1.1 < settings.drain_seconds


def test_signed_models_take_their_keys_and_their_name_from_a_config_map() -> None:
    container = server(build_with(("components/signed-models",)))
    variables = {item["name"]: item for item in container["env"]}
    given = {name: item.get("value", "churn") for name, item in variables.items()}
    trust = parse_command_line([], given).settings.trust

    assert trust is not None and trust.model_name == "churn"
    mounts = {m["name"]: Path(m["mountPath"]) for m in container["volumeMounts"]}
    assert trust.keys_file.parent == mounts["trusted-keys"]
    name = variables["PREDICTION_SIGNED_MODEL_NAME"]["valueFrom"]["configMapKeyRef"]
    assert name == {"name": "trusted-keys", "key": "model-name"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_model_sync_fetches_into_the_folder_that_the_server_reads(overlay: str) -> None:
    manifests = build(K8S / overlay)
    sync = dict(containers(manifests))["prediction-server/model-sync"]
    values = find(manifests, "ConfigMap", "model-sync")["data"]

    uri, folder, interval = [
        re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], word)
        for word in sync["args"]
    ]

    assert ModelUri.parse(uri).name
    assert folder == f"--model-dir={effective_settings(manifests).model_dir}"
    assert float(interval.removeprefix("--interval-seconds=")) > 0
    assert sync["restartPolicy"] == "Always"
    assert sync["image"] == server(manifests)["image"]


def test_without_native_sidecars_model_sync_is_a_container() -> None:
    manifests = build_with(("components/plain-sidecar",))

    spec = dict(pod_specs(manifests))["prediction-server"]

    assert [c["name"] for c in spec["containers"]] == ["server", "model-sync"]
    assert spec["initContainers"] == []
    assert all("restartPolicy" not in c for c in spec["containers"])


def test_services_lead_to_ports_of_pods(manifests: list[Manifest]) -> None:
    for service in (item for item in manifests if item["kind"] == "Service"):
        (workload,) = selects(service["spec"]["selector"], manifests)
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in port_names(workload), service["metadata"][
                "name"
            ]


def test_selectors_are_of_stable_labels_and_match(manifests: list[Manifest]) -> None:
    for item in manifests:
        if item["kind"] in WORKLOADS | {"PodDisruptionBudget", "PodMonitor"}:
            labels = item["spec"]["selector"]["matchLabels"]
            assert labels.keys() <= STABLE_LABELS, item["metadata"]["name"]
            assert len(selects(labels, manifests)) == 1, item["metadata"]["name"]
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] != STEPS:
            assert selects(item["spec"]["podSelector"]["matchLabels"], manifests)


def test_the_autoscaler_scales_the_deployment_and_nothing_else_does(
    manifests: list[Manifest],
) -> None:
    autoscaler = find(manifests, "HorizontalPodAutoscaler", "prediction-server")
    deployment = find(manifests, "Deployment", "prediction-server")

    target = autoscaler["spec"]["scaleTargetRef"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]
    for metric in autoscaler["spec"]["metrics"]:
        container = metric.get("containerResource", {}).get("container", "server")
        assert container == "server"


def test_every_pod_is_denied_what_is_not_allowed(manifests: list[Manifest]) -> None:
    policy = find(manifests, "NetworkPolicy", "tabular-prediction-default-deny")

    assert sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"]
    assert not policy["spec"].keys() & {"ingress", "egress"}
    denied = selects(policy["spec"]["podSelector"]["matchLabels"], manifests)
    assert len(denied) == len(list(pod_specs(manifests)))


def references(value: Any) -> Iterator[tuple[str, str]]:
    """Return kind and name of the ConfigMaps and Secrets that a specification asks for."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            kind = {
                "configMapRef": "ConfigMap",
                "configMap": "ConfigMap",
                "secretRef": "Secret",
            }
            if key in kind and not item.get("optional"):
                yield kind[key], item["name"]
            else:
                yield from references(item)


def test_what_pods_refer_to_is_there(manifests: list[Manifest]) -> None:
    there = {(item["kind"], item["metadata"]["name"]) for item in manifests}
    asked_for = {ref for _, spec in pod_specs(manifests) for ref in references(spec)}

    # Users create these by hand, as the component says.
    by_hand = {
        ("ConfigMap", "prediction-model"),
        ("ConfigMap", "trusted-keys"),
        ("Secret", "prediction-model"),
    }
    assert asked_for - there <= by_hand


def test_objects_have_the_recommended_labels(manifests: list[Manifest]) -> None:
    for item in manifests:
        if (
            item["kind"] in ("Namespace", "Secret")
            or "envoy" in item["metadata"]["name"]
        ):
            continue
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "tabular-prediction"
        assert labels.keys() >= STABLE_LABELS, item["metadata"]["name"]


@pytest.mark.parametrize("overlay", ["base", "overlays/production"])
def test_no_secret_is_in_git_but_those_of_the_local_overlay(overlay: str) -> None:
    assert not [item for item in build(K8S / overlay) if item["kind"] == "Secret"]


def test_local_secrets_say_that_they_are_of_no_worth() -> None:
    secrets = [
        item for item in build(K8S / "overlays/local") if item["kind"] == "Secret"
    ]

    assert len(secrets) == 6
    assert all(
        "bG9jYWwtb25seQ==" in str(s) or "local-only" in decode(s) for s in secrets
    )


def decode(secret: Manifest) -> str:
    """Return the values of a Secret."""
    return " ".join(
        base64.b64decode(value).decode() for value in secret["data"].values()
    )


def test_production_does_not_describe_itself_to_everybody() -> None:
    maps = [m for m in build(K8S / "overlays/production") if m["kind"] == "ConfigMap"]
    settings = [m["data"] for m in maps if "PREDICTION_MODEL_DIR" in m["data"]]
    assert [found["PREDICTION_REFLECTION"] for found in settings] == ["false"]


def test_production_names_images_by_digest() -> None:
    images = [c["image"] for name, c in containers(build(K8S / "overlays/production"))]

    own = [image for image in images if "prediction-" in image]
    assert own and all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in own)


def test_the_base_names_the_image_of_this_version() -> None:
    image = server(build(K8S / "base"))["image"]

    assert image == f"prediction-server:{grpc_server.__version__}"


def test_prometheus_finds_the_metrics() -> None:
    names = ("components/prometheus-annotations", "components/prometheus-operator")
    manifests = build_with(names)
    ports = {port["name"]: port["containerPort"] for port in server(manifests)["ports"]}

    deployment = find(manifests, "Deployment", "prediction-server")
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    (endpoint,) = find(manifests, "PodMonitor", "prediction-server")["spec"][
        "podMetricsEndpoints"
    ]

    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == str(ports["http-metrics"])
    assert annotations["prometheus.io/path"] == "/metrics"
    assert endpoint == {"port": "http-metrics", "path": "/metrics", "interval": "15s"}


def peers(rule: Manifest, side: str) -> set[str]:
    """Return who a rule of a NetworkPolicy names, each by its last label."""
    selectors = [
        [*peer.get("podSelector", {}).get("matchLabels", {}).items()]
        or [*peer.get("namespaceSelector", {}).get("matchLabels", {}).items()]
        for peer in rule[side]
    ]
    return {
        f"{key.rpartition('/')[2]}={value}" for one in selectors for key, value in one
    }


def allowed(policy: Manifest, kind: str) -> dict[str | int, set[str]]:
    """Return who may be reached, or may call, by port."""
    side = {"ingress": "from", "egress": "to"}[kind]
    found: dict[str | int, set[str]] = {}
    for rule in policy["spec"].get(kind, []):
        for port in rule["ports"]:
            found.setdefault(port["port"], set()).update(peers(rule, side))
    return found


def test_network_policies_name_every_peer(manifests: list[Manifest]) -> None:
    """No rule is for everybody: an empty selector, or a rule without peers or ports, would be."""
    policies = [item for item in manifests if item["kind"] == "NetworkPolicy"]
    for policy in policies:
        for kind, side in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(kind, []):
                assert rule["ports"] and rule[side], policy["metadata"]["name"]
                for peer in rule[side]:
                    assert all(peer.values()), policy["metadata"]["name"]


def test_each_pod_reaches_and_is_reached_by_those_that_it_needs() -> None:
    manifests = build(K8S / "overlays/local")
    policy = {
        name: find(manifests, "NetworkPolicy", name)
        for name in ("prediction-server", "mlflow", "s3", "postgresql", STEPS)
    }
    dns, callers = {"k8s-app=kube-dns"}, {"caller=true", "callers=true"}

    assert allowed(policy["prediction-server"], "ingress") == {
        "grpc": callers,
        8000: callers,
        "http-metrics": {"scraper=true", "scrapers=true"},
    }
    assert allowed(policy["prediction-server"], "egress") == {
        53: dns,
        5000: {"name=mlflow"},
    }
    assert allowed(policy[STEPS], "ingress") == {}
    assert allowed(policy[STEPS], "egress") == {
        53: dns,
        5000: {"name=mlflow"},
        8080: {"name=metaflow-metadata"},
        8333: {"name=s3"},
    }
    assert allowed(policy["mlflow"], "ingress") == {
        "http": {"name=prediction-server", "name=metaflow-task"}
    }
    assert allowed(policy["s3"], "ingress") == {
        "http-s3": {"name=mlflow", "name=metaflow-task"}
    }
    assert allowed(policy["postgresql"], "ingress") == {"postgresql": {"name=mlflow"}}


def test_a_server_without_model_sync_calls_nobody() -> None:
    manifests = build_with(("components/model-from-config-map",))
    policy = find(manifests, "NetworkPolicy", "prediction-server")

    assert "Egress" in policy["spec"]["policyTypes"]
    assert "egress" not in policy["spec"]


SECURE = tuple(part for part in HTTPS if part not in PART_OF_PRODUCTION)


@pytest.mark.parametrize("has_keys", [False, True], ids=["any", "signed"])
@pytest.mark.parametrize("has_operator", [False, True], ids=["annotated", "operator"])
@pytest.mark.parametrize("has_tokens", [False, True], ids=["open", "tokens"])
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
def test_the_components_of_security_go_together_in_production(
    has_tls: bool, has_tokens: bool, has_operator: bool, has_keys: bool
) -> None:
    chosen = [
        *(SECURE if has_tls else ()),
        *(("components/tokens",) if has_tokens else ()),
        *(OPERATOR[:1] if has_operator else ()),
        *(OPERATOR[1:2] if has_operator and has_tls else ()),
        *(OPERATOR[2:] if has_operator and has_tokens else ()),
        *(("components/signed-models",) if has_keys else ()),
    ]

    manifests = build_with(tuple(chosen), on="overlays/production")
    settings = effective_settings(manifests)
    for item in manifests:
        if item["kind"] not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(item, NEWEST[-1], strict=True)

    assert settings.reflection is False
    assert (settings.tls_client_ca is not None) == has_tls
    assert (settings.tokens_file is not None) == has_tokens
    names = {variable["name"] for variable in server(manifests).get("env", [])}
    assert ("PREDICTION_TRUSTED_KEYS" in names) == has_keys
    assert files_are_mounted(manifests, "prediction-server/server", settings)
    for wanted, key in ((has_tls, "tlsConfig"), (has_tokens, "authorization")):
        if has_operator:
            monitor = find(manifests, "PodMonitor", "prediction-server")
            (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
            assert (key in endpoint) == wanted


def files_are_mounted(manifests: list[Manifest], name: str, settings: Settings) -> bool:
    """Return whether a container has the folders of all files that its settings name."""
    mounts = {m["mountPath"] for m in dict(containers(manifests))[name]["volumeMounts"]}
    files = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    given = [file for file in (*files, settings.tokens_file) if file is not None]
    return all(str(file.parent) in mounts for file in given)


def test_envoy_and_the_scrapers_use_tls_where_the_server_does() -> None:
    manifests = build_with((*HTTPS, *OPERATOR))
    envoy = dict(containers(manifests))["prediction-server/envoy"]
    files = find(manifests, "ConfigMap", "envoy-json")["data"]
    service = find(manifests, "Service", "prediction-server")["spec"]["ports"]
    deployment = find(manifests, "Deployment", "prediction-server")
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    (endpoint,) = find(manifests, "PodMonitor", "prediction-server")["spec"][
        "podMetricsEndpoints"
    ]

    names = [name for name, _ in containers(manifests)]
    descriptor = names.index("prediction-server/envoy-descriptor-set")
    assert descriptor < names.index("prediction-server/envoy")
    mounts = {item["mountPath"] for item in envoy["volumeMounts"]}
    assert mounts >= {"/tls", "/etc/envoy"}
    named = re.findall(r"path: /etc/envoy/([\w.-]+)", files["envoy.yaml"])
    assert set(named) == files.keys() - {"envoy.yaml"}
    for kind in ("readinessProbe", "livenessProbe"):
        assert envoy[kind]["httpGet"] == {
            "port": "http-health",
            "path": "/health/envoy",
        }
    protocols = {item["port"]: item["appProtocol"] for item in service}
    assert protocols == {8000: "https", 8080: "https", 50051: "grpc"}
    assert annotations["prometheus.io/scheme"] == endpoint["scheme"] == "https"
    assert endpoint["authorization"]["credentials"]["key"] == "token"
    tls = endpoint["tlsConfig"]
    secrets = [tls["ca"]["secret"], tls["cert"]["secret"], tls["keySecret"]]
    assert [item["key"] for item in secrets] == ["ca.crt", "tls.crt", "tls.key"]
    assert {item["name"] for item in secrets} == {"prediction-scraper-tls"}


@pytest.mark.parametrize(
    "path", sorted(K8S.rglob("*.yaml")), ids=lambda p: str(p.relative_to(K8S))
)
def test_a_file_of_manifests_has_one_kind(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))

    kinds = {
        item["kind"] for item in documents if isinstance(item, dict) and "kind" in item
    }

    assert len(kinds) <= 1


def test_the_canarys_pods_are_the_champions_but_for_their_model() -> None:
    manifests = build_with(("components/canary",))
    ours = find(manifests, "Deployment", "prediction-server-canary")["spec"]
    theirs = find(manifests, "Deployment", "prediction-server")["spec"]
    written = json.dumps(theirs, sort_keys=True)
    written = written.replace(
        '"app.kubernetes.io/component": "server"',
        '"app.kubernetes.io/component": "canary"',
    )
    assert ours.pop("replicas") == 1
    names = [
        find(manifests, "ConfigMap", name)["metadata"]["name"]
        for name in ("model-sync", "model-sync-canary")
    ]

    assert json.dumps(ours, sort_keys=True) == written.replace(*names)


def test_the_route_shares_calls_out_between_services_that_are_there() -> None:
    manifests = build_with(("components/canary",))
    (rule,) = find(manifests, "GRPCRoute", "prediction-server")["spec"]["rules"]
    uri = find(manifests, "ConfigMap", "model-sync-canary")["data"]["MODEL_URI"]

    ports = {
        (item["metadata"]["name"], port["port"])
        for item in manifests
        if item["kind"] == "Service"
        for port in item["spec"]["ports"]
        if port["name"] == "grpc"
    }
    backends = rule["backendRefs"]
    assert {(b["name"], b["port"]) for b in backends} <= ports
    assert sum(backend["weight"] for backend in backends) == 100
    (match,) = rule["matches"]
    assert match["method"]["service"] == "prediction.v1.PredictionService"
    assert ModelUri.parse(uri).alias == "challenger"
