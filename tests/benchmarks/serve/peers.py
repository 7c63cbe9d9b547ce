"""Other model servers, each in an environment of its own, beside ours."""

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serve.load import Figures, Request, Target, measure
from benchmarks.serve.models import Model
from benchmarks.serve.processes import find_port, running
from benchmarks.serve.servers import serving, wait_for_answer

PROGRAMS = Path(__file__).parents[1] / "peers"
# The package whose version is that of the server, and what it speaks.
PEERS = {
    "FastAPI": ("fastapi", "fastapi_app.py"),
    "LitServe": ("litserve", "litserve_app.py"),
    "BentoML": ("bentoml", "bentoml_app.py"),
    "MLServer": ("mlserver", "mlserver_app.py"),
    "KServe": ("kserve", "kserve_app.py"),
    "Ray Serve": ("ray", "ray_app.py"),
    "mlflow models serve": ("mlflow", "mlflow_app.py"),
    "PyTriton": ("nvidia-pytriton", "pytriton_app.py"),
}
OURS = "this server"
_INSTALL_SECONDS = 900
_PREPARE_SECONDS = 120
_N_PORTS = 3
_N_ROUNDS = 3


class PeerAbsent(Exception):
    """A peer that cannot be installed here, or does not run."""


@dataclass(frozen=True, slots=True)
class PeerResult:
    """One peer beside ours; figures by server and calls in flight, others by server."""

    version: str
    protocol: str
    figures: dict[str, dict[int, Figures]]
    first_reply_seconds: dict[str, float]
    resident_mib: dict[str, float]


def measure_peer(
    h2load: str, name: str, family: str, model: Model, work: Path
) -> PeerResult:
    """Start a peer and our server and measure them in turn.

    Raises
    ------
    PeerAbsent
        If the peer is not to be had.
    """
    package, program = PEERS[name]
    python = install(PROGRAMS / program)
    folder = work / f"{program}-{family}".replace(" ", "-")
    request = prepare(python, PROGRAMS / program, folder, family)
    port = find_port(_N_PORTS)
    command = [python, str(PROGRAMS / program), "serve", str(folder), str(port)]
    with ExitStack() as stack:
        begin = time.perf_counter()
        processes = stack.enter_context(running(command, folder / "log"))
        peer = Target(name, port, request, processes)
        try:
            wait_for_answer(peer)
        except RuntimeError as error:
            tail = (folder / "log").read_text()[-300:]
            raise PeerAbsent(f"{error}: {tail}") from None
        seconds, begin = time.perf_counter() - begin, time.perf_counter()
        targets = [stack.enter_context(serving(OURS, model, work)), peer]
        our_seconds = time.perf_counter() - begin
        figures = measure(h2load, targets, _N_ROUNDS)
        return PeerResult(
            _version_of(python, package),
            request.protocol,
            figures,
            {OURS: our_seconds, name: seconds},
            {t.name: t.processes.resident_mib() for t in targets},
        )


def prepare(python: str, program: Path, folder: Path, family: str) -> Request:
    """Let a program write its model into a new folder, and return what to ask it."""
    folder.mkdir()
    _run([python, str(program), "prepare", str(folder), family])
    return _read_request(folder)


def install(program: Path) -> str:
    """Return the Python of a program's environment, which uv makes once and keeps.

    Raises
    ------
    PeerAbsent
        If it cannot be made, as without a network.
    """
    uv = [sys.executable, "-m", "uv", "--quiet"]
    with_python = ["--python", sys.executable]
    _run([*uv, "sync", "--script", str(program), *with_python], _INSTALL_SECONDS)
    find = [sys.executable, "-m", "uv", "python", "find", "--script", str(program)]
    return _run(find).strip()


def _run(command: list[str], seconds: float = _PREPARE_SECONDS) -> str:
    try:
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=seconds
        ).stdout
    except subprocess.CalledProcessError as error:
        raise PeerAbsent(error.stderr[-300:]) from None
    except subprocess.TimeoutExpired as error:
        raise PeerAbsent(f"not done after {error.timeout:.0f} s") from None


def _read_request(folder: Path) -> Request:
    said = json.loads((folder / "request.json").read_text())
    return Request(said["protocol"], said["path"], folder / "body", said["expected"])


def _version_of(python: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return _run([python, "-c", code]).strip()
