"""`k8s/deploy.py` with a scripted kubectl: its questions, and the objects that it leaves alone.

The manifests are built by the real one; test_cluster.py has the real cluster.
"""

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy import KINDS, LABEL, render
from images import Images
from support import ROOT

REAL = Path(sys.executable).parent / "kubectl"
OVERLAY = ROOT / "k8s/overlays/local"


def make_kubectl(folder: Path, *cases: str) -> Path:
    """Write a kubectl that answers by the cases of a shell script, and notes its arguments."""
    path = folder / "kubectl"
    lines = ["#!/bin/sh", f'echo "$@" >> "{folder}/calls"', 'case "$*" in', *cases]
    lines += [f'*kustomize*) exec "{REAL}" "$@";;', "*current-context*) echo dev;;"]
    lines += ["*server}*) echo https://dev.example.com;;", "esac", ""]
    path.write_text("\n".join(lines))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def run(
    folder: Path, *arguments: str, answer: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the program, without a terminal or with one on which `answer` is typed."""
    command = [sys.executable, str(ROOT / "k8s/deploy.py"), *arguments]
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    if answer is None:
        nobody = subprocess.DEVNULL
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, stdin=nobody
        )
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode() + b"\n")
    try:
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, stdin=theirs
        )
    finally:
        os.close(ours)
        os.close(theirs)


def calls(folder: Path) -> str:
    """Return the arguments of each call of kubectl."""
    return (folder / "calls").read_text()


def test_a_deployment_names_the_context_and_asks(tmp_path: Path) -> None:
    make_kubectl(tmp_path)

    result = run(tmp_path, "apply", "--tag=t", answer="n")

    assert "context  dev (https://dev.example.com)" in result.stdout
    assert "Deploy there? [y/N]" in result.stdout
    assert result.returncode == 1
    assert "error: nothing was deployed" in result.stderr
    assert "apply" not in calls(tmp_path)


def test_a_yes_deploys(tmp_path: Path) -> None:
    make_kubectl(tmp_path)

    result = run(tmp_path, "apply", "--tag=t", answer="y")

    assert result.returncode == 0, result.stderr
    assert "--context dev apply --filename" in calls(tmp_path)


def test_without_a_terminal_the_answer_has_to_be_given(tmp_path: Path) -> None:
    make_kubectl(tmp_path)

    result = run(tmp_path, "apply", "--tag=t")

    assert result.returncode == 1
    assert "YES=1 says yes" in result.stderr
    assert "apply" not in calls(tmp_path)
    assert run(tmp_path, "apply", "--tag=t", "--yes=1").returncode == 0


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("*current-context*) exit 1;;", "kubectl has no current context"),
        ("*--raw=/version*) exit 1;;", "does not answer"),
    ],
    ids=["no context", "no cluster"],
)
def test_without_a_cluster_nothing_is_deployed_and_cleaning_is_no_fault(
    tmp_path: Path, case: str, words: str
) -> None:
    make_kubectl(tmp_path, case)

    applied = run(tmp_path, "apply", "--tag=t", "--yes=1")
    deleted = run(tmp_path, "delete", "--yes=1")

    assert (applied.returncode, words in applied.stderr) == (1, True)
    assert (deleted.returncode, deleted.stderr) == (0, "")
    assert words in deleted.stdout


FOUND = [
    '*api-resources*) echo "deployments.apps persistentvolumeclaims namespaces configmaps";;',
    "*' get deployments.apps,configmaps --'*) echo deployment.apps/prediction-server;;",
    "*' get persistentvolumeclaims,namespaces --'*)"
    " echo persistentvolumeclaim/s3; echo namespace/other; echo namespace/prediction;;",
    "*' get '*) echo deployment.apps/prediction-server; echo persistentvolumeclaim/s3;;",
]


def test_cleaning_asks_and_keeps_volumes_and_the_namespace(tmp_path: Path) -> None:
    make_kubectl(tmp_path, *FOUND)

    result = run(tmp_path, "delete", answer="y")

    assert "Remove deployment.apps/prediction-server? [y/N]" in result.stdout
    assert "kept persistentvolumeclaim/s3, namespace/prediction" in result.stdout
    (deleted,) = [line for line in calls(tmp_path).splitlines() if " delete " in line]
    assert deleted.endswith(
        "delete --namespace prediction --ignore-not-found deployment.apps/prediction-server"
    )


def test_cleaning_removes_nothing_without_a_yes_and_is_no_fault(tmp_path: Path) -> None:
    make_kubectl(tmp_path, *FOUND)

    without_terminal = run(tmp_path, "delete")
    refused = run(tmp_path, "delete", answer="")

    assert (without_terminal.returncode, refused.returncode) == (0, 0)
    assert "YES=1 says yes" in without_terminal.stdout
    assert " delete " not in calls(tmp_path)


def test_data_removes_volumes_as_well(tmp_path: Path) -> None:
    make_kubectl(tmp_path, *FOUND)

    run(tmp_path, "delete", "--yes=1", "--data=1")

    (deleted,) = [line for line in calls(tmp_path).splitlines() if " delete " in line]
    assert "persistentvolumeclaim/s3" in deleted


@pytest.mark.parametrize("overlay", ["local", "production"])
def test_what_is_deployed_has_the_label_the_images_and_the_version(
    overlay: str,
) -> None:
    images = Images("registry.example.com/team", "v7")

    manifests = render(str(REAL), ROOT / "k8s/overlays" / overlay, images)

    key, _, value = LABEL.partition("=")
    for item in yaml.safe_load_all(manifests):
        labels = item["metadata"]["labels"]
        assert labels[key] == value
        is_server = item["metadata"]["name"] == "prediction-server"
        if item["kind"] == "Deployment":
            template = item["spec"]["template"]
            used = {c["image"] for c in template["spec"]["containers"]}
            own = "prediction-server" if is_server else "prediction-training"
            assert f"registry.example.com/team/{own}:v7" in used
            # Selectors cannot change, so the label must not be in them.
            assert key not in item["spec"]["selector"]["matchLabels"]
            has_version = "app.kubernetes.io/version" in template["metadata"]["labels"]
            assert has_version == is_server


def test_cleaning_looks_for_every_kind_that_is_deployed() -> None:
    plurals = {kind.partition(".")[0] for kind in KINDS}
    plurals |= {"namespaces", "persistentvolumeclaims"}

    for overlay in ("local", "production"):
        built = subprocess.check_output(
            [REAL, "kustomize", ROOT / "k8s/overlays" / overlay], text=True
        )
        for item in yaml.safe_load_all(built):
            kind = item["kind"].lower()
            assert kind + "s" in plurals or kind[:-1] + "ies" in plurals


def test_an_overlay_that_does_not_build_is_named(tmp_path: Path) -> None:
    make_kubectl(tmp_path)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text("resources: [missing.yaml]")

    result = run(tmp_path, "apply", "--tag=t", "--yes=1", f"--overlay={overlay}")

    assert result.returncode == 1
    assert "does not build" in result.stderr and "missing.yaml" in result.stderr
