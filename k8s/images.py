"""Builds, names and hands on the two images, with docker or podman.

Knows container tools and git; refuses to know manifests, and flags that only one machine needs:
those come from the caller. Runs on a bare Python, since `make` may be given no environment yet.
"""

import argparse
import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILES = {
    "prediction-server": "grpc_server/Dockerfile",
    "prediction-training": "flows/Dockerfile",
}
LOCAL_PREFIX = "localhost"
"""Prefix that names no registry: such images are loaded into a local cluster, not pushed."""

# What an image is made of; a change elsewhere gives no other image.
_SOURCES = (
    "clients/python",
    "constraints.txt",
    "flows/Dockerfile",
    "grpc_server",
    "setup.cfg",
)


class CommandError(Exception):
    """Something that the caller has to change; its text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Images:
    """What the images are called: PREFIX/NAME:TAG."""

    prefix: str
    tag: str

    def reference(self, name: str) -> str:
        """Return the full name of an image."""
        return f"{self.prefix}/{name}:{self.tag}"


def run(*command: str) -> None:
    """Say and run a command.

    Raises
    ------
    CommandError
        If it fails; what it says has been shown.
    """
    print("+ " + shlex.join(command), flush=True)
    if subprocess.run(command).returncode:
        raise CommandError(f"this failed: {shlex.join(command)}")


def output(*command: str) -> str | None:
    """Return what a command prints, without white space around it, or None if it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return None if result.returncode else result.stdout.strip()


def find_tool() -> str:
    """Return the container tool that works here: docker with its daemon, else podman.

    Raises
    ------
    CommandError
        If there is neither.
    """
    if output("docker", "info") is not None:
        return "docker"
    if shutil.which("podman"):
        return "podman"
    raise CommandError(
        "neither docker (with its daemon) nor podman is here; install one"
    )


def _git(*arguments: str) -> str | None:
    return output("git", "-C", str(ROOT), *arguments)


def default_tag() -> str:
    """Return the short revision, and for a changed tree a digest of the change as well.

    Kubernetes pulls a tag that it has no second time: what differs has to be called differently.
    """
    revision = _git("rev-parse", "--short", "HEAD")
    if revision is None:
        return "local"
    # Not quoted: names of files come as they are.
    changed = _git("-c", "core.quotepath=off", "diff", "HEAD", "--", *_SOURCES) or ""
    new = _git("ls-files", "--others", "--exclude-standard", "--", *_SOURCES) or ""
    if not changed and not new:
        return revision
    digest = hashlib.sha256(changed.encode())
    for name in new.splitlines():
        digest.update(name.encode() + (ROOT / name).read_bytes())
    return f"{revision}-{digest.hexdigest()[:8]}"


def read_version() -> str:
    """Return the version of the distribution."""
    match = re.search(
        r"^version = (\S+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE
    )
    assert match is not None, "setup.cfg names no version"
    return match[1]


def build(tool: str, images: Images, flags: list[str]) -> None:
    """Build both images and say how large they are."""
    # Not by build arguments: older podmans take a layer of an earlier commit for the same.
    values = {
        "version": read_version(),
        "revision": _git("rev-parse", "HEAD") or "unknown",
    }
    labels = [
        f"--label=org.opencontainers.image.{key}={value}"
        for key, value in values.items()
    ]
    for name, dockerfile in DOCKERFILES.items():
        file = ["--file", str(ROOT / dockerfile), "--tag", images.reference(name)]
        run(tool, "build", *file, *labels, *flags, str(ROOT))
    for name in DOCKERFILES:
        size = output(
            tool, "image", "inspect", "--format", "{{.Size}}", images.reference(name)
        )
        print(f"{images.reference(name)}: {int(size or 0) / 1e6:.0f} MB")


def push(tool: str, images: Images, flags: list[str]) -> None:
    """Bring both images to where the cluster gets them from."""
    if images.prefix == LOCAL_PREFIX:
        _load(tool, images)
        return
    for name in DOCKERFILES:
        _push_one(tool, images.reference(name), flags)


def _push_one(tool: str, reference: str, flags: list[str]) -> None:
    """Push, and name the digest, which docker says by itself."""
    if tool == "docker":
        run(tool, "push", *flags, reference)
        return
    with tempfile.NamedTemporaryFile("r", prefix="digest-") as digest:
        run(tool, "push", *flags, "--digestfile", digest.name, reference)
        print(f"{reference}: {digest.read().strip()}")


def _load(tool: str, images: Images) -> None:
    """Load the images into the node of a local cluster, which the kubectl context tells by name."""
    context = output("kubectl", "config", "current-context") or ""
    with tempfile.TemporaryDirectory(prefix="images-") as folder:
        for name in DOCKERFILES:
            archive = str(Path(folder, name + ".tar"))
            command = _loader(context, archive)
            run(tool, "save", "--output", archive, images.reference(name))
            run(*command)


def _loader(context: str, archive: str) -> list[str]:
    """Return the command that loads an archive into the cluster of a context.

    Raises
    ------
    CommandError
        If no such command is known.
    """
    if context.startswith("kind-"):
        return [
            "kind",
            "load",
            "image-archive",
            archive,
            "--name",
            context.removeprefix("kind-"),
        ]
    if context.startswith("k3d-"):
        return [
            "k3d",
            "image",
            "import",
            archive,
            "--cluster",
            context.removeprefix("k3d-"),
        ]
    if context and context == (output("minikube", "profile") or "").lstrip("* "):
        return ["minikube", "--profile", context, "image", "load", archive]
    raise CommandError(
        f"the kubectl context {context!r} is none of kind, k3d or minikube: name a registry, as in "
        "make push IMAGE_PREFIX=registry.example.com/team"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name images."""
    parser.add_argument(
        "--prefix", default=LOCAL_PREFIX, help="registry and folder of the images"
    )
    parser.add_argument("--tag", default="", help="tag; by default the revision")


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="python k8s/images.py")
    parser.add_argument("action", choices=["build", "push", "tag"])
    add_arguments(parser)
    parser.add_argument(
        "--flags", default="", help="further flags of the tool, as one word"
    )
    given = parser.parse_args(arguments)
    images = Images(given.prefix, given.tag or default_tag())
    if given.action == "tag":
        print(images.tag)
        return 0
    try:
        action = build if given.action == "build" else push
        action(find_tool(), images, shlex.split(given.flags))
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
