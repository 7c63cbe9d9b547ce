"""Runs a trial: another process loads a model before this one does.

This module is outside of `grpc_server.model`, whose import brings gRPC: the supervisor, which runs
trials, saves that memory.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from grpc_server.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    ArtifactUntried,
    ArtifactUnverified,
    GoldenMismatch,
)
from grpc_server.trust import Trust

TRIAL_SECONDS = 120.0
# Exit codes of the program when its answer is an error. Python itself exits with 1.
EXIT_REFUSED = 3
EXIT_UNTRIED = 4
_PROGRAM = "grpc_server.model.trial"
_POLL_SECONDS = 0.1
# Errors that the program passes on as they are, by name; any other is an ArtifactCorrupt.
_KINDS: Mapping[str, type[ArtifactError]] = {
    kind.__name__: kind
    for kind in (ArtifactMissing, ArtifactUnverified, GoldenMismatch)
}
_SOURCE_FIELDS = ("registered_model", "version", "run_id", "sha256")


def try_to_load(
    folder: Path, give_up: Callable[[], bool], trust: Trust | None = None
) -> Mapping[str, str]:
    """Load the model in `folder` in another process.

    Parameters
    ----------
    folder : Path
        See `load_model`.
    give_up : callable
        Returns True once the result is no longer needed.
    trust : Trust or None
        See `load_model`.

    Returns
    -------
    mapping of str to str
        The fields of the `ModelSource` of the model.

    Raises
    ------
    ArtifactError
        If the model cannot be loaded.
    ArtifactUntried
        If the process could not start, or ended without an answer, as it does at its limits.
    """
    child = _begin(folder, () if trust is None else trust.to_arguments())
    output = _read(child, give_up)
    if child.returncode < 0:
        raise ArtifactUntried(
            f"{folder}: the process that tried to load it was ended by signal "
            f"{-child.returncode}, or took longer than {TRIAL_SECONDS:g} s"
        )
    try:
        answer = json.loads(output)
        if child.returncode == EXIT_UNTRIED:
            raise ArtifactUntried(answer["error"])
        if child.returncode == EXIT_REFUSED:
            raise _KINDS.get(answer["kind"], ArtifactCorrupt)(answer["error"])
        return {name: str(answer[name]) for name in _SOURCE_FIELDS}
    except (ValueError, KeyError, TypeError):
        raise ArtifactUntried(
            f"{folder}: the process that tried to load it ended with exit code "
            f"{child.returncode}"
        ) from None


def _begin(folder: Path, more: Sequence[str]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, str(folder), *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ArtifactUntried(
            f"{folder}: no process can start to try it: {error.strerror}"
        ) from None


def _read(child: "subprocess.Popen[bytes]", give_up: Callable[[], bool]) -> bytes:
    """Return the child's output once it has ended, or was killed for taking too long."""
    timer = threading.Timer(TRIAL_SECONDS, child.kill)
    timer.daemon = True
    timer.start()
    try:
        while True:
            try:
                return child.communicate(timeout=_POLL_SECONDS)[0]
            except subprocess.TimeoutExpired:
                if give_up():
                    child.kill()
    finally:
        timer.cancel()
