"""SIGTERM and SIGINT as events, for the programs that serve and the program that fetches.

::

    signal ──> the interpreter writes its number to a socket ──> a thread reads it, sets the events

    first SIGTERM: stop          any further one: stop and hurry          SIGINT: stop and hurry

A signal handler runs in the main thread between any two of its steps. So it must not call
`Event.set`, whose lock that thread may hold: two signals within 0.2 ms kept one of four servers
from ever ending. The handler here does nothing.
"""

import signal
import socket
import threading
from types import FrameType

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Turns SIGTERM and SIGINT into events; to be created once, by the main thread.

    Attributes
    ----------
    stop : threading.Event
        Set by the first signal.
    hurry : threading.Event
        Set by SIGINT, and by any signal after the first.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hurry = threading.Event()
        self._receiver, sender = socket.socketpair()
        sender.setblocking(False)
        self._sender = sender  # kept open
        # If thousands of signals arrive, the first ones suffice.
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        for number in _NUMBERS:
            signal.signal(number, _do_nothing)
        threading.Thread(target=self._read, name="signals", daemon=True).start()

    def _read(self) -> None:
        while numbers := self._receiver.recv(64):
            for number in numbers:
                if number in _NUMBERS:
                    self._receive(number)

    def _receive(self, number: int) -> None:
        # SIGINT comes from a terminal, where nobody waits for balancers.
        if self.stop.is_set() or number == signal.SIGINT:
            self.hurry.set()
        self.stop.set()


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Keep the signal from ending the process."""
