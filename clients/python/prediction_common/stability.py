"""How far two distributions over the same bins are apart."""

from collections.abc import Sequence
from math import log

SMALLEST_SHARE = 1e-4
"""Shares below it count as this much, so that an empty bin gives a finite index."""

MAX_CALIBRATION_ERROR = 0.05
"""Above it, probabilities are no estimate of how often a class occurs."""


def index_stability(counts: Sequence[float], reference: Sequence[float]) -> float:
    """Return the population stability index.

    Parameters
    ----------
    counts : sequence of float
        Rows in each bin, 0 or more, and one or more in all.
    reference : sequence of float
        Share of each bin among the rows of the reference, [0, 1].

    Returns
    -------
    float
        Sum over the bins of (p - q) * ln(p / q), 0 or more: below 0.1 is little, above 0.25 much.
    """
    total = sum(counts)
    pairs = (
        (max(count / total, SMALLEST_SHARE), max(share, SMALLEST_SHARE))
        for count, share in zip(counts, reference, strict=True)
    )
    return sum((p - q) * log(p / q) for p, q in pairs)


def measure_distance(counts: Sequence[float], reference: Sequence[float]) -> float:
    """Return the Jensen-Shannon distance with logarithms of base 2.

    Parameters
    ----------
    counts, reference
        As in `index_stability`; the reference need not sum to 1.

    Returns
    -------
    float
        [0, 1]; 0 for equal distributions.
    """
    total, total_reference = sum(counts), sum(reference)
    divergence = 0.0
    for count, share in zip(counts, reference, strict=True):
        p, q = count / total, share / total_reference
        middle = (p + q) / 2
        divergence += sum(x * log(x / middle) for x in (p, q) if x > 0)
    return float(max(0.0, divergence / 2 / log(2)) ** 0.5)
