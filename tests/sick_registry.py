"""A registry that answers like MLflow's server, except for one fault."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from prediction.artifact import FILE_NAME, SHA256_TAG

CONTENT = b"a model" * 1000
SECRET = "hunter2hunter2"


class Registry(BaseHTTPRequestHandler):
    """Answers like MLflow's server, except for one fault."""

    content: ClassVar[bytes] = CONTENT
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
            "tags": [
                {"key": SHA256_TAG, "value": hashlib.sha256(self.content).hexdigest()}
            ],
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
                self._send(self.content)

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
def registry(
    fault: str, content: bytes = CONTENT
) -> Iterator[tuple[type[Registry], str]]:
    """Run a registry of the model "m", version 1; yield its handler and its address."""
    values = {"fault": fault, "n_asked": 0, "content": content}
    handler = type("Handler", (Registry,), values)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield handler, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
