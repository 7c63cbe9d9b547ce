"""From the start of the server to its first reply, and the memory that it holds then."""

import json
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tables import print_table

from prediction import PredictionClient
from prediction.artifact import FILE_NAME
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

N_STARTS = 9
N_MORE_CALLS = 1000
MIB = 1024


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the server.

    Parameters
    ----------
    first_reply_seconds : float
        From the start of the process to the first answer to Predict, to a client that is there.
    resident_mib : float
        Resident memory after `N_MORE_CALLS` more answers.
    """

    first_reply_seconds: float
    resident_mib: float


def report(model_dirs: Mapping[str, Path]) -> None:
    """Print a row for the model of each family."""
    rows = []
    for family, model_dir in model_dirs.items():
        starts = [measure_start(model_dir) for _ in range(N_STARTS)]
        replies = [start.first_reply_seconds for start in starts]
        resident = statistics.median(start.resident_mib for start in starts)
        cells = (statistics.median(replies), min(replies), max(replies))
        rows.append((family, *(f"{value:.3f}" for value in cells), f"{resident:.1f}"))
    header = ("model", "first reply, median s", "min s", "max s", "resident MiB")
    print_table(
        f"The server from start to first reply, {N_STARTS} starts", header, rows
    )


def measure_start(model_dir: Path) -> Start:
    """Start a server, ask it, and stop it."""
    artifact = ModelArtifact.FromString((model_dir / FILE_NAME).read_bytes())
    row = list(artifact.golden_examples[0].features)
    command = [sys.executable, "-m", "grpc_server", "--model-dir", str(model_dir)]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--http-port",
        "0",
        "--drain-seconds",
        "0",
    ]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = read_port(process)
        with PredictionClient(f"127.0.0.1:{port}") as client:
            client.predict(row)
            first_reply_seconds = time.perf_counter() - begin
            for _ in range(N_MORE_CALLS):
                client.predict(row)
        resident_mib = read_resident_mib(process.pid)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    return Start(first_reply_seconds, resident_mib)


def read_port(process: "subprocess.Popen[str]") -> int:
    """Wait until a server serves, and return its port."""
    assert process.stdout is not None
    events = map(json.loads, process.stdout)
    port = next(event["port"] for event in events if event["event"] == "listening")
    next(event for event in events if event["event"] == "serving")
    return int(port)


def read_resident_mib(pid: int) -> float:
    """Return the resident memory of a process from /proc."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / MIB
