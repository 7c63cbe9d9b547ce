"""The slot of one process: the process that is in it, and when it last gave a sign of life.

::

    empty ── fill ──> starting ── first line ──> speaking ── loaded ──> ready
      ^                  │ silent > 180 s           │ silent > 10 s       │ silent > 4 s
      │                  v                          v                     v
      │                killed <───────────────── hanging <───────── not ready
      │                  │                                 silent > 10 s
      └──── clear ───────┴── the process ends, in any state
"""

import signal
import socket
import subprocess
import time

from grpc_server.trial_load import TRIAL_SECONDS

# A process sends a beat about every second while its own server answers it. After the first silence
# it no longer counts as ready; after the second it counts as hanging and is replaced.
_QUIET_SECONDS = 4.0
MAX_SILENCE_SECONDS = 10.0
# Before its first line, a process starts and loads its model, which may take as long as a trial.
MAX_START_SECONDS = TRIAL_SECONDS + 60.0
# A process that has closed its stream only needs to leave its interpreter.
_LEAVE_SECONDS = 10.0


class Slot:
    """The place of one process, and of its successor.

    The supervisor holds its lock whenever a slot changes.

    Parameters
    ----------
    number : int
        Number of the slot, from 0, which its processes share.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.n_quick_ends = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        self.is_loaded = self.is_leaving = False
        self.has_all_metrics = True
        self._is_killed = False
        self._has_spoken = False
        self._heard_at = 0.0

    @property
    def silence_seconds(self) -> float:
        """Time since the process started or last gave a sign of life."""
        return time.monotonic() - self._heard_at

    @property
    def is_ready(self) -> bool:
        """Whether a process is there, has a model, answers and does not stop."""
        is_heard = self.silence_seconds <= _QUIET_SECONDS
        is_going = self.is_leaving or self._is_killed
        return self.is_loaded and is_heard and not is_going

    @property
    def is_hanging(self) -> bool:
        """Whether a process is there and has been silent for too long."""
        limit = MAX_SILENCE_SECONDS if self._has_spoken else MAX_START_SECONDS
        is_there = self.process is not None and not self._is_killed
        return is_there and self.silence_seconds > limit

    def fill(self, process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
        """Put in a process that has just been started."""
        self.process, self.control = process, control
        self._is_killed = self._has_spoken = False
        self._heard_at = time.monotonic()

    def clear(self) -> None:
        """Take out the process, which has ended."""
        if self.control is not None:
            self.control.close()
        self.process = self.control = None
        self.is_loaded = self.is_leaving = False
        self.has_all_metrics = True

    def hear(self) -> None:
        """Record a sign of life of the process."""
        self._has_spoken, self._heard_at = True, time.monotonic()

    def forgive(self, seconds: float) -> None:
        """Do not count `seconds` of silence, in which the supervisor did not listen."""
        self._heard_at += seconds

    def kill(self) -> None:
        """Kill the process; it no longer counts as ready."""
        assert self.process is not None
        self.process.kill()
        self._is_killed = True


def wait_for_end(
    process: "subprocess.Popen[bytes]", leave_seconds: float = _LEAVE_SECONDS
) -> str:
    """Wait for the end of a process that has closed its stream, and kill it if it hangs.

    Parameters
    ----------
    process : subprocess.Popen
        The process.
    leave_seconds : float
        Time to wait before the kill, > 0.

    Returns
    -------
    str
        How the process ended, in words.
    """
    try:
        code = process.wait(leave_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "a kill: it hung while it ended"
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
