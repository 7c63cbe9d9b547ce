"""`python -m grpc_server.model.trial FOLDER`: loads a model in a process of its own, under limits.

The process that serves takes a new model only after one of these could load it. So a file that
takes all memory, hangs or ends the process that reads it does so here.
"""

import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from grpc_server.errors import ArtifactError
from grpc_server.model.artifact_limits import MAX_ARTIFACT_BYTES
from grpc_server.model.loading import load_model
from grpc_server.trial_load import TRIAL_SECONDS

# Beyond what Python and the libraries take, for a model of the largest size that is allowed.
_MEMORY_BYTES = 8 * MAX_ARTIFACT_BYTES


def _limit() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    bytes_at_most = used + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (bytes_at_most, bytes_at_most))
    seconds = int(TRIAL_SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    # A crash leaves no dump behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    _limit()
    told: dict[str, str]
    try:
        told = asdict(load_model(Path(arguments[0])).source)
    except ArtifactError as error:
        told = {"error": str(error)}
    print(json.dumps(told))
    return int("error" in told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
