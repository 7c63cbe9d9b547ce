"""A start does not depend on the registry where a model is there, and nothing outlives a server."""

import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from prediction.artifact import seal
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from server_process import Process, running
from sick_registry import registry
from support import wait_for, write_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ONE_OR_MORE = [
    pytest.param("1", id="one process"),
    pytest.param("2", id="two processes", marks=pytest.mark.faults),
]
URI = ["--model-uri", "models:/m@champion", "--drain-seconds", "0"]


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "link"


@pytest.fixture
def cached(link: Path, logistic_artifact: ModelArtifact) -> Path:
    """A link to what an earlier start has fetched."""
    folder = write_version(link.parent, logistic_artifact, "1")
    source = folder / "source.json"
    source.write_text(source.read_text().replace('"iris"', '"m"'))
    link.symlink_to(folder)
    return link


def is_ready(process: Process) -> bool:
    try:
        page = f"http://127.0.0.1:{process.http_port}/health/ready"
        return bool(urllib.request.urlopen(page, timeout=5).status == 200)
    except (urllib.error.URLError, OSError):
        return False


def fetchers_of(link: Path) -> list[int]:
    """Return the running programs that fetch into `link`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            is_zombie = ") Z " in (entry / "stat").read_text()
        except OSError:
            continue
        is_fetcher = b"grpc_server.model_sync" in command
        if is_fetcher and os.fsencode(link) in command and not is_zombie:
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("processes", ONE_OR_MORE)
def test_a_start_with_a_model_does_not_wait_for_the_registry(
    processes: str, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ready while the registry drips, and takes the fetch with it when it ends."""
    with registry("drips") as (handler, uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        arguments = [*URI, "--model-dir", str(cached), "--processes", processes]
        with running(*arguments) as process:
            wait_for(lambda: is_ready(process), 60)
            wait_for(lambda: handler.n_asked > 0, 60)
            assert len(fetchers_of(cached)) == 1

            begin = time.monotonic()
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert time.monotonic() - begin < 30
            wait_for(lambda: not fetchers_of(cached))


def test_a_start_without_a_model_can_be_stopped_while_it_fetches(
    link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry("drips") as (handler, uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with running(*URI, "--model-dir", str(link)) as process:
            assert process.wait_for("fetching")["model_uri"] == "models:/m@champion"
            wait_for(lambda: handler.n_asked > 0, 60)

            begin = time.monotonic()
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            assert time.monotonic() - begin < 30
            wait_for(lambda: not fetchers_of(link))


@pytest.mark.parametrize("processes", ONE_OR_MORE)
def test_a_fetch_ends_with_a_server_that_is_killed(
    processes: str, link: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry("drips") as (handler, uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        arguments = [*URI, "--model-dir", str(link), "--processes", processes]
        with running(*arguments) as process:
            wait_for(lambda: handler.n_asked > 0, 60)
            assert len(fetchers_of(link)) == 1

            process.signal(signal.SIGKILL)
            wait_for(lambda: not fetchers_of(link))


@pytest.mark.parametrize("processes", ONE_OR_MORE)
def test_a_server_that_waits_for_a_model_asks_the_registry_again(
    processes: str,
    link: Path,
    logistic_artifact: ModelArtifact,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = seal(logistic_artifact.SerializeToString())
    with registry("no JSON", content) as (handler, uri):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        arguments = [*URI, "--model-dir", str(link), "--processes", processes]
        with running(*arguments, "--wait-for-model") as process:
            process.wait_for("registry failed")
            assert not is_ready(process)

            handler.fault = ""
            wait_for(lambda: is_ready(process), 120)
