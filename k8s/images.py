"""Builds, names and pushes the two images, with docker or podman.

Knows container tools and git, and no manifests. Flags that only one machine needs come from the
caller. Runs on a bare Python, because `make` may have no environment yet.
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
"""Prefix without a registry. Such images are loaded into a local cluster, not pushed."""

# Sources of the images. A change elsewhere gives no new image.
_SOURCES = (
    "clients/python",
    "flows/Dockerfile",
    "flows/requirements.txt",
    "grpc_server",
    "k8s/build-requirements.txt",
    "k8s/strip_image.sh",
    "setup.cfg",
)


class CommandError(Exception):
    """A problem that the user has to solve; its text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Images:
    """Names of the images: PREFIX/NAME:TAG.

    Attributes
    ----------
    prefix : str
        Registry and folder, or `LOCAL_PREFIX`.
    tag : str
        Tag of both images.
    """

    prefix: str
    tag: str

    def reference(self, name: str) -> str:
        """Return the full name of an image."""
        return f"{self.prefix}/{name}:{self.tag}"


def run(*command: str) -> None:
    """Print and run a command.

    Raises
    ------
    CommandError
        If it fails. Its own output has been shown.
    """
    print("+ " + shlex.join(command), flush=True)
    if subprocess.run(command).returncode:
        raise CommandError(f"this failed: {shlex.join(command)}")


def output(*command: str) -> str | None:
    """Return the output of a command, without white space around it, or None if it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return None if result.returncode else result.stdout.strip()


def find_tool() -> str:
    """Return the container tool that works here: docker with its daemon, or podman.

    Raises
    ------
    CommandError
        If neither works.
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
    """Return the short revision, and a digest of the changes if the tree has any.

    Kubernetes never pulls a tag that it has, so images that differ need different tags.

    Returns
    -------
    str
        Such as "1a2b3c4" or "1a2b3c4-5d6e7f80"; "local" outside of a git repository.
    """
    revision = _git("rev-parse", "--short", "HEAD")
    if revision is None:
        return "local"
    # Without quoting, git prints the names of files as they are.
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
    source = (ROOT / "grpc_server" / "__init__.py").read_text()
    match = re.search(r'^__version__ = "(\S+)"$', source, re.MULTILINE)
    assert match is not None, "grpc_server names no version"
    return match[1]


def build(tool: str, images: Images, flags: list[str]) -> None:
    """Build both images and print their sizes."""
    # Not as build arguments, because older podmans reuse a layer of an earlier commit for them.
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
    """Push both images to their registry, or load them into a local cluster."""
    if images.prefix == LOCAL_PREFIX:
        _load(tool, images)
        return
    for name in DOCKERFILES:
        _push_one(tool, images.reference(name), flags)


def _push_one(tool: str, reference: str, flags: list[str]) -> None:
    """Push an image and print its digest, as docker does by itself."""
    if tool == "docker":
        run(tool, "push", *flags, reference)
        return
    with tempfile.NamedTemporaryFile("r", prefix="digest-") as digest:
        run(tool, "push", *flags, "--digestfile", digest.name, reference)
        print(f"{reference}: {digest.read().strip()}")


def _load(tool: str, images: Images) -> None:
    """Load the images into the local cluster that the name of the kubectl context tells."""
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
        If the context is not one of kind, k3d or minikube.
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
        f"the kubectl context {context!r} is none of kind, k3d or minikube; name a registry, as in "
        "make push IMAGE_PREFIX=registry.example.com/team"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name images."""
    parser.add_argument(
        "--prefix", default=LOCAL_PREFIX, help="registry and folder of the images"
    )
    parser.add_argument("--tag", default="", help="tag (default: the revision)")


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="python k8s/images.py")
    parser.add_argument("action", choices=["build", "push", "tag"])
    add_arguments(parser)
    parser.add_argument(
        "--flags", default="", help="more flags for the tool, as one word"
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
