"""The folder of one server's metric files; a killed server leaves its folder behind."""

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

_PREFIX = "prediction-metrics-"
# Locked while the server runs; the kernel unlocks it, however the server ends.
_LOCK = "lock"

_log = logging.getLogger(__name__)


def enter_metric_folder(stack: ExitStack) -> Path:
    """Create a folder that lasts as long as `stack`, and remove folders of killed servers.

    Calls are answered even without a folder. The returned path cannot exist then, and the metrics
    report that they are incomplete.

    Parameters
    ----------
    stack : ExitStack
        Removes the folder when it closes.

    Returns
    -------
    Path
        The folder.
    """
    try:
        return _enter(stack)
    except OSError as error:
        fields = {"reason": str(error)}
        _log.error("no folder for metrics can be made", extra={"fields": fields})
        return Path(os.devnull) / "none"


def _enter(stack: ExitStack) -> Path:
    made = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    folder = Path(stack.enter_context(made))
    _remove_left_over(folder.parent)
    lock = stack.enter_context(open(folder / _LOCK, "w"))
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder


def _remove_left_over(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.lstat().st_uid == os.geteuid():
                _remove_if_unlocked(folder)
        except OSError as error:
            # Its server runs, or has just removed it.
            fields = {"folder": str(folder), "reason": error.strerror}
            _log.debug("folder of metrics kept", extra={"fields": fields})


def _remove_if_unlocked(folder: Path) -> None:
    lock = os.open(folder / _LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
