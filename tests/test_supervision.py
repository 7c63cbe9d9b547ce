"""Processes hang, die or send odd messages at any time, and a supervisor is delayed."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from test_processes import ALL_READY, TWO, is_running, list_workers, predict, sample

from grpc_server.metrics import Metrics
from grpc_server.processes import slot
from grpc_server.rpc.health import Health
from grpc_server.rpc.pulse import Pulse, PulsePoint
from grpc_server.server import GrpcEndpoint
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from server_process import COMMAND, FREE_PORTS, Process, running
from support import ROOT, answers, settings_of, wait_for, write_version

# The first process in place 0 stops itself before it sends a message.
STOP_AT_START = """
import os, pathlib, signal, sys
at = pathlib.Path(__file__).with_name("stopped")
if sys.orig_argv[2:4] == ["grpc_server.processes.worker", "0"] and not at.exists():
    at.touch()
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def is_ready(process: Process) -> bool:
    return answers(f"http://127.0.0.1:{process.http_port}/health/ready")


@pytest.mark.parametrize(
    "name",
    [b"two\nloaded\nlines", b"no \xff utf-8", "ünï".encode()],
    ids=["lines", "bytes", "letters"],
)
def test_an_error_ends_the_start_as_with_one_process(
    name: bytes, tmp_path: Path
) -> None:
    """No character in it makes a message of its own."""
    folder = tmp_path / os.fsdecode(name)
    environ = {**os.environ, "PREDICTION_MODEL_DIR": str(folder)}

    def end(*arguments: str) -> tuple[int, bytes]:
        command = [*COMMAND, *FREE_PORTS, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, timeout=60
        )
        return done.returncode, done.stderr

    assert end(*TWO) == end()
    assert end()[0] == 1


def test_a_process_that_hangs_before_its_first_model_is_replaced(
    model_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(STOP_AT_START)
    program = (
        "import os, sys; from grpc_server import __main__; "
        "from grpc_server.processes import slot; slot.MAX_START_SECONDS = 3; "
        "sys.exit(__main__.main(sys.argv[1:], os.environ))"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        patch.setattr("server_process.COMMAND", [sys.executable, "-c", program])
        with running("--model-dir", str(model_dir), *TWO) as process:
            killed = process.wait_for("process hangs, killed")
            process.wait_for(ALL_READY)

            assert killed["process"] == 0
            assert is_ready(process)


def test_a_process_that_dies_with_a_message_unread_is_replaced(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    """The supervisor's end of the stream is then reset, not closed."""
    link = tmp_path / "current"
    with running("--model-dir", str(link), "--wait-for-model", *TWO) as process:
        for _ in range(2):
            process.wait_for("waiting for a model")
        first, second = list_workers(process)
        os.kill(second, signal.SIGSTOP)
        link.symlink_to(write_version(tmp_path, logistic_artifact, "1"))
        process.wait_for("serving")
        wait_for(lambda: sample(process, "prediction_processes_ready") == 1)
        os.kill(first, signal.SIGSTOP)
        os.kill(second, signal.SIGCONT)
        process.wait_for(ALL_READY)
        os.kill(first, signal.SIGKILL)

        process.wait_for("process ended")
        process.wait_for(ALL_READY)
        assert is_ready(process)


def test_processes_end_with_a_supervisor_that_has_not_read_their_beats(
    model_dir: Path,
) -> None:
    with running("--model-dir", str(model_dir), *TWO) as process:
        process.wait_for(ALL_READY)
        workers = list_workers(process)
        process.signal(signal.SIGSTOP)
        time.sleep(3)
        process.signal(signal.SIGKILL)
        process.wait()

        wait_for(lambda: not any(is_running(pid) for pid in workers), 60)


@pytest.mark.slow
def test_a_pause_of_the_whole_server_costs_no_process(model_dir: Path) -> None:
    """Like a paused container, in which the supervisor may continue first."""
    with running("--model-dir", str(model_dir), *TWO) as process:
        process.wait_for(ALL_READY)
        wait_for(lambda: is_ready(process))
        workers = list_workers(process)
        for pid in (process.pid, *workers):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(12)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(2)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)

        wait_for(lambda: is_ready(process))
        predict(process)
        assert list_workers(process) == workers


def test_a_process_that_hangs_while_it_ends_is_killed() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        end = slot.wait_for_end(process, leave_seconds=0.1)

    assert end == "a kill: it hung while it ended"

    assert process.returncode == -signal.SIGKILL


def test_a_stop_that_hangs_has_an_end() -> None:
    program = (
        "import logging, threading; from grpc_server import stop_limit; "
        "from grpc_server.signals import Signals; logging.basicConfig(); "
        "stop_limit.STOP_MARGIN_SECONDS = 0.2; signals = Signals(); "
        "stop_limit.end_at_last(signals, 0, 0); print('ready', flush=True); "
        "threading.Event().wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=30)

    assert child.returncode == 1
    assert "stop hangs, ended" in errors


def test_the_pulse_is_not_counted_among_the_calls(lane: str) -> None:
    registry, point, is_answered = CollectorRegistry(), PulsePoint(), threading.Event()
    endpoint = GrpcEndpoint(settings_of(lane), Metrics(registry), Health(), point)
    pulse = Pulse(point, is_answered.set)
    endpoint.start()
    pulse.start()
    try:
        assert is_answered.wait(30)
    finally:
        pulse.stop()
        endpoint.stop()

    assert pulse.why_not_alive() is None
    started = [
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "grpc_server_started_total"
    ]
    assert sum(started) == 0


@contextmanager
def no_room() -> Iterator[None]:
    """Keep the files of this process, and of those that it starts meanwhile, from growing."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def give_room(process: Process) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for pid in (process.pid, *list_workers(process)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


def test_a_disk_without_room_at_the_start_costs_metrics_and_no_call(
    model_dir: Path,
) -> None:
    with no_room():
        server = running("--model-dir", str(model_dir), *TWO)
        process = server.__enter__()
    try:
        process.wait_for(ALL_READY)
        for _ in range(10):
            predict(process)
        wait_for(
            lambda: sample(process, "prediction_processes_metrics_incomplete") == 2
        )
        assert is_ready(process)
    finally:
        server.__exit__(None, None, None)


def test_metrics_are_complete_again_once_there_is_room(
    model_dir: Path, tmp_path: Path
) -> None:
    with running("--model-dir", str(model_dir), *TWO) as process:
        process.wait_for(ALL_READY)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, most))
        for pid in list_workers(process):
            os.kill(pid, signal.SIGKILL)
        for _ in range(2):
            process.wait_for("metrics are incomplete")
        wait_for(
            lambda: sample(process, "prediction_processes_metrics_incomplete") == 2
        )
        assert sample(process, "prediction_model_info") == 0
        for _ in range(10):
            predict(process)

        give_room(process)

        for _ in range(2):
            process.wait_for("metrics are complete again")
        wait_for(
            lambda: sample(process, "prediction_processes_metrics_incomplete") == 0
        )
        wait_for(lambda: sample(process, "prediction_model_info") == 1)
        assert sample(process, "prediction_instances_total") == 10


def test_a_start_removes_what_a_killed_server_has_left(
    model_dir: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        arguments = ("--model-dir", str(model_dir), *TWO)
        with running(*arguments) as process, running(*arguments) as other:
            for server in (process, other):
                server.wait_for(ALL_READY)
            kept = {folder.name for folder in tmp_path.glob("prediction-metrics-*")}
            process.signal(signal.SIGKILL)
            process.wait()
            with running(*arguments) as third:
                third.wait_for(ALL_READY)

                left = {folder.name for folder in tmp_path.glob("prediction-metrics-*")}
                assert (len(kept), len(left), len(kept & left)) == (2, 2, 1)
                predict(other)
                wait_for(lambda: sample(other, "prediction_instances_total") == 1)
