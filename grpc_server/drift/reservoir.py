"""A uniform sample of the rows that come between two looks; others cost next to nothing."""

from collections.abc import Callable, Sequence
from math import log
from random import Random
from threading import Lock
from time import monotonic
from typing import NamedTuple

from grpc_server.model import LoadedModel

# Part of the sample that is aimed at, so that a little more traffic does not fill it.
_AIM = 0.9
# After a shorter time, a rate is no measure of the next second.
_MIN_SECONDS = 0.5


class Answer(NamedTuple):
    """An answered row; a tuple, because it is made on the callers' path.

    Parameters
    ----------
    model : LoadedModel
        Model that answered.
    row : sequence of float
        n_features values, NaN where missing.
    probabilities : sequence of float
        n_classes values.
    position : int
        Position of the predicted class.
    """

    model: LoadedModel
    row: Sequence[float]
    probabilities: Sequence[float]
    position: int


class Reservoir:
    """Keeps at most `size` rows; each that came has the same chance. Any thread may offer.

    While the rate is low, all rows are kept. From the rate of the last look follows the share of
    the rows to keep until the next one: the gaps between them are drawn, so that a row within a gap
    costs one addition and one comparison. Should too many come all the same, each replaces another
    or not, with the right chance (Vitter's algorithm R).

    Parameters
    ----------
    size : int
        Most rows to keep, 1 or more.
    random : Random
        Draws the sample.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(
        self, size: int, random: Random, clock: Callable[[], float] = monotonic
    ) -> None:
        self._size = size
        self._random = random
        self._clock = clock
        self._lock = Lock()
        self._rate = 0.0
        self._began_at = clock()
        self._n_seen = 0
        # Number of the next row to keep, from 1.
        self._next = 0
        self._n_kept = 0
        self._rows: list[Answer] = []
        self._n_offered = 0
        # Share of the rows that are kept, as long as there is room.
        self._share = 1.0

    def offer(
        self,
        model: LoadedModel,
        row: Sequence[float],
        probabilities: Sequence[float],
        position: int,
    ) -> None:
        """Offer one answered row, see `Answer`; nobody may change it any more."""
        # Without the lock, threads may lose an addition, and the next row is kept a little later.
        n_seen = self._n_seen = self._n_seen + 1
        if n_seen < self._next:
            return
        with self._lock:
            self._keep(n_seen, Answer(model, row, probabilities, position))

    def offer_many(self, n_rows: int, take: Callable[[int], Answer]) -> None:
        """Offer the rows of a batch.

        Parameters
        ----------
        n_rows : int
            Number of rows.
        take : callable
            Returns the row of a number in [0, n_rows); called for those that are kept.
        """
        with self._lock:
            start = self._n_seen
            self._n_seen += n_rows
            number = max(0, self._next - start - 1)
            while number < n_rows:
                self._keep(start + number + 1, take(number))
                number = max(number + 1, self._next - start - 1)

    def take_all(self) -> list[Answer]:
        """Return the kept rows, and begin anew."""
        with self._lock:
            rows, self._rows = self._rows, []
            self._n_offered += self._n_seen
            self._n_seen = self._n_kept = 0
            self._measure_rate()
            is_low = self._rate <= self._size
            self._share = 1.0 if is_low else _AIM * self._size / self._rate
            self._next = self._draw_gap()
        return rows

    def resize(self, size: int) -> None:
        """Keep at most `size` rows from now on, 1 or more; those that are kept are dropped."""
        with self._lock:
            self._size = size
            self._rows = []
            self._n_kept = 0

    def _measure_rate(self) -> None:
        now = self._clock()
        seconds = now - self._began_at
        if seconds >= _MIN_SECONDS:
            # Falls slowly, as a burst seldom comes alone.
            self._rate = max(self._n_offered / seconds, self._rate / 2)
            self._began_at, self._n_offered = now, 0

    def _keep(self, n_seen: int, row: Answer) -> None:
        self._n_kept += 1
        if len(self._rows) < self._size:
            self._rows.append(row)
        else:
            number = self._random.randrange(self._n_kept)
            if number < self._size:
                self._rows[number] = row
        if self._n_kept >= 2 * self._size:
            # A sample of these rows is a sample of any half of them as well.
            self._n_kept //= 2
            self._share /= 2
        self._next = n_seen + self._draw_gap()

    def _draw_gap(self) -> int:
        """Return how many rows there are up to the next one to keep, 1 or more."""
        if self._share == 1.0:
            return 1
        # 1 minus a number in [0, 1), which has a logarithm.
        return 1 + int(log(1.0 - self._random.random()) / log(1.0 - self._share))
