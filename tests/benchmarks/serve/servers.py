"""Starts our server and bare grpcio, each a target to be measured."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
from benchmarks.echo import RESPONSE
from benchmarks.serve.load import Target, caller, is_right
from benchmarks.serve.models import Model
from benchmarks.serve.processes import find_port, running, wait_for_port

ECHOES = ("echo sync", "echo aio")
QUEUE = "completion queue"
# What the image of the server sets; the reasons are there.
IMAGE_ENVIRON = {
    "GRPC_EXPERIMENTS": "-event_engine_listener",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "134217728",
}
_START_SECONDS = 120.0


@contextmanager
def serving(
    name: str,
    model: Model,
    work: Path,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Target]:
    """Run our server; its log goes to a file in `work`."""
    port, http_port = find_port(), find_port()
    command = [sys.executable, "-m", "grpc_server", "--model-dir", str(model.folder)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    command += ["--http-port", str(http_port), "--log-level", "WARNING", *options]
    with running(command, work / "server.log", environ) as processes:
        target = Target(name, port, model.request, processes, http_port)
        wait_for_answer(target)
        yield target


@contextmanager
def echoing(name: str, model: Model, work: Path) -> Iterator[Target]:
    """Run one of the bare servers, with the request of a model."""
    port, kind = find_port(), name.removeprefix("echo ")
    if name == QUEUE:
        kind = "queue"
    command = [sys.executable, "-m", "benchmarks.echo", kind, str(port)]
    request = replace(model.request, expected=RESPONSE.probabilities[1])
    with running(command, work / "echo.log") as processes:
        target = Target(name, port, request, processes)
        wait_for_answer(target)
        yield target


def wait_for_answer(target: Target) -> None:
    """Return once the server has answered rightly.

    Raises
    ------
    RuntimeError
        If it has not after a long time, or ends.
    """
    end = time.monotonic() + _START_SECONDS
    wait_for_port(target.port, target.processes, _START_SECONDS)
    while not _answers(target):
        if time.monotonic() > end or target.processes.first.poll() is not None:
            raise RuntimeError(f"{target.name} does not answer rightly")
        time.sleep(0.01)


def _answers(target: Target) -> bool:
    try:
        with caller(target) as ask:
            return is_right(target.request, ask())
    except (grpc.RpcError, OSError):
        return False
