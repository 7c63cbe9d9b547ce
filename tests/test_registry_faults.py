"""What a registry answers, or does not, harms neither the program that fetches nor its disk."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grpc_server.model.sync_status import read_status
from prediction.artifact import FILE_NAME

from sick_registry import CONTENT, SECRET, registry
from support import ROOT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def command(link: Path, *arguments: str) -> list[str]:
    program = [sys.executable, "-m", "grpc_server.model_sync", "models:/m@champion"]
    return [*program, "--model-dir", str(link), *arguments]


def environ(uri: str) -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }


def fetch(link: Path, uri: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(link, *arguments),
        cwd=ROOT,
        env=environ(uri),
        capture_output=True,
        text=True,
        timeout=200,
    )


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_a_registry_without_a_fault_is_fetched_from(tmp_path: Path) -> None:
    """Else the tests below would show nothing."""
    link = tmp_path / "link"
    with registry("") as (_, uri):
        result = fetch(link, uri)

    assert result.returncode == 0, result.stderr
    assert (link / FILE_NAME).read_bytes() == CONTENT
    assert result.stderr == ""


def slow_fault(*values: str) -> Any:
    """Return a case that only `make test-faults` runs."""
    return pytest.param(*values, marks=pytest.mark.faults)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        slow_fault("no JSON", "the registry at http://127.0.0.1"),
        slow_fault("no version", "has no tag artifact_sha256"),
        slow_fault("JSON of another kind", "the registry at http://127.0.0.1"),
        slow_fault("drips", "the registry took longer than 8 s"),
        slow_fault("never ends", "API request"),
        slow_fault("redirects", "redirects"),
        ("long words", "the registry at http://127.0.0.1"),
        slow_fault("long run", "a run ID is at most 64"),
        slow_fault("file drips", "the registry took longer than 8 s"),
        ("file never ends", "has more than 134217728 bytes"),
        ("folder", "has more than 134217728 bytes"),
    ],
)
def test_a_fault_of_the_registry_is_one_line(
    fault: str, words: str, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    with registry(fault) as (_, uri):
        seconds = "8" if "drips" in fault else "120"
        result = fetch(link, uri, "--attempt-seconds", seconds)

    assert result.returncode == 1, result.stdout
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and words in line
    assert len(line) < 1500 and SECRET not in line
    if "drips" not in fault:
        assert names_in(link.parent / "versions") <= {".lock"}


def test_a_version_is_no_other_one(tmp_path: Path) -> None:
    """The link of version 1 is left as it is when the registry answers with another."""
    with registry("another version") as (_, uri):
        arguments = [
            part.replace("@champion", "/1") for part in command(tmp_path / "x")
        ]
        result = subprocess.run(
            arguments, cwd=ROOT, env=environ(uri), capture_output=True, text=True
        )

    assert result.returncode == 1
    assert names_in(tmp_path) == {".x.status.json"}
    status = read_status(tmp_path / "x")
    assert status is not None and status.wanted_version == "1"
    assert status.reason in result.stderr and status.reason


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["drips", "file drips"])
def test_a_follower_gives_up_a_registry_that_drips_and_recovers(
    fault: str, tmp_path: Path
) -> None:
    """It begins anew, without what was left over, and stops at once when it is told to."""
    link = tmp_path / "link"
    with registry(fault) as (handler, uri):
        follower = subprocess.Popen(
            command(link, "--interval-seconds", "0.2", "--attempt-seconds", "10"),
            cwd=ROOT,
            env=environ(uri),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert follower.stdout is not None
            line = json.loads(follower.stdout.readline())
            assert line["reason"] == "the attempt took longer than 10 s"
            handler.fault = ""
            wait_for(lambda: (link / FILE_NAME).exists(), 60)
            assert names_in(tmp_path / "versions") >= {".lock"}
            handler.fault = fault
            link.resolve().joinpath(FILE_NAME).write_bytes(b"damaged")
            n_asked = handler.n_asked
            wait_for(lambda: handler.n_asked > n_asked + 2, 60)
            follower.send_signal(signal.SIGTERM)
            _, errors = follower.communicate(timeout=5)
        finally:
            follower.kill()
            follower.communicate()

    assert follower.returncode == 0
    assert errors == ""
