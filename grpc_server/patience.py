"""How long a call may keep others waiting: nothing is held for a peer that does not go on."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

_Waiter = TypeVar("_Waiter")
# How often overdue waiters are looked for, which is how late they may be found.
_TICK_SECONDS = 0.25


class Patience(Generic[_Waiter]):
    """Waiters that all have the same time, and what becomes of one whose time is over.

    Safe for any thread without a lock: removing a waiter from the dictionary is one step, and
    whoever removes it goes on with it. So a waiter either arrives or is overdue, and never both.

    Parameters
    ----------
    seconds : float
        Time that each waiter has, > 0.
    give_up : callable
        Ends a waiter whose time is over.
    """

    __slots__ = ("_begin_by_waiter", "_give_up", "_seconds")

    def __init__(self, seconds: float, give_up: Callable[[_Waiter], None]) -> None:
        self._seconds = seconds
        self._give_up = give_up
        # In the order in which they began, which is the order in which they are overdue.
        self._begin_by_waiter: dict[_Waiter, float] = {}

    def begin(self, waiter: _Waiter) -> None:
        """Count the time of a waiter from now on."""
        self._begin_by_waiter[waiter] = monotonic()

    def end(self, waiter: _Waiter) -> bool:
        """Forget a waiter that has arrived; return False if it has been given up before."""
        return self._begin_by_waiter.pop(waiter, None) is not None

    def give_up_overdue(self) -> None:
        """Give up the waiters whose time is over."""
        latest_begin = monotonic() - self._seconds
        while (waiter := self._find_oldest()) is not None:
            begin = self._begin_by_waiter.get(waiter)
            if begin is not None and begin > latest_begin:
                return
            if self.end(waiter):
                self._give_up(waiter)

    def _find_oldest(self) -> _Waiter | None:
        while True:
            try:
                return next(iter(self._begin_by_waiter), None)
            except RuntimeError:  # changed just now by another thread
                continue


class Timekeeper:
    """A thread that looks for overdue waiters, from `start` to `stop`."""

    def __init__(self) -> None:
        self._kept: list[Patience[object]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="timekeeper", daemon=True
        )

    def keep(
        self, seconds: float, give_up: Callable[[_Waiter], None]
    ) -> Patience[_Waiter]:
        """Return the patience for one kind of waiter, to be called before `start`."""
        patience = Patience(seconds, give_up)
        self._kept.append(patience)  # type: ignore[arg-type]  # only asked to give up
        return patience

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
            for patience in self._kept:
                patience.give_up_overdue()
