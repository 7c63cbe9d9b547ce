"""What a registry answers, or does not, harms neither the program that fetches nor its disk."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from prediction.artifact import FILE_NAME, SHA256_TAG

from support import ROOT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONTENT = b"a model" * 1000
SECRET = "hunter2hunter2"


class Registry(BaseHTTPRequestHandler):
    """Answers as MLflow's server does, but for one fault."""

    fault: ClassVar[str] = ""
    n_asked: ClassVar[int] = 0

    def do_GET(self) -> None:
        type(self).n_asked += 1
        path = urlsplit(self.path).path
        try:
            if path.endswith(("/alias", "/model-versions/get")):
                self._tell_version()
            elif path.endswith("/get-download-uri"):
                self._send(json.dumps({"artifact_uri": "mlflow-artifacts:/1"}).encode())
            elif path.endswith("/artifacts"):
                self._list()
            elif path.endswith("/registered-models/get"):
                self._send(b'{"registered_model": {"name": "m"}}')
            elif "/mlflow-artifacts/artifacts/" in path:
                self._send_file()
            else:
                self._send(b"{}", 404)
        except OSError:  # the caller has given up
            pass

    def _tell_version(self) -> None:
        version: dict[str, Any] = {
            "name": "m",
            "version": "1",
            "run_id": "r",
            "source": "mlflow-artifacts:/1",
            "tags": [{"key": SHA256_TAG, "value": hashlib.sha256(CONTENT).hexdigest()}],
        }
        match self.fault:
            case "no JSON":
                self._send(b"<html>")
            case "no version":
                self._send(b"{}")
            case "JSON of another kind":
                self._send(b'{"model_version": [1, {"name": 5}]}')
            case "drips":
                self._begin(10**6)
                self._send_for_ever(b" ", 0.2)
            case "never ends":
                self._begin(None)
                self._send_for_ever(b" " * 2**20, 0)
            case "redirects":
                self.send_response(302)
                self.send_header("Location", self.path)
                self.end_headers()
            case "long words":
                words = "a-" * 100_000 + f" password={SECRET}"
                error = {"error_code": "INTERNAL_ERROR", "message": words}
                self._send(json.dumps(error).encode(), 400)
            case "another version":
                self._send_version(version | {"version": "2"})
            case "long run":
                self._send_version(version | {"run_id": "r" * 100_000})
            case _:
                self._send_version(version)

    def _send_version(self, version: dict[str, Any]) -> None:
        self._send(json.dumps({"model_version": version}).encode())

    def _list(self) -> None:
        files = []
        if self.fault == "folder":
            names = [f"{FILE_NAME}/{n}" for n in range(50)]
            files = [{"path": name, "is_dir": False, "file_size": 1} for name in names]
        self._send(json.dumps({"files": files}).encode())

    def _send_file(self) -> None:
        match self.fault:
            case "file drips":
                self._begin(10**6)
                self._send_for_ever(b" ", 0.2)
            case "file never ends":
                self._begin(None)
                self._send_for_ever(b" " * 2**20, 0)
            case "folder":
                self._send(bytes(10 * 2**20))
            case _:
                self._send(CONTENT)

    def _begin(self, length: int | None, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, body: bytes, status: int = 200) -> None:
        self._begin(len(body), status)
        self.wfile.write(body)

    def _send_for_ever(self, part: bytes, wait_seconds: float) -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            self.wfile.write(part)
            time.sleep(wait_seconds)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def registry(fault: str) -> Iterator[tuple[type[Registry], str]]:
    """Run a registry with a fault; yield its handler and its address."""
    handler = type("Handler", (Registry,), {"fault": fault, "n_asked": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield handler, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


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
        slow_fault("drips", "did not come to an end within 8 s"),
        slow_fault("never ends", "API request"),
        slow_fault("redirects", "redirects"),
        ("long words", "the registry at http://127.0.0.1"),
        slow_fault("long run", "no run's ID"),
        slow_fault("file drips", "did not come to an end within 8 s"),
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
    assert names_in(tmp_path) == set()


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
            assert line["reason"] == "no end within 10 s"
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
