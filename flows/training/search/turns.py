"""Tasks in turns: the order of work in a search that may be stopped.

A score is worth something if its candidate has one on every split. So the cheapest fit goes first,
on all splits side by side, and the shortest of its candidates before the next one.
"""

import heapq
import threading
from collections.abc import Callable, Iterator

from training.search.values import ShouldStop, Task

# What `next` returns at the end of a task's scores.
END = object()


class Turns:
    """Tasks that take turns: each fit gives a score on every split before its next score.

    Parameters
    ----------
    tasks : list of Task
        Tasks in any order; the cheapest fit begins.
    work : callable
        Returns an iterator that does a task, and pauses after each score.
    should_stop : callable
        Says whether to take no more turns.
    """

    def __init__(
        self,
        tasks: list[Task],
        work: Callable[[Task], Iterator[None]],
        should_stop: ShouldStop,
    ) -> None:
        self._work, self._should_stop = work, should_stop
        self._tasks = sorted(tasks, key=_order_fits)
        ranks = {fit: n for n, fit in enumerate(t.shared_fit for t in self._tasks)}
        # The rank of the fit, the number of its turn, and the task, which makes entries unique.
        self._queue = [
            (ranks[task.shared_fit], 0, number)
            for number, task in enumerate(self._tasks)
        ]
        self._begun: dict[int, Iterator[None]] = {}
        self._lock, self._is_over = threading.Lock(), threading.Event()

    def drop(self) -> None:
        """Let no turn begin any more, after an error in one of the threads."""
        self._is_over.set()

    def take_all(self) -> None:
        """Take turns until there are none; several threads may do so."""
        while not (self._is_over.is_set() or self._should_stop()):
            with self._lock:
                if not self._queue:
                    return
                rank, turn, number = heapq.heappop(self._queue)
            scores = self._begun.pop(number, None) or self._work(self._tasks[number])
            if next(scores, END) is END:
                continue
            with self._lock:
                self._begun[number] = scores
                heapq.heappush(self._queue, (rank, turn + 1, number))


def _order_fits(task: Task) -> tuple[float, tuple[int, ...], int]:
    return task.shared_fit.cost, task.shared_fit.candidates, task.split
