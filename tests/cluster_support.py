"""What the tests on a real cluster have in common: kubectl, the images, the cluster's version."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KUBECTL = str(Path(sys.executable).parent / "kubectl")


def environment(name: str) -> str:
    """Return a variable that the caller must set, or fail: a requested test is not skipped."""
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set; `make test-cluster` says what is needed")
    return value


def minor_version() -> int:
    """Return the minor version of the cluster's API server."""
    output = subprocess.check_output([KUBECTL, "version", "--output=json"])
    minor: str = json.loads(output)["serverVersion"]["minor"]
    return int(minor.rstrip("+"))


def image(name: str) -> str:
    """Return the full name of an image under test."""
    return f"{environment('IMAGE_PREFIX')}/{name}:{environment('TAG')}"


class Namespace:
    """One namespace of the cluster, by kubectl."""

    def __init__(self, name: str) -> None:
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        """Run kubectl in the namespace; return what it prints."""
        command = [KUBECTL, "--namespace", self.name, *arguments]
        given = stdin.encode() if isinstance(stdin, str) else stdin
        result = subprocess.run(command, capture_output=True, input=given)
        output = result.stdout.decode()
        assert result.returncode == 0, f"{arguments}: {output}{result.stderr.decode()}"
        return output

    def items(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        output = self.kubectl("get", kind, *arguments, "--output=json")
        found: list[dict[str, Any]] = json.loads(output)["items"]
        return found
