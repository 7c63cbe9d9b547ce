"""The two images: the inputs of their builds, and how they run in their pods."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from images import find_tool
from sbom import read_debian_packages
from support import ROOT, lightgbm_artifact, wait_for, write_artifact

TAG = "test"
PREFIX = os.environ.get("IMAGE_PREFIX") or "localhost"
# The pod's security settings as flags.
HARDENED = [
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--cap-drop",
    "ALL",
    "--user",
    "10001:10001",
]
HARDENED += ["--security-opt", "no-new-privileges"]
# Packages of training, or dependencies of a package of which only the C library is used.
ABSENT_FROM_SERVING = {
    *(
        "alembic",
        "matplotlib",
        "metaflow",
        "mlflow",
        "narwhals",
        "pandas",
        "pip",
    ),
    "prediction-training",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "setuptools",
    "skops",
    "sqlalchemy",
}
LIST_PACKAGES = """
from importlib.metadata import distributions
print(*sorted({d.metadata["Name"].lower().replace("_", "-") for d in distributions()}))
"""


def requirements(*arguments: str) -> list[str]:
    """Return the output of the program that the builds call."""
    program = [sys.executable, str(ROOT / "k8s/image_requirements.py"), *arguments]
    return subprocess.run(
        program, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_the_requirements_are_those_of_setup_cfg_and_the_client() -> None:
    lines = requirements(
        "install_requires", "sync", "--without", "prediction-client", "lightgbm"
    )

    names = {line.split()[0].split(">")[0] for line in lines}
    assert names >= {
        "grpcio",
        "grpcio-status",
        "mlflow-skinny",
        "prometheus-client",
        "protobuf",
    }
    assert not names & {"lightgbm", "prediction-client", "black", "metaflow"}


def test_a_group_that_is_not_declared_fails() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        requirements("installs_require")


def make_program(folder: Path, name: str, *lines: str) -> None:
    """Write a program that replaces a tool of the user."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run_images(path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run k8s/images.py with only the tools of `path`, and git."""
    git = path / "git"
    if not git.exists():
        git.symlink_to(shutil.which("git") or "/usr/bin/git")
    return subprocess.run(
        [sys.executable, str(ROOT / "k8s/images.py"), *arguments],
        capture_output=True,
        text=True,
        env={"PATH": str(path)},
        stdin=subprocess.DEVNULL,
    )


ECHO = 'echo "$0" "$@" >> "$(/usr/bin/dirname "$0")/calls"'


def calls(path: Path) -> list[str]:
    """Return the command lines of the calls of programs in `path`."""
    return (path / "calls").read_text().replace(f"{path}/", "").splitlines()


def test_docker_without_its_daemon_gives_way_to_podman(tmp_path: Path) -> None:
    make_program(tmp_path, "docker", "exit 1")
    make_program(tmp_path, "podman", ECHO, "echo 1000000")

    result = run_images(tmp_path, "build", "--tag=t", "--flags=--network host")

    assert result.returncode == 0, result.stderr
    first = calls(tmp_path)[0]
    assert first.startswith("podman build ")
    assert "--tag localhost/prediction-server:t" in first
    assert first.endswith(f" --network host {ROOT}")
    assert "localhost/prediction-training:t: 1 MB" in result.stdout


def test_docker_with_its_daemon_is_taken(tmp_path: Path) -> None:
    make_program(tmp_path, "docker", ECHO, "echo 1000000")
    make_program(tmp_path, "podman", "exit 1")

    result = run_images(
        tmp_path, "push", "--prefix=registry.example.com/team", "--tag=t"
    )

    assert result.returncode == 0, result.stderr
    assert calls(tmp_path)[1:] == [
        "docker push registry.example.com/team/prediction-server:t",
        "docker push registry.example.com/team/prediction-training:t",
    ]


def test_without_a_container_tool_one_is_asked_for(tmp_path: Path) -> None:
    result = run_images(tmp_path, "build")

    assert result.returncode == 1
    assert result.stderr == (
        "error: neither docker (with its daemon) nor podman is here; install one\n"
    )


@pytest.mark.parametrize(
    ("context", "program", "words"),
    [
        ("kind-dev", "kind", "--name dev"),
        ("k3d-dev", "k3d", "--cluster dev"),
        ("minikube", "minikube", "--profile minikube image load"),
    ],
)
def test_without_a_registry_images_are_loaded_into_a_local_cluster(
    tmp_path: Path, context: str, program: str, words: str
) -> None:
    make_program(tmp_path, "podman", ECHO)
    make_program(tmp_path, "kubectl", f"echo {context}")
    make_program(tmp_path, "minikube", ECHO, 'echo "* minikube"')
    if program != "minikube":
        make_program(tmp_path, program, ECHO)

    result = run_images(tmp_path, "push", "--tag=t")

    assert result.returncode == 0, result.stderr
    loads = [
        line for line in calls(tmp_path) if words in line and line.startswith(program)
    ]
    assert len(loads) == 2


def test_without_a_registry_another_cluster_needs_one(tmp_path: Path) -> None:
    make_program(tmp_path, "podman", ECHO)
    make_program(tmp_path, "kubectl", "echo production")

    result = run_images(tmp_path, "push", "--tag=t")

    assert result.returncode == 1
    assert "'production' is none of kind, k3d or minikube" in result.stderr
    assert "make push IMAGE_PREFIX=registry.example.com/team" in result.stderr


def test_a_failed_build_fails(tmp_path: Path) -> None:
    make_program(tmp_path, "podman", "exit 7")

    result = run_images(tmp_path, "build", "--tag=t")

    assert result.returncode == 1
    assert "error: this failed: podman build" in result.stderr


@pytest.fixture(scope="module")
def tool() -> str:
    """Build both images, as `make images` does, and return the container tool."""
    flags = os.environ.get("IMAGE_BUILD_FLAGS", "")
    names = (f"TAG={TAG}", f"IMAGE_PREFIX={PREFIX}")
    subprocess.run(
        ["make", "images", *names, f"IMAGE_BUILD_FLAGS={flags}"],
        cwd=ROOT,
        check=True,
    )
    return find_tool()


def run_in(tool: str, image: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a hardened container of an image until it ends."""
    entry, *arguments = command
    container = [tool, "run", "--rm", *HARDENED, "--entrypoint", entry]
    return subprocess.run(
        [*container, f"{PREFIX}/{image}:{TAG}", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.images
@pytest.mark.timeout(1800)
def test_the_serving_image_has_only_what_serves(tool: str) -> None:
    result = run_in(tool, "prediction-server", "python", "-c", LIST_PACKAGES)

    packages = set(result.stdout.split())
    assert packages >= {
        "prediction-server",
        "prediction-client",
        "lightgbm",
        "mlflow-skinny",
    }
    # The base may have pip and setuptools, outside of the environment.
    assert not packages & ABSENT_FROM_SERVING


@pytest.mark.images
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("image", ["prediction-server", "prediction-training"])
def test_images_have_no_compiler_and_no_rights(tool: str, image: str) -> None:
    script = (
        "id -u; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status | tr -d '\\t'; "
        "command -v gcc cc make || echo none; touch /x 2>/dev/null || echo read-only"
    )

    lines = run_in(tool, image, "sh", "-c", script).stdout.split()

    expected = ["10001", "CapEff:0000000000000000", "NoNewPrivs:1", "none", "read-only"]
    assert lines == expected


@pytest.mark.images
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("image", ["prediction-server", "prediction-training"])
def test_images_cannot_install_anything_and_give_no_rights(
    tool: str, image: str
) -> None:
    """All layers: an image of a base without them, not one that hides them."""
    script = (
        "find / -xdev '(' -name 'pip*' -o -name 'apt-*' -o -name ensurepip -o -name 'dpkg-deb' ')' "
        "-path '*bin/*' -o -xdev -name pip -o -xdev -name ensurepip -o -xdev -name '*.whl' "
        "-o -xdev -type f -perm /6000; test -s /var/lib/dpkg/status && echo listed"
    )
    layers = ["image", "inspect", "--format", "{{len .RootFS.Layers}}"]

    found = run_in(tool, image, "sh", "-c", script).stdout.splitlines()
    count = subprocess.check_output(
        [tool, *layers, f"{PREFIX}/{image}:{TAG}"], text=True
    )

    assert found == ["listed"]
    assert int(count) <= 4


@pytest.mark.parametrize(
    ("file", "groups"),
    [
        ("grpc_server/requirements.txt", ("install_requires", "sync", "tracing")),
        ("flows/requirements.txt", ("training", "tracking")),
    ],
)
def test_an_image_installs_what_is_locked_with_hashes(
    file: str, groups: tuple[str, ...]
) -> None:
    locked, all_locked = read_lock(ROOT / file), read_lock(ROOT / "constraints.txt")

    asked_for = {
        re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower()
        for line in requirements(*groups, "--without", "prediction-client")
    }

    assert asked_for <= {name for name, _ in locked}
    assert all(hashes for hashes in locked.values())
    assert {key: all_locked[key] for key in locked} == locked


def read_lock(path: Path) -> dict[tuple[str, str], set[str]]:
    """Return the hashes of each name and version."""
    found: dict[tuple[str, str], set[str]] = {}
    hashes: set[str] = set()
    for line in path.read_text().splitlines():
        if line.startswith("    --hash=sha256:"):
            hashes.add(line.removeprefix("    --hash=sha256:").rstrip(" \\"))
        else:
            match = re.match(r"([A-Za-z0-9._-]+)==([^ ;]+)", line)
            assert match is not None, line
            hashes = found.setdefault((match[1], match[2]), set())
    return found


@pytest.mark.images
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("image", ["prediction-server", "prediction-training"])
def test_images_say_what_they_were_made_from(tool: str, image: str) -> None:
    words = ["image", "inspect", "--format", "{{json .Config.Labels}}"]
    output = subprocess.check_output(
        [tool, *words, f"{PREFIX}/{image}:{TAG}"], text=True
    )

    labels = json.loads(output)
    revision = subprocess.check_output(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, text=True
    )
    assert labels["org.opencontainers.image.title"] == image
    assert labels["org.opencontainers.image.revision"] == revision.strip()
    assert labels["org.opencontainers.image.version"] == "0.1.0"


STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2:2.36-9+deb12u10
Description: a library
 with a long: description

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
"""


def test_packages_of_debian_that_are_installed_are_components() -> None:
    (found,) = read_debian_packages(STATUS)

    assert (found["name"], found["version"]) == ("libc6", "2:2.36-9+deb12u10")
    assert found["purl"] == "pkg:deb/debian/libc6@2%3A2.36-9%2Bdeb12u10?arch=amd64"


@pytest.mark.images
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("image", ["prediction-server", "prediction-training"])
def test_the_sbom_has_the_packages_of_the_image(tool: str, image: str) -> None:
    names = (f"TAG={TAG}", f"IMAGE_PREFIX={PREFIX}")
    subprocess.run(["make", "sbom", *names], cwd=ROOT, check=True)
    packages = run_in(tool, image, "python", "-c", LIST_PACKAGES).stdout.split()

    document = json.loads((ROOT / f"build/sbom/{image}.json").read_text())

    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    urls = [component.get("purl", "") for component in document["components"]]
    python = {c["name"].lower().replace("_", "-") for c in document["components"]}
    assert set(packages) <= python
    assert any(url.startswith("pkg:deb/debian/libgomp1@") for url in urls)


@contextmanager
def serving(tool: str, model_dir: Path) -> Iterator[tuple[str, int]]:
    """Serve a model from a hardened container, and yield the container's name and port."""
    mount = ["--volume", f"{model_dir}:/models/current:ro", "--network", "host"]
    ports = ["--host", "127.0.0.1", "--port", "0", "--http-port", "0"]
    command = [
        tool,
        "run",
        "--detach",
        *HARDENED,
        *mount,
        f"{PREFIX}/prediction-server:{TAG}",
    ]
    name = subprocess.check_output([*command, *ports], text=True).strip()

    def logs() -> str:
        return subprocess.check_output([tool, "logs", name], text=True)

    try:
        wait_for(lambda: '"serving"' in logs())
        events = map(json.loads, logs().splitlines())
        (port,) = [e["port"] for e in events if e["event"] == "listening"]
        yield name, port
    finally:
        subprocess.run(
            [tool, "rm", "--force", name], check=True, stdout=subprocess.DEVNULL
        )


@pytest.mark.images
@pytest.mark.timeout(1800)
def test_the_serving_image_answers_as_the_trainer_and_ends_when_told(
    tool: str, tmp_path: Path
) -> None:
    artifact, rows, expected = lightgbm_artifact(3)
    folder = write_artifact(tmp_path / "model", artifact)
    # This machine does not know the container's user.
    for path in (tmp_path, folder, *folder.iterdir()):
        path.chmod(0o755)

    with serving(tool, folder) as (name, port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            reply = PredictionServiceStub(channel).Predict(
                PredictRequest(features=rows[1])
            )
        assert list(reply.probabilities) == list(expected[1])
        subprocess.run(
            [tool, "stop", "--time", "40", name], check=True, stdout=subprocess.DEVNULL
        )
        state = ["inspect", "--format", "{{.State.ExitCode}}", name]
        code = subprocess.check_output([tool, *state], text=True)

    # Process 1 is the server: it got SIGTERM, drained and ended by itself.
    assert code.strip() == "0"


@pytest.mark.images
@pytest.mark.timeout(1800)
def test_model_sync_runs_in_the_serving_image_and_names_a_registry_that_is_down(
    tool: str,
) -> None:
    program = ["python", "-m", "grpc_server.model_sync", "models:/a@champion"]
    script = (
        f"MLFLOW_TRACKING_URI=http://127.0.0.1:9 {' '.join(program)} --model-dir /tmp/m"
    )

    result = run_in(tool, "prediction-server", "sh", "-c", script)

    assert result.returncode == 1
    assert result.stderr.startswith("error: the registry at http://127.0.0.1:9: ")


@pytest.mark.images
@pytest.mark.timeout(1800)
def test_the_training_image_imports_what_the_steps_import(tool: str) -> None:
    modules = "boto3, lightgbm, metaflow, mlflow.sklearn, pandas, prediction.artifact, psycopg"

    result = run_in(
        tool, "prediction-training", "python", "-W", "ignore", "-c", f"import {modules}"
    )

    assert (result.returncode, result.stderr) == (0, "")
