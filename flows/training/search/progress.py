"""The progress of a running shard: figures every few seconds, for a line and for a picture."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isnan, nan

from training.search.values import Shard, SplitScore

INTERVAL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shard is.

    Parameters
    ----------
    n_done, n_all : int
        Number of scores so far and in the end: one for each candidate and split.
    best_score : float
        Best mean score so far, among the candidates with scores on the most splits.
    n_splits : int
        The number of these splits. The best score is that of the search once it has all of them.
    elapsed_seconds : float
        Seconds since the beginning.
    left_seconds : float
        Expected seconds until the end, from the cost and the time of the scores so far, and no
        more than the search has.
    """

    n_done: int
    n_all: int
    best_score: float
    n_splits: int
    elapsed_seconds: float
    left_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.n_done} of {self.n_all} scores, best so far {self.best_score:.6g} "
            f"on {self.n_splits} {'fold' if self.n_splits == 1 else 'folds'}, "
            f"{self.elapsed_seconds:.0f} s elapsed, about {self.left_seconds:.0f} s left"
        )


Watch = Callable[[Progress], None]


class Meter:
    """Counts scores, and calls a function with the progress every few seconds.

    Parameters
    ----------
    shard : Shard
        All tasks of the shard.
    watch : callable
        Gets the progress.
    clock : callable
        Returns seconds that never decrease, such as `time.monotonic`.
    max_seconds : float, default=inf
        Seconds after which the search stops.
    """

    def __init__(
        self,
        shard: Shard,
        watch: Watch,
        clock: Callable[[], float],
        max_seconds: float = inf,
    ) -> None:
        self._max_seconds = max_seconds
        self._watch, self._clock = watch, clock
        self._costs = {
            (candidate, task.split): cost
            for task in shard
            for candidate, cost in task.shared_fit.split_cost().items()
        }
        self._total_cost = sum(self._costs.values())
        self._done_cost, self._n_done = 0.0, 0
        self._scores: dict[int, list[float]] = {}
        self._begin = self._last_report = clock()

    def count(self, split_score: SplitScore) -> None:
        """Count a score of a single metric."""
        candidate = split_score.candidate
        self._n_done += 1
        self._done_cost += self._costs[candidate, split_score.split]
        self._scores.setdefault(candidate, []).append(split_score.test_scores)
        now = self._clock()
        if now - self._last_report >= INTERVAL_SECONDS:
            self._last_report = now
            self._watch(self._measure(now))

    def look(self) -> Progress | None:
        """Return the progress now; None if there is no score yet."""
        return self._measure(self._clock()) if self._n_done else None

    def _measure(self, now: float) -> Progress:
        most = max(map(len, self._scores.values()))
        full = [scores for scores in self._scores.values() if len(scores) == most]
        elapsed = now - self._begin
        left = elapsed * (self._total_cost - self._done_cost) / self._done_cost
        left = min(left, max(0.0, self._max_seconds - elapsed))
        means = [sum(scores) / most for scores in full]
        # A fit that failed has the score nan.
        best = max((mean for mean in means if not isnan(mean)), default=nan)
        return Progress(self._n_done, len(self._costs), best, most, elapsed, left)
