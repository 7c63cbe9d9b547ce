"""Runs a trial: another process loads a model before this one does, or times it on rows.

This module is outside of `grpc_server.model`, whose import brings gRPC: the supervisor, which runs
trials, saves that memory.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
_LOAD, _TIME = "grpc_server.model.trial", "grpc_server.model.row_latency"
_POLL_SECONDS = 0.1
# Errors that the program passes on as they are, by name; any other is an ArtifactCorrupt.
_KINDS: Mapping[str, type[ArtifactError]] = {
    kind.__name__: kind
    for kind in (ArtifactMissing, ArtifactUnverified, GoldenMismatch)
}
_SOURCE_FIELDS = ("registered_model", "version", "run_id", "sha256")
_TIME_FIELDS = ("median_us", "p99_us", "n_calls")


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
    more = () if trust is None else trust.to_arguments()
    answer = _ask(_LOAD, folder, more, _SOURCE_FIELDS, give_up)
    return {name: str(value) for name, value in answer.items()}


def try_on_rows(folder: Path) -> Mapping[str, float]:
    """Load the model in `folder` in another process, and time it there on one row after another.

    Parameters
    ----------
    folder : Path
        See `load_model`.

    Returns
    -------
    mapping of str to float
        The fields of the `RowLatency` of the model.

    Raises
    ------
    ArtifactError
        As in `try_to_load`.
    """
    answer = _ask(_TIME, folder, (), _TIME_FIELDS, give_up=lambda: False)
    return {name: float(value) for name, value in answer.items()}


def _ask(
    program: str,
    folder: Path,
    more: Sequence[str],
    names: Sequence[str],
    give_up: Callable[[], bool],
) -> Mapping[str, Any]:
    """Return the fields of the program's answer, or raise its error."""
    child = _begin(program, folder, more)
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
        return {name: answer[name] for name in names}
    except (ValueError, KeyError, TypeError):
        raise ArtifactUntried(
            f"{folder}: the process that tried to load it ended with exit code "
            f"{child.returncode}"
        ) from None


def _begin(
    program: str, folder: Path, more: Sequence[str]
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            [sys.executable, "-m", program, str(folder), *more],
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
