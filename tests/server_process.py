"""A server as its users start it: a process of its own, its log read line by line."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support import ROOT

COMMAND = [sys.executable, "-m", "grpc_server"]
FREE_PORTS = ["--host", "127.0.0.1", "--port", "0", "--http-port", "0"]


class Process:
    """A running server, its log line by line."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, *FREE_PORTS, *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        ports = self.wait_for("listening")
        self.port: int = ports["port"]
        self.http_port: int = ports["http_port"]
        self.health_port: int | None = ports.get("health_port")

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, event: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            fields: dict[str, Any] = json.loads(line)
            if fields["event"] == event:
                return fields
        raise AssertionError(f"the server ended before {event!r}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        self._process.communicate(timeout=60)
        return self._process.returncode


@contextmanager
def running(*arguments: str) -> Iterator[Process]:
    process = Process(*arguments)
    try:
        yield process
    finally:
        process.signal(signal.SIGKILL)
        process.wait()
