"""Deploys an overlay to the cluster of the current kubectl context, and removes it again.

Knows the overlays' objects by label and kind; the manifests know everything else. It labels each
object that it creates, and removes only objects with that label. Runs on a bare Python, because
`make clean` may have no environment.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from images import (
    DOCKERFILES,
    ROOT,
    CommandError,
    Images,
    add_arguments,
    default_tag,
    run,
)
from kubectl import Cluster, find_cluster

LABEL = "app.kubernetes.io/managed-by=tabular-prediction-make"
# Kinds that hold trained models. Only DATA=1 removes them.
DATA_KINDS = ("persistentvolumeclaims", "namespaces")
KINDS = (
    "deployments.apps",
    "statefulsets.apps",
    "horizontalpodautoscalers.autoscaling",
    "poddisruptionbudgets.policy",
    "networkpolicies.networking.k8s.io",
    "podmonitors.monitoring.coreos.com",
    "services",
    "configmaps",
    "secrets",
    "serviceaccounts",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
)
SERVER = "deployment.apps/prediction-server"


def confirm(question: str, yes: bool) -> bool:
    """Ask on the terminal, unless the answer is given.

    Parameters
    ----------
    question : str
        The question.
    yes : bool
        Whether the answer is given, and is yes.

    Returns
    -------
    bool
        Whether the answer is yes.

    Raises
    ------
    CommandError
        If there is no terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise CommandError(f"{question} There is no terminal to ask on; YES=1 says yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def render(kubectl: str, overlay: Path, images: Images) -> str:
    """Build the manifests of an overlay, with the images of this build and the label.

    Parameters
    ----------
    kubectl : str
        Path of kubectl.
    overlay : Path
        Folder of the overlay.
    images : Images
        Names of the images.

    Returns
    -------
    str
        The manifests, as YAML.

    Raises
    ------
    CommandError
        If kubectl cannot build them.
    """
    plain = _kustomize(kubectl, overlay)
    with tempfile.TemporaryDirectory(prefix="deploy-") as folder:
        wrapper = _wrap(os.path.relpath(overlay, Path(folder).resolve()), plain, images)
        # JSON is YAML.
        Path(folder, "kustomization.yaml").write_text(json.dumps(wrapper))
        return _kustomize(kubectl, Path(folder))


def _kustomize(kubectl: str, folder: Path) -> str:
    command = [kubectl, "kustomize", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise CommandError(f"{folder} does not build: {result.stderr.strip()}")
    return result.stdout


def _wrap(resource: str, manifests: str, images: Images) -> dict[str, object]:
    """Return a kustomization around an overlay, so that the overlay itself stays unchanged."""
    # An overlay may have renamed the images, so they are found by the last part of the name.
    used = set(
        re.findall(r"^[ -]*image: ([^@\s]+?)(?:[:@][^/\s]*)?$", manifests, re.MULTILINE)
    )
    names = [name for name in sorted(used) if name.rpartition("/")[2] in DOCKERFILES]
    own = [images.reference(name.rpartition("/")[2]).rpartition(":") for name in names]
    key, _, value = LABEL.partition("=")
    return {
        "resources": [resource],
        "images": [
            {"name": name, "newName": new, "newTag": tag}
            for name, (new, _, tag) in zip(names, own, strict=True)
        ],
        "labels": [{"pairs": {key: value}}],
        "patches": [_version_patch(images.tag)],
    }


def _version_patch(tag: str) -> dict[str, object]:
    """Return a patch that labels only the server and its pods with the version."""
    label = "labels/app.kubernetes.io~1version"
    paths = [f"/metadata/{label}", f"/spec/template/metadata/{label}"]
    patch = [{"op": "add", "path": path, "value": tag} for path in paths]
    target = {"kind": "Deployment", "name": "prediction-server"}
    return {"target": target, "patch": json.dumps(patch)}


def deploy(overlay: Path, images: Images, yes: bool) -> None:
    """Apply an overlay to the current context, and wait until its workloads are ready."""
    cluster = find_cluster()
    manifests = render(cluster.kubectl, overlay, images)
    print(f"overlay  {os.path.relpath(overlay)}\nimages   {images.reference('*')}")
    print(f"context  {cluster.context} ({cluster.server})", flush=True)
    if not confirm("Deploy there?", yes):
        raise CommandError("nothing was deployed")
    with tempfile.NamedTemporaryFile("w", prefix="manifests-", suffix=".yaml") as file:
        file.write(manifests)
        file.flush()
        run(*cluster.command("apply", "--filename", file.name))
    namespace = find_namespace(cluster, overlay)
    for workload in _list_workloads(cluster, namespace):
        _wait_for(cluster, namespace, workload)


def find_namespace(cluster: Cluster, overlay: Path) -> str:
    """Return the namespace of an overlay, or that of the context if the overlay names none."""
    text = (overlay / "kustomization.yaml").read_text()
    match = re.search(r"^namespace: *(\S+)", text, re.MULTILINE)
    if match is not None:
        return match[1]
    path = "--output=jsonpath={..namespace}"
    return cluster.output("config", "view", "--minify", path) or "default"


def _list_workloads(cluster: Cluster, namespace: str) -> list[str]:
    kinds = "statefulsets,deployments"
    flags = ("--namespace", namespace, "--selector", LABEL, "--output=name")
    names = (cluster.output("get", kinds, *flags) or "").splitlines()
    # The server comes last, because it needs the others.
    return sorted(names, key=lambda name: (name == SERVER, name))


def _wait_for(cluster: Cluster, namespace: str, workload: str) -> None:
    # A server with a champion is ready within seconds. A server without one is never ready.
    seconds = 20 if workload == SERVER else 600
    flags = ("--namespace", namespace, f"--timeout={seconds}s")
    try:
        run(*cluster.command("rollout", "status", workload, *flags))
    except CommandError:
        if workload != SERVER or not _server_waits_for_model(cluster, namespace):
            raise
        print(
            "prediction-server runs and waits for a model: train one, and make it the champion"
        )


def _server_waits_for_model(cluster: Cluster, namespace: str) -> bool:
    """Tell whether the servers run without a model, which the deployment cannot change."""
    path = '{.items[*].status.containerStatuses[?(@.name=="server")].started}'
    selector = "app.kubernetes.io/name=prediction-server"
    flags = (
        "--namespace",
        namespace,
        "--selector",
        selector,
        f"--output=jsonpath={path}",
    )
    started = (cluster.output("get", "pods", *flags) or "").split()
    return bool(started) and all(word == "true" for word in started)


def delete(overlay: Path, yes: bool, data: bool) -> None:
    """Remove the objects that `deploy` created.

    Parameters
    ----------
    overlay : Path
        Folder of the overlay.
    yes : bool
        Whether to remove without asking.
    data : bool
        Whether to remove the namespace and the volumes too, with the trained models in them.
    """
    try:
        cluster = find_cluster()
    except CommandError as error:
        print(f"cluster: nothing removed, because {error}")
        return
    namespace = find_namespace(cluster, overlay)
    found = _list_made(cluster, namespace, KINDS + DATA_KINDS if data else KINDS)
    print(
        f"cluster: {len(found)} objects of ours in {namespace} of context {cluster.context}"
    )
    if found and _may_remove(found, yes):
        run(
            *cluster.command(
                "delete", "--namespace", namespace, "--ignore-not-found", *found
            )
        )
    kept = [] if data else _list_made(cluster, namespace, DATA_KINDS)
    if kept:
        print(f"cluster: kept {', '.join(kept)} (make clean DATA=1 removes them)")


def _may_remove(found: list[str], yes: bool) -> bool:
    try:
        return confirm("Remove " + ", ".join(found) + "?", yes)
    except CommandError as error:
        # Not a failure, because `make clean` has more to clean.
        print(f"cluster: nothing removed. {error}")
        return False


def _list_made(cluster: Cluster, namespace: str, kinds: tuple[str, ...]) -> list[str]:
    """Return KIND/NAME of the objects with our label, of kinds that the cluster knows."""
    known = (
        cluster.output("api-resources", "--verbs=delete", "--output=name") or ""
    ).split()
    # An older cluster has some kinds in other groups.
    kinds = tuple(kind for kind in kinds if kind in known)
    if not kinds:
        return []
    flags = ["--namespace", namespace, "--selector", LABEL, "--output=name"]
    names = (cluster.output("get", ",".join(kinds), *flags) or "").splitlines()
    # kubectl lists all namespaces; those of other overlays are not removed.
    other = [
        n for n in names if n.startswith("namespace/") and n != f"namespace/{namespace}"
    ]
    return [name for name in names if name not in other]


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="python k8s/deploy.py")
    parser.add_argument("action", choices=["apply", "delete"])
    parser.add_argument("--overlay", type=Path, default=ROOT / "k8s/overlays/local")
    add_arguments(parser)
    parser.add_argument("--yes", default="0", help="1 does not ask")
    parser.add_argument(
        "--data", default="0", help="1 also removes the namespace and the volumes"
    )
    given = parser.parse_args(arguments)
    try:
        if given.action == "apply":
            images = Images(given.prefix, given.tag or default_tag())
            deploy(given.overlay, images, given.yes == "1")
        else:
            delete(given.overlay, given.yes == "1", given.data == "1")
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
