"""A server of several processes, as users start it: one port, one readiness, one /metrics."""

import json
import os
import signal
import socket
import subprocess
import threading
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_server.errors import StartupError
from grpc_server.ports import reserve
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from server_process import COMMAND, FREE_PORTS, Process, running
from support import (
    ROOT,
    answers,
    connect,
    lightgbm_artifact,
    read_page,
    running_server,
    wait_for,
    write_artifact,
    write_version,
)
from wire import channel_to, count_handled, read_metrics, samples

TWO = ("--processes", "2")
ALL_READY = "all processes are ready"
AT_CENTER = PredictRequest(features=[1.0, 3.0])
# So many connections that one process gets all of them once in 10^12 runs.
N_CONNECTIONS = 40


@pytest.fixture
def process(model_dir: Path, lane: str) -> Iterator[Process]:
    """A server of two processes, all ready."""
    arguments = ["--model-dir", str(model_dir), "--drain-seconds", "1"]
    with running(*arguments, "--lane", lane, *TWO) as process:
        process.wait_for(ALL_READY)
        yield process


def predict(process: Process, request: PredictRequest = AT_CENTER) -> bytes:
    """Return the answer over a connection of its own."""
    with channel_to(process) as channel:
        answer = PredictionServiceStub(channel).Predict(request, timeout=30)
        return answer.SerializeToString(deterministic=True)


def list_workers(process: Process) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    threads = path.parent.parent.glob("*/children")
    return sorted(int(pid) for thread in threads for pid in thread.read_text().split())


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def sample(process: Process, name: str, **labels: str) -> float:
    """Return the sum of the samples of a name that have all labels."""
    return sum(s.value for s in samples(read_metrics(process), name, **labels))


def count_answered(process: Process) -> float:
    return count_handled(read_metrics(process), "Predict").get("OK", 0.0)


def get_health(process: Process, name: str) -> tuple[int, Any]:
    try:
        page = read_page(f"http://127.0.0.1:{process.http_port}/health/{name}")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    return 200, json.loads(page)


def check_grpc_readiness(process: Process) -> int:
    with channel_to(process) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="readiness")
        return int(stub.Check(request, timeout=30).status)


def test_the_metrics_are_those_of_all_processes(process: Process) -> None:
    for _ in range(N_CONNECTIONS):
        predict(process)

    # A call is counted once it is over, a moment after its answer.
    wait_for(lambda: count_answered(process) == N_CONNECTIONS)
    assert sample(process, "grpc_server_started_total") == N_CONNECTIONS
    assert sample(process, "grpc_server_handling_seconds_count") == N_CONNECTIONS
    assert sample(process, "prediction_instances_total") == N_CONNECTIONS
    assert sample(process, "prediction_processes_ready") == 2
    assert sample(process, "prediction_model_info") == 1
    assert sample(process, "prediction_lane_info") == 1
    n_processes = 3
    assert sample(process, "process_open_fds") > n_processes * 3


def test_the_answers_are_those_of_one_process(tmp_path: Path, lane: str) -> None:
    artifact, rows, _ = lightgbm_artifact(3)
    folder = write_artifact(tmp_path / "model", artifact)
    requests = [PredictRequest(features=row) for row in rows[:N_CONNECTIONS]]
    with running_server(folder, lane) as server, connect(server) as stub:
        expected = [
            stub.Predict(request).SerializeToString(deterministic=True)
            for request in requests
        ]

    with running("--model-dir", str(folder), "--lane", lane, *TWO) as process:
        process.wait_for(ALL_READY)

        assert [predict(process, request) for request in requests] == expected


class Traffic:
    """Calls over new connections from several threads, until the end of the context."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self.n_answered = 0
        self.failures: list[grpc.StatusCode] = []
        self.threads = [threading.Thread(target=self._run) for _ in range(4)]

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self.threads:
            thread.join()

    def wait_for_answers(self, n_more: int) -> None:
        goal = self.n_answered + n_more
        wait_for(lambda: self.n_answered >= goal)

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                self._call()
            except grpc.RpcError as error:
                code: Any = error
                with self._lock:
                    self.failures.append(code.code())
            else:
                with self._lock:
                    self.n_answered += 1


def test_a_process_that_dies_is_replaced_and_its_calls_stay_counted(
    process: Process,
) -> None:
    victim, other = list_workers(process)
    with Traffic(lambda: predict(process)) as traffic:
        traffic.wait_for_answers(20)
        os.kill(victim, signal.SIGKILL)
        end = process.wait_for("process ended")
        process.wait_for(ALL_READY)
        traffic.wait_for_answers(20)

    assert (end["reason"], end["restart_seconds"]) == ("SIGKILL", 0)
    (replacement,) = set(list_workers(process)) - {other}
    assert replacement != victim
    # Only the calls of the dead process are lost.
    assert set(traffic.failures) <= {grpc.StatusCode.UNAVAILABLE}
    n_lost = len(traffic.failures)
    n_counted = count_answered(process)
    # One call of each caller may have been answered but not counted when the process was killed.
    n_uncounted = len(traffic.threads)
    assert traffic.n_answered - n_uncounted <= n_counted
    assert n_counted <= traffic.n_answered + n_lost
    for _ in range(N_CONNECTIONS):
        predict(process)
    wait_for(lambda: count_answered(process) == n_counted + N_CONNECTIONS)
    # The new process continues the same files, so they do not pile up.
    assert sample(process, "prediction_processes_ready") == 2
    assert sample(process, "prediction_model_info") == 1


def test_a_process_that_hangs_is_missed_and_replaced(process: Process) -> None:
    """A stopped process: the kernel accepts its connections, but nothing answers."""
    ready = f"http://127.0.0.1:{process.http_port}/health/ready"
    live = f"http://127.0.0.1:{process.http_port}/health/live"
    hung, *_ = list_workers(process)
    os.kill(hung, signal.SIGSTOP)

    wait_for(lambda: not answers(ready))
    assert answers(live)
    killed = process.wait_for("process hangs, killed")
    assert killed["silence_seconds"] >= 10
    wait_for(lambda: answers(ready), timeout_seconds=60)
    assert hung not in list_workers(process)
    for _ in range(N_CONNECTIONS):
        predict(process)


def test_a_full_disk_costs_counters_and_no_call(
    model_dir: Path, tmp_path: Path
) -> None:
    """It ends no process either, though the files are mapped into memory."""
    arguments = ["--model-dir", str(model_dir), *TWO]
    with pytest.MonkeyPatch.context() as patch, small_disk(tmp_path) as folder:
        patch.setenv("TMPDIR", str(folder))
        with running(*arguments) as process:
            process.wait_for(ALL_READY)
            workers = list_workers(process)
            fill(folder)
            for _ in range(N_CONNECTIONS):
                predict(process)
                with pytest.raises(grpc.RpcError, match="features"):
                    predict(process, PredictRequest(features=[1.0]))

            assert list_workers(process) == workers
            assert count_answered(process) == N_CONNECTIONS


def fill(folder: Path) -> None:
    with open(folder / "filler", "wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of 1 MiB, which only root can make."""
    place = folder / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("a disk of its own needs root: mount is not permitted")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_the_server_is_ready_once_every_process_is(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    with running("--model-dir", str(link), "--wait-for-model", *TWO) as process:
        for _ in range(2):
            process.wait_for("waiting for a model")
        not_ready = {
            "status": "not ready",
            "reason": "0 of 2 processes are ready",
        }
        assert get_health(process, "ready") == (503, not_ready)
        assert get_health(process, "live") == (200, {"status": "ok"})
        late, _ = list_workers(process)
        os.kill(late, signal.SIGSTOP)

        link.symlink_to(write_version(tmp_path, logistic_artifact, "1"))
        process.wait_for("serving")

        wait_for(lambda: sample(process, "prediction_processes_ready") == 1)
        status, body = get_health(process, "ready")
        assert (status, body["reason"]) == (503, "1 of 2 processes are ready")
        os.kill(late, signal.SIGCONT)
        process.wait_for(ALL_READY)
        assert get_health(process, "ready") == (200, {"status": "ok"})
        serving = health_pb2.HealthCheckResponse.SERVING
        wait_for(lambda: check_grpc_readiness(process) == serving)


def test_grpc_readiness_waits_for_the_other_processes(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    with running("--model-dir", str(link), "--wait-for-model", *TWO) as process:
        for _ in range(2):
            process.wait_for("waiting for a model")
        with ExitStack() as stack:
            channels = [
                stack.enter_context(channel_to(process)) for _ in range(N_CONNECTIONS)
            ]
            for channel in channels:
                grpc.channel_ready_future(channel).result(timeout=30)
            os.kill(list_workers(process)[0], signal.SIGSTOP)
            link.symlink_to(write_version(tmp_path, logistic_artifact, "1"))
            process.wait_for("serving")

            statuses = read_statuses(channels)

    # The stopped process answers nothing.
    assert statuses == {None, health_pb2.HealthCheckResponse.NOT_SERVING}


def read_statuses(channels: list[grpc.Channel]) -> set[int | None]:
    """Return the answers of the processes, with None for those that do not answer."""
    request = health_pb2.HealthCheckRequest(service="readiness")
    futures = [
        health_pb2_grpc.HealthStub(channel).Check.future(request, timeout=3)
        for channel in channels
    ]
    return {
        None if future.exception() else int(future.result().status)
        for future in futures
    }


def test_a_stop_under_load_loses_no_call(process: Process) -> None:
    """Callers that stop sending when the server is not ready see no failure at all."""
    own = threading.local()
    with ExitStack() as stack:
        channels = [stack.enter_context(channel_to(process)) for _ in range(4)]
        stubs = iter([PredictionServiceStub(channel) for channel in channels])

        def call() -> None:
            if not hasattr(own, "stub"):
                own.stub = next(stubs)
            own.stub.Predict(AT_CENTER, timeout=30)

        with Traffic(call) as traffic:
            traffic.wait_for_answers(50)
            process.signal(signal.SIGTERM)
            process.wait_for("draining")
            assert get_health(process, "ready")[0] == 503
            traffic.wait_for_answers(50)
        code = process.wait()

    assert (code, traffic.failures) == (0, [])


def test_a_signal_ends_all_processes_and_leaves_nothing_behind(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    arguments = ["--model-dir", str(model_dir), "--drain-seconds", "3600"]
    with running(*arguments, *TWO) as process:
        process.wait_for(ALL_READY)
        workers = list_workers(process)
        assert len(list(temporary.iterdir())) == 1
        process.signal(signal.SIGTERM)
        process.wait_for("draining")
        predict(process)
        process.signal(signal.SIGINT)

        assert process.wait() == 0

    assert not any(is_running(pid) for pid in workers)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_a_process_that_does_not_end_is_killed(model_dir: Path) -> None:
    arguments = ["--model-dir", str(model_dir), "--drain-seconds", "0"]
    with running(*arguments, "--grace-seconds", "0", *TWO) as process:
        process.wait_for(ALL_READY)
        workers = list_workers(process)
        os.kill(workers[0], signal.SIGSTOP)
        process.signal(signal.SIGTERM)

        process.wait_for("processes killed")
        assert process.wait() == 0

    assert not any(is_running(pid) for pid in workers)


def test_the_processes_end_with_their_supervisor(process: Process) -> None:
    workers = list_workers(process)

    process.signal(signal.SIGKILL)

    wait_for(lambda: not any(is_running(pid) for pid in workers))
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", process.port))


def test_the_supervisor_holds_no_grpc(process: Process) -> None:
    def has_grpc(pid: int) -> bool:
        return "cygrpc" in Path(f"/proc/{pid}/maps").read_text()

    assert not has_grpc(process.pid)
    assert all(has_grpc(pid) for pid in list_workers(process))


def test_a_new_model_is_taken_by_every_process(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    versions = [write_version(tmp_path, logistic_artifact, v) for v in ("1", "2")]
    link, new_link = tmp_path / "current", tmp_path / "new"
    link.symlink_to(versions[0])
    new_link.symlink_to(versions[1])
    with running("--model-dir", str(link), *TWO) as process:
        process.wait_for(ALL_READY)
        assert sample(process, "prediction_model_info", model_version="1") == 1

        new_link.rename(link)

        def count_shown(version: str) -> float:
            return sample(process, "prediction_model_info", model_version=version)

        # The old model is shown until the last process has the new one.
        wait_for(lambda: count_shown("1") == 0)
        assert count_shown("2") == 1
        assert sample(process, "prediction_processes_ready") == 2


def error_of(*arguments: str, **options: Any) -> str:
    """Return the only line that a failed start prints at its end."""
    result = subprocess.run(
        [*COMMAND, *FREE_PORTS, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    assert result.returncode == 1
    line: str
    (line,) = result.stderr.splitlines()
    return line


def test_a_model_that_cannot_be_served_ends_the_start_as_with_one_process(
    model_dir: Path, tmp_path: Path
) -> None:
    path = model_dir / "model.binpb"
    path.write_bytes(path.read_bytes()[:-9])
    for folder in (model_dir, tmp_path / "none"):
        alone = error_of("--model-dir", str(folder))

        assert error_of("--model-dir", str(folder), *TWO) == alone


def test_a_server_of_many_needs_to_know_its_model_too() -> None:
    assert error_of(*TWO) == error_of()


def test_processes_that_crash_at_their_start_end_the_server(
    model_dir: Path, tmp_path: Path
) -> None:
    crash = "import os, sys\n'grpc_server.processes.worker' in sys.orig_argv and os.abort()\n"
    (tmp_path / "sitecustomize.py").write_text(crash)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}

    error = error_of("--model-dir", str(model_dir), *TWO, env=environ)

    assert error.startswith("error: no process can start; process ")
    assert error.endswith(" ended with SIGABRT")


@pytest.mark.parametrize("others", [(), TWO], ids=["one", "many"])
def test_a_port_of_another_server_is_refused(
    others: tuple[str, ...], model_dir: Path
) -> None:
    arguments = ["--model-dir", str(model_dir)]
    with running(*arguments, *others) as process:
        process.wait_for("serving")
        same_port = ["--port", str(process.port)]

        error = error_of(*arguments, *same_port, *TWO)

        assert error.startswith(
            f"error: cannot listen on 127.0.0.1:{process.port}: Address already in use"
        )
        assert error_of(*arguments, *same_port) == error


def test_a_port_is_reserved_once() -> None:
    """Even before any process listens on it."""
    with reserve("127.0.0.1", 0) as held:
        port = held.getsockname()[1]

        with pytest.raises(StartupError, match="Address already in use"):
            reserve("127.0.0.1", port)
