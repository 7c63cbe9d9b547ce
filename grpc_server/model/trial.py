"""`python -m grpc_server.model.trial FOLDER`: loads a model in a process of its own, under limits.

The process that serves takes a new model only after one of these could load it. So a file that
takes all memory, hangs or ends the process that reads it does so here.
"""

import ctypes
import json
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from grpc_server.errors import ArtifactUntried, StartupError
from grpc_server.model.artifact_limits import MAX_ARTIFACT_BYTES
from grpc_server.model.loading import load_model
from grpc_server.model.memory_room import find_room
from grpc_server.model.trial_load import EXIT_REFUSED, EXIT_UNTRIED, TRIAL_SECONDS

# Beyond what Python and the libraries take, for a model of the largest size that is allowed. The
# process that serves takes as much, once this one has ended.
_MEMORY_BYTES = 8 * MAX_ARTIFACT_BYTES
_PR_SET_PDEATHSIG = 1  # of Linux's <sys/prctl.h>


def _limit() -> None:
    # Nobody waits for the answer of a server that has ended.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    bytes_at_most = used + min(_MEMORY_BYTES, find_room())
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_at_most, bytes_at_most))
    seconds = int(TRIAL_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    # A crash leaves no dump behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    _limit()
    try:
        print(json.dumps(asdict(load_model(Path(arguments[0])).source)))
        return 0
    except StartupError as error:
        print(json.dumps({"error": str(error)}))
        is_untried = isinstance(error, ArtifactUntried)
        return EXIT_UNTRIED if is_untried else EXIT_REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
