"""Limits of a mean that hold for any number of observations, without assuming a distribution.

For the mean of n independent values in [0, 1] with expectation p, Hoeffding (1963) proves
P(mean >= x) <= exp(-n KL(x, p)) for x >= p, and the same below p. KL is the relative entropy of two
coins. Turned around, this gives limits for p, which are narrow near 0 and 1.
"""

from math import exp, log

_N_BISECTIONS = 40


def bound_tail(mean: float, n: int, expected: float) -> float:
    """Return the largest probability of a mean as high as this.

    Parameters
    ----------
    mean : float
        Mean that was seen, [0, 1].
    n : int
        Number of values, 1 or more.
    expected : float
        Largest expectation that is allowed, [0, 1].

    Returns
    -------
    float
        [0, 1]; 1 if `mean` is not above `expected`.
    """
    return 1.0 if mean <= expected else exp(-n * _entropy(mean, expected))


def find_limits(mean: float, n: int, level: float) -> tuple[float, float]:
    """Return limits that the expectation is outside of with a small probability.

    Parameters
    ----------
    mean : float
        Mean that was seen, [0, 1].
    n : int
        Number of values, 1 or more.
    level : float
        Largest probability that the expectation is below the first limit, and that it is above the
        second, (0, 1).

    Returns
    -------
    tuple of float
        Lower and upper limit, [0, 1].
    """
    room = -log(level) / n
    return _search(mean, 0.0, room), _search(mean, 1.0, room)


def _search(mean: float, end: float, room: float) -> float:
    """Return the outermost value between `mean` and `end` that is not too unlikely."""
    inside, outside = mean, end
    for _ in range(_N_BISECTIONS):
        middle = (inside + outside) / 2
        if _entropy(mean, middle) <= room:
            inside = middle
        else:
            outside = middle
    # The outer end of the last interval, so that rounding only widens the limits.
    return outside


def _entropy(x: float, p: float) -> float:
    """Return the relative entropy of a coin with chance x to one with chance p."""
    if x == p:
        return 0.0
    if p <= 0.0 or p >= 1.0:
        return float("inf")
    total = 0.0
    if x > 0.0:
        total += x * log(x / p)
    if x < 1.0:
        total += (1.0 - x) * log((1.0 - x) / (1.0 - p))
    return total
