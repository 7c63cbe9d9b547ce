"""SIGTERM and SIGINT as events, for the processes that serve and their supervisor."""

import signal
import threading
from types import FrameType


class Signals:
    """Turns SIGTERM and SIGINT into events: the first asks to stop, any further one to hurry."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hurry = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # A person at a terminal does not want to wait for balancers.
        if self.stop.is_set() or number == signal.SIGINT:
            self.hurry.set()
        self.stop.set()
