"""The counts of one model's rows in its bins."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

from grpc_server.drift.layout import Layout

if TYPE_CHECKING:
    # The supervisor adds counts up, and must not import gRPC, which the model's package does.
    from grpc_server.drift.reservoir import Answer
    from grpc_server.drift.watch import Watch
    from grpc_server.model.reference import FeatureBins

# Rows that are looked at for features of which only the index is shown, of those of one look.
MAX_ROWS_OF_OTHERS = 100
# The index is of this many rows at least, and of twice as many at most.
WINDOW_ROWS = 5_000


@dataclass(slots=True)
class Counts:
    """What was counted; everything but the windows only grows.

    Attributes
    ----------
    n_rows : float
        Rows.
    bins : list of list of float
        Rows in each bin of each feature.
    scores : list of float
        Rows in each bin of the score.
    fine_rows, fine_probability, fine_squares : list of float
        Rows in each fine bin, and the sums of the probabilities of the second class and of their
        squares.
    outcomes : list of list of float
        Sum of the probabilities of each class, by predicted class; only that of the predicted
        class itself if the layout is not square.
    window, past_window : list of list of float
        Rows in each bin of the other features, lately and before.
    """

    n_rows: float
    bins: list[list[float]]
    scores: list[float]
    fine_rows: list[float]
    fine_probability: list[float]
    fine_squares: list[float]
    outcomes: list[list[float]]
    window: list[list[float]]
    past_window: list[list[float]]

    @classmethod
    def empty(cls, layout: Layout) -> "Counts":
        """Return counts of nothing."""
        n_classes, n_fine = len(layout.classes), len(layout.fine_bins)
        return cls(
            n_rows=0.0,
            bins=_zeros([len(feature.bins) for feature in layout.features]),
            scores=[0.0] * len(layout.scores.bins),
            fine_rows=[0.0] * n_fine,
            fine_probability=[0.0] * n_fine,
            fine_squares=[0.0] * n_fine,
            outcomes=_zeros([n_classes if layout.is_square else 1] * n_classes),
            window=_zeros([len(feature.bins) for feature in layout.others]),
            past_window=_zeros([len(feature.bins) for feature in layout.others]),
        )

    def add(self, other: "Counts") -> None:
        """Add the counts of another process of the same layout."""
        self.n_rows += other.n_rows
        for name in ("scores", "fine_rows", "fine_probability", "fine_squares"):
            _add(getattr(self, name), getattr(other, name))
        for name in ("bins", "outcomes", "window", "past_window"):
            for mine, more in zip(
                getattr(self, name), getattr(other, name), strict=True
            ):
                _add(mine, more)


def count(
    counts: Counts, watch: "Watch", rows: "Sequence[Answer]", rest: Callable[[], None]
) -> None:
    """Count rows.

    Parameters
    ----------
    counts : Counts
        Is added to.
    watch : "Watch"
        What to count.
    rows : sequence of Answer
        Answers of the watched model.
    rest : callable
        Called between two features, so that calls need not wait for the whole.
    """
    if not rows:
        return
    counts.n_rows += len(rows)
    _count_features(counts.bins, watch.features, rows, rest)
    _count_scores(counts, watch, rows)
    _count_outcomes(counts.outcomes, watch.layout, rows)
    if not watch.others:
        return
    if sum(counts.window[0]) >= WINDOW_ROWS:
        counts.past_window = counts.window
        counts.window = _zeros(list(map(len, counts.window)))
    some = rows[:: -(-len(rows) // MAX_ROWS_OF_OTHERS)]
    _count_features(counts.window, watch.others, some, rest)


def _count_features(
    counts: list[list[float]],
    features: "Sequence[FeatureBins]",
    rows: "Sequence[Answer]",
    rest: Callable[[], None],
) -> None:
    values_of_row = [answer.row for answer in rows]
    for row_counts, bins in zip(counts, features, strict=True):
        position, part = bins.position, bins.part
        # Only NaN differs from itself.
        values = [v for row in values_of_row if (v := row[position]) == v]
        row_counts[-1] += len(rows) - len(values)
        if part is not None:
            values = list(map(part, values))
        for number, n_rows in Counter(_find_bins(bins, values)).items():
            row_counts[number] += n_rows
        rest()


def _find_bins(bins: "FeatureBins", values: list[float]) -> list[int]:
    numbers = bins.bin_of_category
    if numbers is None:
        return list(map(bisect_left, repeat(bins.edges), values))
    return list(map(numbers.get, values, repeat(len(numbers))))


def _count_scores(counts: Counts, watch: "Watch", rows: "Sequence[Answer]") -> None:
    is_binary = len(watch.model.classes.labels) == 2
    score: Callable[[Sequence[float]], float] = (
        (lambda probabilities: probabilities[1]) if is_binary else max
    )
    for answer in rows:
        value = score(answer.probabilities)
        counts.scores[bisect_left(watch.score_edges, value)] += 1
        if counts.fine_rows:
            number = bisect_left(watch.fine_edges, value)
            counts.fine_rows[number] += 1
            counts.fine_probability[number] += value
            counts.fine_squares[number] += value * value


def _count_outcomes(
    outcomes: list[list[float]], layout: Layout, rows: "Sequence[Answer]"
) -> None:
    last = len(outcomes) - 1
    for answer in rows:
        if layout.is_square:
            _add(outcomes[answer.position], answer.probabilities)
        else:
            probability = answer.probabilities[answer.position]
            outcomes[min(answer.position, last)][0] += probability


def _zeros(lengths: Sequence[int]) -> list[list[float]]:
    return [[0.0] * length for length in lengths]


def _add(mine: list[float], more: Sequence[float]) -> None:
    for number, value in enumerate(more):
        mine[number] += value
