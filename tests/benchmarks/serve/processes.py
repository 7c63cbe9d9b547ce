"""What runs, found again by a mark in its environment: some servers start many processes."""

import os
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
KIB_PER_MIB = 1024
_MARK = "BENCHMARK_MARK"


@dataclass(frozen=True, slots=True)
class Processes:
    """All processes of one server.

    Parameters
    ----------
    mark : str
        What their environment holds.
    first : Popen
        The one that was started.
    """

    mark: str
    first: "subprocess.Popen[str]"

    def cpu_seconds(self) -> float:
        """Return the processor time of those that run."""
        return sum(_cpu_seconds(pid) for pid in self._pids())

    def resident_mib(self) -> float:
        """Return the resident memory of those that run; what they share counts for each."""
        return sum(_resident_mib(pid) for pid in self._pids())

    def kill(self) -> None:
        """End those that run."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.first.communicate()

    def _pids(self) -> list[int]:
        pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
        return [pid for pid in pids if self.mark in _environ(pid)]


@contextmanager
def running(
    command: Sequence[str], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Processes]:
    """Run a server; what it prints goes to `log`."""
    mark = f"{_MARK}={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    with log.open("w") as output:
        first = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {}), name: value},
            text=True,
        )
    processes = Processes(mark, first)
    try:
        yield processes
    finally:
        processes.kill()


def find_port(n_ports: int = 1) -> int:
    """Return a port such that it and those after it are free."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port: int = listener.getsockname()[1]
        if all(_is_free(port + number) for number in range(n_ports)):
            return port


def wait_for_port(port: int, processes: Processes, timeout_seconds: float) -> None:
    """Return once something listens on the port.

    Raises
    ------
    RuntimeError
        If the server ends or the time does.
    """
    end = time.monotonic() + timeout_seconds
    while _is_free(port):
        if processes.first.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"nothing listens on port {port}")
        time.sleep(0.005)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _environ(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""  # it has ended


def _cpu_seconds(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _resident_mib(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(match[1]) / KIB_PER_MIB if match else 0.0
