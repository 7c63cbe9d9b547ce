"""`python -m grpc_server.model.trial FOLDER [KEYS NAME]`: loads a model in another process.

The process has limits.

The serving process loads a new model only after such a trial has succeeded. So a file that takes
all memory, hangs, or crashes its reader does so here.
"""

import ctypes
import json
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from grpc_server.errors import ArtifactUntried, StartupError
from grpc_server.model.artifact_limits import MAX_ARTIFACT_BYTES
from grpc_server.model.loading import load_model
from grpc_server.model.memory_room import find_room
from grpc_server.trial_load import EXIT_REFUSED, EXIT_UNTRIED, TRIAL_SECONDS
from grpc_server.trust import Trust

# Memory for the largest allowed model, beyond what Python and the libraries take. The serving
# process needs as much after the trial.
_MEMORY_BYTES = 8 * MAX_ARTIFACT_BYTES
_PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def _limit() -> None:
    # End together with the server: nobody else reads the result.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    bytes_at_most = used + min(_MEMORY_BYTES, find_room())
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_at_most, bytes_at_most))
    seconds = int(TRIAL_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    # A crash must not leave a core dump behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_limited(work: Callable[[], Mapping[str, object]]) -> int:
    """Do what another process waits for, under limits, and print the answer or the error.

    Parameters
    ----------
    work : callable
        Returns the answer, or raises a StartupError.

    Returns
    -------
    int
        Exit code of the program.
    """
    _limit()
    try:
        print(json.dumps(work()))
        return 0
    except StartupError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        is_untried = isinstance(error, ArtifactUntried)
        return EXIT_UNTRIED if is_untried else EXIT_REFUSED


def _load(arguments: Sequence[str]) -> Mapping[str, object]:
    trust = Trust.from_arguments(arguments[1:])
    return asdict(load_model(Path(arguments[0]), trust).source)


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    return run_limited(lambda: _load(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
