"""Lets a process of its own load a model before this one does; itself, it knows no model."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from grpc_server.errors import ArtifactCorrupt, ArtifactUntried

TRIAL_SECONDS = 120.0
# How the program says that its answer is an error. Python's own is 1.
EXIT_REFUSED = 3
EXIT_UNTRIED = 4
_PROGRAM = "grpc_server.model.trial"
_POLL_SECONDS = 0.1
_SOURCE_FIELDS = ("registered_model", "version", "run_id", "sha256")


def try_to_load(folder: Path, give_up: Callable[[], bool]) -> Mapping[str, str]:
    """Load the model in `folder` in a process of its own.

    Parameters
    ----------
    folder : Path
        As for `load_model`.
    give_up : callable
        Returns True once the answer does not matter any more.

    Returns
    -------
    mapping of str to str
        The fields of the `ModelSource` of what was loaded.

    Raises
    ------
    ArtifactCorrupt
        If the model cannot be loaded.
    ArtifactUntried
        If the process could not begin, or ended without an answer, as it does at its limits.
    """
    child = _begin(folder)
    output = _read(child, give_up)
    if child.returncode < 0:
        raise ArtifactUntried(
            f"{folder}: a process that tried to load it was ended by signal "
            f"{-child.returncode}, or had no more than {TRIAL_SECONDS:g} s"
        )
    try:
        told = json.loads(output)
        if child.returncode == EXIT_UNTRIED:
            raise ArtifactUntried(told["error"])
        if child.returncode == EXIT_REFUSED:
            raise ArtifactCorrupt(told["error"])
        return {name: str(told[name]) for name in _SOURCE_FIELDS}
    except (ValueError, KeyError, TypeError):
        raise ArtifactUntried(
            f"{folder}: a process that tried to load it ended with {child.returncode}"
        ) from None


def _begin(folder: Path) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        raise ArtifactUntried(
            f"{folder}: no process can begin to try it: {error.strerror}"
        ) from None


def _read(child: "subprocess.Popen[bytes]", give_up: Callable[[], bool]) -> bytes:
    """Return the output of a child that has ended, of itself or because its time was over."""
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
