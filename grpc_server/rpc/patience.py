"""How long a call may keep the server waiting, and the thread that looks for overdue ones."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

# How often overdue calls are looked for, which is how late one may be found.
_TICK_SECONDS = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """What the server waits for, and how long.

    Parameters
    ----------
    message_seconds : float
        For the first message of a call, > 0.
    pause_seconds : float
        For the next message of a stream, > 0.
    taking_seconds : float
        For a caller to take an answer, > 0.
    """

    message_seconds: float
    pause_seconds: float
    taking_seconds: float


class Timekeeper:
    """A thread that looks at what is open, from `start` to `stop`.

    The calls themselves keep no time: most of them are over before they are ever looked at.

    Parameters
    ----------
    look : callable of float
        Is told the time, by the monotonic clock in seconds, several times a second.
    """

    def __init__(self, look: Callable[[float], None]) -> None:
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="timekeeper", daemon=True
        )

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            try:
                self._look(monotonic())
            except Exception:
                _log.exception("overdue calls not ended")
