"""SIGTERM and SIGINT as events, for the programs that serve and those that fetch.

A handler runs in the main thread between any two of its steps, so it must not wait for anything:
the thread may be holding the very lock that `Event.set` needs. With that, two signals within 0.2 ms
kept one of four servers from ever ending. The handler here does nothing. The interpreter itself
writes the number of each signal into a socket, and a thread that reads it sets the events.
"""

import signal
import socket
import threading
from types import FrameType

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Turns SIGTERM and SIGINT into events: the first asks to stop, any further one to hurry.

    To be made once, by the main thread.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hurry = threading.Event()
        self._receiver, sender = socket.socketpair()
        sender.setblocking(False)
        self._sender = sender  # kept open
        # Where thousands come, the first ones have said it all.
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
        # A person at a terminal does not want to wait for balancers.
        if self.stop.is_set() or number == signal.SIGINT:
            self.hurry.set()
        self.stop.set()


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Keep the signal from ending the process."""
