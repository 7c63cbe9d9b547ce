"""`python -m grpc_server.model.trial FOLDER`: loads a model in a process of its own, under limits.

The process that serves takes a new model only after one of these could load it. So a file that
takes all memory, hangs or ends the process that reads it does so here.
"""

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from grpc_server.errors import ArtifactCorrupt, ArtifactError
from grpc_server.model.loading import MAX_ARTIFACT_BYTES, load_model

_PROGRAM = "grpc_server.model.trial"
_SECONDS = 120.0
_POLL_SECONDS = 0.1
# Beyond what Python and the libraries take, for a model of the largest size that is allowed.
_MEMORY_BYTES = 8 * MAX_ARTIFACT_BYTES


def try_to_load(folder: Path, is_stopped: Callable[[], bool]) -> str:
    """Load the model in `folder` in a process of its own.

    Parameters
    ----------
    folder : Path
        As for `load_model`.
    is_stopped : callable
        Returns True once the answer does not matter any more.

    Returns
    -------
    str
        Digest of the file that was loaded.

    Raises
    ------
    ArtifactCorrupt
        If the model cannot be loaded, or not within the limits.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", _PROGRAM, str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    output = _read(child, is_stopped)
    if child.returncode < 0:
        raise ArtifactCorrupt(
            f"{folder}: a process that tried to load it was ended by signal "
            f"{-child.returncode}, or had no more than {_SECONDS:g} s"
        )
    try:
        told = json.loads(output)
        if child.returncode:
            raise ArtifactCorrupt(told["error"])
        return str(told["sha256"])
    except (ValueError, KeyError, TypeError):
        raise ArtifactCorrupt(
            f"{folder}: a process that tried to load it ended with {child.returncode}"
        ) from None


def _read(child: "subprocess.Popen[bytes]", is_stopped: Callable[[], bool]) -> bytes:
    """Return the output of a child that has ended, of itself or because its time was over."""
    timer = threading.Timer(_SECONDS, child.kill)
    timer.daemon = True
    timer.start()
    try:
        while True:
            try:
                return child.communicate(timeout=_POLL_SECONDS)[0]
            except subprocess.TimeoutExpired:
                if is_stopped():
                    child.kill()
    finally:
        timer.cancel()


def _limit() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    bytes_at_most = used + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_at_most, bytes_at_most))
    seconds = int(_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    # A crash leaves no dump behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    _limit()
    try:
        told = {"sha256": load_model(Path(arguments[0])).source.sha256}
    except ArtifactError as error:
        told = {"error": str(error)}
    print(json.dumps(told))
    return int("error" in told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
