"""How well each column predicts the class by itself: a column that does it too well may leak."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from training.data.rows import Rows
from training.data.schema import WITH_CATEGORIES, Schema

MAX_ROWS = 4000
MAX_CELLS = 10**7
MAX_COLUMNS = 20_000
N_BINS, MAX_VALUES = 20, 100
PRIOR = 0.5
# A column that removes more of the uncertainty is a suspect.
SUSPECT = 0.9
# Below, a column is none by its best split either, and is not split: that takes time.
PROMISING = 0.3
# Two bins remove little of the uncertainty between more classes.
MAX_SPLIT_CLASSES = 3


def measure_strengths(rows: Rows, schema: Schema) -> NDArray[np.float64]:
    """Measure which share of the uncertainty about the class each column alone removes.

    The column's values are put into bins. Half of the rows give each bin its class shares, and the
    other half is scored: 1 - log loss of these shares / log loss of the shares of all classes. Of
    few rows, bins hide a leak. So it counts too how well two bins do, which the first half chooses,
    and whether there is a value at all.

    Parameters
    ----------
    rows : Rows
        Rows to learn from; a sample is used.
    schema : Schema
        Columns and classes.

    Returns
    -------
    ndarray of float64, shape (n_features,)
        Share, [0, 1]; NaN beyond the first 20,000 columns.
    """
    n_all, n_features = rows.X.shape
    n_rows = min(n_all, MAX_ROWS, max(MAX_CELLS // n_features, 400))
    drawn = np.sort(np.random.default_rng(0).permutation(n_all)[:n_rows])
    first = np.random.default_rng(1).permutation(n_rows) < n_rows // 2
    n_columns, n_classes = min(n_features, MAX_COLUMNS), len(schema.class_labels)
    X, y = rows.X[drawn][:, :n_columns], rows.y[drawn]
    X = np.asarray(X) if isinstance(X, np.ndarray) else X.toarray()
    strengths = np.full(n_features, np.nan)
    for position, feature in enumerate(schema.features[:n_columns]):
        column = X[:, position]
        is_category = feature.kind in WITH_CATEGORIES
        bins = _find_bins(column, first, is_category=is_category)
        strength = _score(bins, y, first, n_classes)
        is_split = strength > PROMISING and n_classes <= MAX_SPLIT_CLASSES
        for each in _find_pairs(column, y, first, is_split=is_split):
            strength = max(strength, _score(each, y, first, n_classes))
        strengths[position] = strength
    return strengths


def _find_bins(
    column: NDArray[np.float64], first: NDArray[np.bool_], *, is_category: bool
) -> NDArray[np.int64]:
    """Return the bin of each value; gaps have one of their own."""
    is_gap = np.isnan(column)
    known = np.unique(column[first & ~is_gap])
    if is_category or len(known) <= MAX_VALUES:
        edges = known[:-1]
    else:
        shares = np.linspace(0, 1, N_BINS + 1)[1:-1]
        edges = np.unique(np.quantile(column[first & ~is_gap], shares, method="lower"))
    bins = np.searchsorted(edges, column)
    bins[is_gap] = len(edges) + 1
    return np.asarray(bins, dtype=np.int64)


def _find_pairs(
    column: NDArray[np.float64],
    y: NDArray[np.int64],
    first: NDArray[np.bool_],
    *,
    is_split: bool,
) -> Iterator[NDArray[np.int64]]:
    """Yield bins: gaps and values, and the two parts of the values that differ most in class."""
    is_gap = np.isnan(column)
    if is_gap.any():
        yield is_gap.astype(np.int64)
    chosen = np.flatnonzero(first & ~is_gap)
    chosen = chosen[np.argsort(column[chosen], kind="stable")]
    values = column[chosen]
    if not is_split or len(values) < 2 or values[0] == values[-1]:
        return
    below = np.cumsum(np.eye(int(y.max()) + 1)[y[chosen]], axis=0)
    loss = _measure_entropy(below) + _measure_entropy(below[-1] - below)
    loss[np.append(values[1:] == values[:-1], True)] = np.inf
    best = int(loss.argmin())
    # Halfway, because the other half of the rows has values between.
    bins = (column > values[best] / 2 + values[best + 1] / 2).astype(np.int64)
    bins[is_gap] = 2
    yield bins


def _measure_entropy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log loss of rows by their own class shares, from counts, shape (n, n_classes)."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.asarray(-(counts * np.log(np.where(shares > 0, shares, 1))).sum(axis=1))


def _score(
    bins: NDArray[np.int64],
    y: NDArray[np.int64],
    first: NDArray[np.bool_],
    n_classes: int,
) -> float:
    n_bins, others = int(bins.max()) + 1, ~first
    counts = np.bincount(
        bins[first] * n_classes + y[first], minlength=n_bins * n_classes
    )
    counts = counts.reshape(n_bins, n_classes)
    shares = (counts.sum(axis=0) + 1) / (counts.sum() + n_classes)
    in_bins = (counts + PRIOR * shares) / (counts.sum(axis=1, keepdims=True) + PRIOR)
    before = -np.log(shares[y[others]]).mean()
    after = -np.log(in_bins[bins[others], y[others]]).mean()
    return float(np.clip(1 - after / before, 0, 1))
