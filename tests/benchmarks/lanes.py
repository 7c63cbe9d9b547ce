"""Both lanes beside a bare grpcio echo, sync and aio: interleaved rounds of one load generator.

The load generator is h2load (Debian's nghttp2-client), which costs little of the cores that it
shares with the server.
"""

import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import print_table

from prediction.artifact import FILE_NAME
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import PredictRequest

N_ROUNDS = 5
N_CALLS_BY_LOAD = {"64": 6000, "1": 1000}
CONNECTIONS_BY_LOAD = {"64": ("8", "8"), "1": ("1", "1")}
ECHOES = ("echo sync", "echo aio")
_PATH = "prediction.v1.PredictionService/Predict"
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Target:
    """A server that runs, and the process it runs in."""

    port: int
    pid: int


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of calls to one target measured."""

    calls_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def report(model_dirs: Mapping[str, Path]) -> None:
    """Print a table for each model and load, or why there is none."""
    h2load = shutil.which("h2load")
    if h2load is None:
        print(
            "\nThe lanes: skipped, h2load is not here (apt-get install nghttp2-client)"
        )
        return
    for family, model_dir in model_dirs.items():
        with ExitStack() as stack, tempfile.NamedTemporaryFile() as body:
            body.write(_frame(model_dir))
            body.flush()
            targets = {
                name: stack.enter_context(_running(name, model_dir))
                for name in ("fast", "pool", *ECHOES)
            }
            for load in N_CALLS_BY_LOAD:
                _print(family, load, _measure(h2load, targets, load, body.name))


def _frame(model_dir: Path) -> bytes:
    artifact = ModelArtifact.FromString((model_dir / FILE_NAME).read_bytes())
    row = artifact.golden_examples[0].features
    message = PredictRequest(features=row).SerializeToString()
    return struct.pack(">BI", 0, len(message)) + message


@contextmanager
def _running(name: str, model_dir: Path) -> Iterator[Target]:
    if name in ECHOES:
        command = ["benchmarks.echo", name.removeprefix("echo ")]
    else:
        command = ["grpc_server", "--lane", name, "--model-dir", str(model_dir)]
        command += ["--host", "127.0.0.1", "--port", "0", "--http-port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Target(_wait_for_port(process, name), process.pid)
        finally:
            process.kill()


def _wait_for_port(process: "subprocess.Popen[str]", name: str) -> int:
    assert process.stdout is not None
    if name in ECHOES:
        return int(process.stdout.readline())
    events = map(json.loads, process.stdout)
    port = next(event["port"] for event in events if event["event"] == "listening")
    next(event for event in events if event["event"] == "serving")
    return int(port)


def _measure(
    h2load: str, targets: Mapping[str, Target], load: str, body: str
) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {name: [] for name in targets}
    for number in range(N_ROUNDS + 1):
        for name, target in targets.items():
            measured = _call(h2load, target, load, body)
            if number:  # the first round warms up
                rounds[name].append(measured)
    return rounds


def _call(h2load: str, target: Target, load: str, body: str) -> Round:
    n_calls = N_CALLS_BY_LOAD[load]
    clients, streams = CONNECTIONS_BY_LOAD[load]
    with tempfile.NamedTemporaryFile("r") as log:
        command = [h2load, "-c", clients, "-m", streams, "-n", str(n_calls), "-d", body]
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        command += ["--log-file", log.name]
        command += [f"http://127.0.0.1:{target.port}/{_PATH}"]
        before = _cpu_seconds(target.pid)
        output = subprocess.check_output(command, text=True)
        cpu_seconds = _cpu_seconds(target.pid) - before
        latencies_us = sorted(int(line.split()[2]) for line in log)
    # An error of gRPC is a 200 of HTTP: it shows as an answer without data.
    data_bytes = re.search(r"\((\d+)\) data", output)
    assert data_bytes and int(data_bytes[1]) > 40 * n_calls, output
    rate = re.search(r"([\d.]+) req/s", output)
    assert rate and len(latencies_us) == n_calls, output
    return Round(
        float(rate[1]),
        latencies_us[n_calls // 2] / 1e3,
        latencies_us[n_calls * 99 // 100] / 1e3,
        cpu_seconds / n_calls * 1e6,
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _print(family: str, load: str, rounds: Mapping[str, list[Round]]) -> None:
    def median(name: str, field: str) -> float:
        return float(statistics.median(getattr(one, field) for one in rounds[name]))

    best = max(ECHOES, key=lambda name: median(name, "calls_per_second"))
    fields = ("calls_per_second", "p50_ms", "p99_ms")
    rows = []
    for name in rounds:
        cells = [f"{median(name, field):.2f}" for field in (*fields, "cpu_us")]
        ratios = [f"{median(name, f) / median(best, f):.2f}" for f in fields]
        rows.append((name, *cells, *ratios))
    measures = ("calls/s", "p50 ms", "p99 ms")
    header = ("server", *measures, "CPU us/call", *(f"{m} ratio" for m in measures))
    title = (
        f"{family}, {load} in flight, medians of {N_ROUNDS} rounds; ratios to {best}"
    )
    print_table(title, header, rows)
