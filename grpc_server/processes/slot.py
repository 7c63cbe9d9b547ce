"""The place of one process of many: which one is in it, and when it was last heard of."""

import signal
import socket
import subprocess
import time

from grpc_server.model.trial_load import TRIAL_SECONDS

# A process beats about every second as long as its own server answers it. After some silence it is
# not counted as ready; after more it is taken for one that hangs, and another takes its place.
_QUIET_SECONDS = 4.0
MAX_SILENCE_SECONDS = 10.0
# Before its first word, a process starts and loads its model, which has as long as a trial.
MAX_START_SECONDS = TRIAL_SECONDS + 60.0
# A process that has hung up needs no more than to leave its interpreter.
_LEAVE_SECONDS = 10.0


class Slot:
    """The place of one process, and of the one after it when it dies.

    Whoever keeps the slots has a lock, and holds it whenever one changes.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.n_quick_ends = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        self.is_loaded = False
        self.has_all_metrics = True
        self._is_killed = False
        self._has_spoken = False
        self._heard_at = 0.0

    @property
    def silence_seconds(self) -> float:
        """Time since the start of the process, or since it was last heard of."""
        return time.monotonic() - self._heard_at

    @property
    def is_ready(self) -> bool:
        """Whether there is a process that has a model and answers."""
        is_heard = self.silence_seconds <= _QUIET_SECONDS
        return self.is_loaded and is_heard and not self._is_killed

    @property
    def is_hanging(self) -> bool:
        """Whether there is a process that has been silent for too long."""
        limit = MAX_SILENCE_SECONDS if self._has_spoken else MAX_START_SECONDS
        is_there = self.process is not None and not self._is_killed
        return is_there and self.silence_seconds > limit

    def fill(self, process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
        """Take in a process that has just been started."""
        self.process, self.control = process, control
        self._is_killed = self._has_spoken = False
        self._heard_at = time.monotonic()

    def clear(self) -> None:
        """Forget the process that has ended."""
        if self.control is not None:
            self.control.close()
        self.process = self.control = None
        self.is_loaded, self.has_all_metrics = False, True

    def hear(self) -> None:
        """Note that the process has given a sign of life."""
        self._has_spoken, self._heard_at = True, time.monotonic()

    def forgive(self, seconds: float) -> None:
        """Do not count a time in which nobody listened."""
        self._heard_at += seconds

    def kill(self) -> None:
        """Kill the process, which is not ready any more from now on."""
        assert self.process is not None
        self.process.kill()
        self._is_killed = True


def wait_for_end(process: "subprocess.Popen[bytes]") -> str:
    """Wait for the end of a process that has hung up, and return how it ended."""
    try:
        code = process.wait(_LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "a kill: it hung while it ended"
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
