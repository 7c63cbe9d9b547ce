"""One request, sent once and looked at, or many times by h2load (Debian's nghttp2-client).

h2load is one C program that costs little of the cores it shares with the server. It looks at no
answer: so one in twenty milliseconds is checked beside it, and the bytes of all are counted.
"""

import re
import struct
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import grpc
from benchmarks.serve.processes import Processes

# Connections and calls at once on each, by the calls in flight.
LOADS = {64: (8, 8), 1: (1, 1)}
N_ROUNDS = 5
ROUND_SECONDS = 1.0
_N_FIRST_CALLS = 200
_MAX_CALLS = 50_000
_CHECK_SECONDS = 0.02
_CALL_SECONDS = 10.0
GRPC_OPTIONS = ("-H", "content-type: application/grpc", "-H", "te: trailers")
_H1_OPTIONS = ("--h1", "-H", "content-type: application/json")


@dataclass(frozen=True, slots=True)
class Request:
    """What to send, and the probability that has to be in the answer.

    Parameters
    ----------
    protocol : str
        "grpc", with the body a framed message, or "http", with the body JSON.
    path : str
        Where to.
    body : Path
        File of the body.
    expected : float
        The probability.
    """

    protocol: str
    path: str
    body: Path
    expected: float


@dataclass(frozen=True, slots=True)
class Target:
    """A server that runs, and what to ask it; ours has a port of HTTP beside."""

    name: str
    port: int
    request: Request
    processes: Processes
    http_port: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """What one round measured: calls per second, latencies, processor time per call, faults."""

    calls_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    n_wrong: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians of the rounds, and the faults of all of them."""

    calls_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    n_wrong: int

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Figures":
        """Put rounds together."""
        return cls(
            median(one.calls_per_second for one in rounds),
            median(one.p50_ms for one in rounds),
            median(one.p99_ms for one in rounds),
            median(one.cpu_us for one in rounds),
            sum(one.n_wrong for one in rounds),
        )


@contextmanager
def caller(target: Target) -> Iterator[Callable[[], bytes]]:
    """Return a function that asks once and returns the answer's bytes."""
    request, body = target.request, target.request.body.read_bytes()
    if request.protocol == "http":
        url = f"http://127.0.0.1:{target.port}{request.path}"
        headers = {"content-type": "application/json"}
        post = urllib.request.Request(url, body, headers, method="POST")

        def ask() -> bytes:
            with urllib.request.urlopen(post, timeout=_CALL_SECONDS) as response:
                return bytes(response.read())

        yield ask
        return
    with grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            request.path
        )
        yield lambda: bytes(method(body[5:], timeout=_CALL_SECONDS))


def is_right(request: Request, answer: bytes) -> bool:
    """Tell whether the expected probability is in an answer."""
    if request.protocol == "http":
        numbers = list(map(float, re.findall(rb"\d\.\d+(?:e-?\d+)?", answer)))
    else:
        windows = range(len(answer) - 7)
        numbers = [struct.unpack_from("<d", answer, at)[0] for at in windows]
    return any(abs(number - request.expected) < 1e-9 for number in numbers)


def measure(
    h2load: str, targets: Sequence[Target], n_rounds: int = N_ROUNDS
) -> dict[str, dict[int, Figures]]:
    """Measure all in turn, round by round; return the figures by name and calls in flight."""
    rounds: dict[str, dict[int, list[Round]]] = {
        target.name: {in_flight: [] for in_flight in LOADS} for target in targets
    }
    for in_flight in LOADS:
        n_calls = {t.name: _count_calls(h2load, t, in_flight) for t in targets}
        for _ in range(n_rounds):
            for target in targets:
                one = run_round(h2load, target, in_flight, n_calls[target.name])
                rounds[target.name][in_flight].append(one)
    return {
        name: {load: Figures.of(all_of_load) for load, all_of_load in by_load.items()}
        for name, by_load in rounds.items()
    }


def _count_calls(h2load: str, target: Target, in_flight: int) -> int:
    """Return how many calls take about as long as a round, after some that warm up."""
    for n_calls in (_N_FIRST_CALLS, 2 * _N_FIRST_CALLS):
        rate = run_round(h2load, target, in_flight, n_calls).calls_per_second
    return min(max(int(rate * ROUND_SECONDS), _N_FIRST_CALLS), _MAX_CALLS)


def run_round(h2load: str, target: Target, in_flight: int, n_calls: int) -> Round:
    """Send many calls, and check some beside them."""
    with caller(target) as ask, tempfile.NamedTemporaryFile("r") as log:
        answer = ask()
        checks: list[bool] = [is_right(target.request, answer)]
        command = [h2load, *_options(target, in_flight), "-n", str(n_calls)]
        command += ["--log-file", log.name]
        command.append(f"http://127.0.0.1:{target.port}{target.request.path}")
        with _checking(target, ask, checks):
            cpu_before = target.processes.cpu_seconds()
            output = subprocess.check_output(command, text=True)
            cpu_seconds = target.processes.cpu_seconds() - cpu_before
        latencies_us = sorted(int(line.split()[2]) for line in log)
    frame_bytes = 5 if target.request.protocol == "grpc" else 0
    n_answers = _number(r"\((\d+)\) data", output) / (len(answer) + frame_bytes)
    return Round(
        _number(r"([\d.]+) req/s", output),
        latencies_us[len(latencies_us) // 2] / 1e3,
        latencies_us[len(latencies_us) * 99 // 100] / 1e3,
        cpu_seconds / (n_calls + len(checks)) * 1e6,
        checks.count(False) + abs(n_calls - round(n_answers)),
    )


def _options(target: Target, in_flight: int) -> list[str]:
    """Return h2load's options: over HTTP/1.1 each call in flight has a connection."""
    is_http1 = target.request.protocol == "http"
    n_connections, n_streams = (in_flight, 1) if is_http1 else LOADS[in_flight]
    options = _H1_OPTIONS if is_http1 else GRPC_OPTIONS
    body = str(target.request.body)
    return [*options, "-c", str(n_connections), "-m", str(n_streams), "-d", body]


@contextmanager
def _checking(
    target: Target, ask: Callable[[], bytes], checks: list[bool]
) -> Iterator[None]:
    """Check an answer now and then until the end of the context."""
    ended = threading.Event()

    def check() -> None:
        while not ended.wait(_CHECK_SECONDS):
            checks.append(is_right(target.request, ask()))

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _number(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    assert match is not None, text
    return float(match[1])
