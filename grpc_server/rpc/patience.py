"""Time limits of calls, and the thread that looks for overdue calls."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

# Time between two looks for overdue calls, so the most that one is found late.
_TICK_SECONDS = 0.25

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits of calls.

    Parameters
    ----------
    message_seconds : float
        Longest wait for the first message of a call, > 0.
    pause_seconds : float
        Longest wait for the next message of a stream, > 0.
    taking_seconds : float
        Longest time for a caller to receive a reply, > 0.
    """

    message_seconds: float
    pause_seconds: float
    taking_seconds: float


class Timekeeper:
    """A thread that looks at the open calls, from `start` to `stop`.

    Calls have no timers of their own: most are over before the first look.

    Parameters
    ----------
    look : callable
        Called several times a second with the time of the monotonic clock, in seconds.
    """

    def __init__(self, look: Callable[[float], None]) -> None:
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="timekeeper", daemon=True
        )

    def start(self) -> None:
        """Start looking."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            try:
                self._look(monotonic())
            except Exception:
                _log.exception("overdue calls not ended")
