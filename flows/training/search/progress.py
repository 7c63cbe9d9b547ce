"""How far a running shard is: a line every few seconds, and the same figures for a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan, nan

from training.search.values import Row, Shard

INTERVAL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shard is.

    Parameters
    ----------
    n_done, n_all : int
        Scores that are there, and scores in all: one for each candidate and split.
    best_score : float
        Best mean score so far, of the candidates that were scored on the most splits.
    elapsed_seconds : float
        Time since the beginning.
    left_seconds : float
        Time left, if the rest takes as long as what was done, by its expected cost.
    """

    n_done: int
    n_all: int
    best_score: float
    elapsed_seconds: float
    left_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.n_done} of {self.n_all} scores, best so far {self.best_score:.6g}, "
            f"{self.elapsed_seconds:.0f} s gone, about {self.left_seconds:.0f} s left"
        )


Watch = Callable[[Progress], None]


class Meter:
    """Counts rows, and tells a watcher every few seconds.

    Parameters
    ----------
    shard : Shard
        Tasks to be done.
    watch : callable
        Gets the progress.
    clock : callable
        Seconds that never go back, such as `time.monotonic`.
    """

    def __init__(self, shard: Shard, watch: Watch, clock: Callable[[], float]) -> None:
        self._watch, self._clock = watch, clock
        # A task's cost is spread evenly over its candidates.
        self._costs = {
            (candidate, task.split): task.run.cost / len(task.run.candidates)
            for task in shard
            for candidate in task.run.candidates
        }
        self._total_cost = sum(self._costs.values())
        self._done_cost, self._n_done = 0.0, 0
        self._scores: dict[int, list[float]] = {}
        self._begin = self._told = clock()

    def count(self, row: Row) -> None:
        """Count a row of a single metric."""
        self._n_done += 1
        self._done_cost += self._costs[row.candidate, row.split]
        self._scores.setdefault(row.candidate, []).append(row.test_scores)
        now = self._clock()
        if now - self._told >= INTERVAL_SECONDS:
            self._told = now
            self._watch(self._measure(now))

    def look(self) -> Progress | None:
        """Return how far the shard is now, None if nothing is done."""
        return self._measure(self._clock()) if self._n_done else None

    def _measure(self, now: float) -> Progress:
        most = max(map(len, self._scores.values()))
        full = [scores for scores in self._scores.values() if len(scores) == most]
        elapsed = now - self._begin
        left = elapsed * (self._total_cost - self._done_cost) / self._done_cost
        means = [sum(scores) / most for scores in full]
        # Of fits that failed, the score is nan.
        best = max((mean for mean in means if not isnan(mean)), default=nan)
        return Progress(self._n_done, len(self._costs), best, elapsed, left)
