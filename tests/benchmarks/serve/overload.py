"""Many times the calls that the server can answer, sent without waiting for answers."""

import re
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import grpc
from benchmarks.serve.load import GRPC_OPTIONS, Target, run_round
from benchmarks.serve.models import Model
from benchmarks.serve.servers import serving
from grpc_health.v1 import health_pb2, health_pb2_grpc

from prediction.v1.prediction_service_pb2 import PredictRequest

TIMES = (2, 10)
STORM_SECONDS = 10
_N_CONNECTIONS = 16
_STREAMS = 1000
_N_CAPACITY_CALLS = 2000
_PROBE_SECONDS = 0.02
_CALL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class OverloadResult:
    """One storm: rates in calls per second, times in milliseconds.

    Parameters
    ----------
    capacity, offered, good, refused : float
        What 64 in flight get; what the storm sent; what was answered, and refused, meanwhile.
    refused_ms, health_ms : float
        The 99th percentile of what a caller waits for a refusal, and for a health check.
    n_unhealthy : int
        Health checks that failed.
    normal_ms, first_ms : float
        One call before the storm, and the first one after it.
    resident_mib, peak_mib : float
        Memory before, and the highest meanwhile.
    """

    capacity: float
    offered: float
    good: float
    refused: float
    refused_ms: float
    health_ms: float
    n_unhealthy: int
    normal_ms: float
    first_ms: float
    resident_mib: float
    peak_mib: float


def measure_overload(
    h2load: str, model: Model, work: Path, times: int
) -> OverloadResult:
    """Storm a server whose calls take long enough that so many times as many can be sent.

    Each call asks for the contributions of the features as well.
    """
    framed = model.request.body.read_bytes()
    message = PredictRequest.FromString(framed[5:])
    message.explain_top_k = 3
    body = work / "explained"
    content = message.SerializeToString()
    body.write_bytes(b"\0" + len(content).to_bytes(4, "big") + content)
    explained = replace(model, request=replace(model.request, body=body))
    with serving("overload", explained, work) as target:
        return _storm(h2load, target, times)


def _storm(h2load: str, target: Target, times: int) -> OverloadResult:
    capacity = run_round(h2load, target, 64, _N_CAPACITY_CALLS).calls_per_second
    with _probing(target) as (call, probes, health):
        normal_ms = median(call()[1] for _ in range(50))
        resident = target.processes.resident_mib()
        before, memory = _count(target), [resident]
        begin = time.perf_counter()
        storm = _start_storm(h2load, target, times * capacity)
        probes.clear()
        health.clear()
        while storm.poll() is None:
            memory.append(target.processes.resident_mib())
            time.sleep(0.1)
        seconds = time.perf_counter() - begin
        after = _count(target) - before
        first_ms = call()[1]
        waits = [ms for code, ms in probes if code == "RESOURCE_EXHAUSTED"]
        checks = list(health)
    output = storm.communicate()[0]
    sent = re.search(r"(\d+) started", output)
    assert sent is not None, output
    return OverloadResult(
        capacity,
        int(sent[1]) / seconds,
        after["OK"] / seconds,
        after["RESOURCE_EXHAUSTED"] / seconds,
        _percentile99(waits),
        _percentile99([ms for _, ms in checks]),
        sum(code != "OK" for code, _ in checks),
        normal_ms,
        first_ms,
        resident,
        max(memory),
    )


def _start_storm(
    h2load: str, target: Target, calls_per_second: float
) -> "subprocess.Popen[str]":
    per_connection = calls_per_second / _N_CONNECTIONS
    command = [h2load, "-c", str(_N_CONNECTIONS), "-m", str(_STREAMS)]
    command += ["--rps", f"{per_connection:.0f}", "-D", str(STORM_SECONDS)]
    command += ["-d", str(target.request.body)]
    command += GRPC_OPTIONS
    command.append(f"http://127.0.0.1:{target.port}{target.request.path}")
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


_Timed = tuple[str, float]


@contextmanager
def _probing(
    target: Target,
) -> Iterator[tuple[Callable[[], _Timed], list[_Timed], list[_Timed]]]:
    """Ask for a prediction and for health, now and then, on connections of their own."""
    body, ended = target.request.body.read_bytes()[5:], threading.Event()
    address = f"127.0.0.1:{target.port}"
    separate = [[("probe", number)] for number in range(2)]
    with (
        grpc.insecure_channel(address, separate[0]) as calls,
        grpc.insecure_channel(address, separate[1]) as checks,
    ):
        predict: grpc.UnaryUnaryMultiCallable[bytes, bytes] = calls.unary_unary(
            target.request.path
        )
        check = health_pb2_grpc.HealthStub(checks).Check

        def call() -> _Timed:
            return _timed(lambda: predict(body, timeout=_CALL_SECONDS))

        def ask_health() -> _Timed:
            request = health_pb2.HealthCheckRequest()
            return _timed(lambda: check(request, timeout=_CALL_SECONDS))

        probes: list[_Timed] = []
        health: list[_Timed] = []
        threads = [
            threading.Thread(target=_repeat, args=(ended, call, probes)),
            threading.Thread(target=_repeat, args=(ended, ask_health, health)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield call, probes, health
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def _repeat(
    ended: threading.Event, ask: Callable[[], _Timed], results: list[_Timed]
) -> None:
    while not ended.wait(_PROBE_SECONDS):
        results.append(ask())


def _timed(ask: Callable[[], object]) -> _Timed:
    begin = time.perf_counter()
    try:
        ask()
        code = "OK"
    except grpc.RpcError as error:
        code = error.code().name
    return code, (time.perf_counter() - begin) * 1e3


def _count(target: Target) -> Counter[str]:
    """Return the calls that ended so far, by status, as the server counts them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{target.http_port}/metrics") as page:
        text = page.read().decode()
    pattern = (
        r'grpc_server_handled_total{grpc_code="(\w+)",grpc_method="Predict".*} (\S+)'
    )
    return Counter({code: int(float(n)) for code, n in re.findall(pattern, text)})


def _percentile99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100] if values else 0.0
