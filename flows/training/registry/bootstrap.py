"""The paired bootstrap: how far a difference between two models may be chance.

The rows are drawn again, with replacement, as many as there are, 2,000 times. Both models are
scored on the same draws. The middle 95 % of the differences are the interval (Efron and Tibshirani,
"An Introduction to the Bootstrap", 1993, chapter 13: the percentile interval).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.registry.resampled_scores import ResampledScore

N_RESAMPLES = 2000
SEED = 0
CONFIDENCE = 0.95
CHUNK_BYTES = 32 * 2**20  # of weights at once; a few times as much is in use
# Fewer resamples with a score than this tell nothing of an interval.
MIN_SHARE = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """The interval of a difference.

    Parameters
    ----------
    low, high : float
        Its bounds. Without enough resamples that have a score, minus and plus infinity.
    """

    low: float
    high: float


def draw_weights(
    n_rows: int, n_resamples: int = N_RESAMPLES, seed: int = SEED
) -> Iterator[Floats]:
    """Draw resamples.

    Parameters
    ----------
    n_rows : int
        Number of rows, 1 or more.
    n_resamples : int
        Number of resamples.
    seed : int
        Seed of the draws.

    Yields
    ------
    ndarray of float64, shape (n_at_once, n_rows)
        How often each row was drawn. The number at once does not change the draws.
    """
    rng = np.random.default_rng(seed)
    n_at_once = max(1, CHUNK_BYTES // (8 * n_rows))
    for start in range(0, n_resamples, n_at_once):
        size = min(n_at_once, n_resamples - start)
        drawn = rng.integers(0, n_rows, (size, n_rows))
        drawn += np.arange(size)[:, np.newaxis] * n_rows
        counts = np.bincount(drawn.ravel(), minlength=size * n_rows)
        yield counts.reshape(size, n_rows).astype(np.float64)


def find_intervals(
    pairs: Sequence[tuple[ResampledScore, ResampledScore]], n_rows: int
) -> list[Interval]:
    """Return the interval of each difference, all on the same resamples.

    Parameters
    ----------
    pairs : sequence of pair of ResampledScore
        Scores whose difference, first minus second, is asked for.
    n_rows : int
        Number of rows that they score.

    Returns
    -------
    list of Interval
        An interval for each pair.
    """
    parts: list[list[Floats]] = [[] for _ in pairs]
    for weights in draw_weights(n_rows):
        for part, (first, second) in zip(parts, pairs, strict=True):
            part.append(first.score(weights) - second.score(weights))
    return [find_percentiles(np.concatenate(part)) for part in parts]


def find_percentiles(differences: Floats) -> Interval:
    """Return the middle 95 % of the differences, without those that are NaN."""
    known = differences[np.isfinite(differences)]
    if len(known) < MIN_SHARE * len(differences):
        return Interval(-np.inf, np.inf)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(float(low), float(high))
