"""Bins of the reference distributions: few, and with enough rows in each."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

MAX_NUMBER_BINS = 10
MAX_CATEGORY_BINS = 20
MAX_SCORE_BINS = 20
N_FINE_BINS = 50
# With fewer rows in a bin, chance alone moves the index of stability too far.
MIN_ROWS_OF_BIN = 50
# A column of so few values has a bin for each, if the rows are many enough for all of them.
MAX_DISTINCT = 8
# Enough values to tell that a column has more than `MAX_DISTINCT`.
_N_FIRST = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One number of each row.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows,)
        Values, NaN where missing.
    weight : ndarray of float64, shape (n_rows,), or None
        How much each row counts, 0 or more; None if all count the same.
    """

    values: Vector
    weight: Vector | None

    @property
    def present(self) -> "Column":
        """The column without its gaps."""
        is_present = ~np.isnan(self.values)
        weight = None if self.weight is None else self.weight[is_present]
        return Column(self.values[is_present], weight)

    def measure_shares(self, numbers: NDArray[np.int64], n_bins: int) -> list[float]:
        """Return the share of each bin, given the number of each row's bin."""
        counts = np.bincount(numbers, self.weight, n_bins)
        return list((counts / counts.sum()).tolist())


def count_rows(weight: Vector | None, n_rows: int) -> float:
    """Return the number of rows of equal weight that tell as much (Kish's effective size)."""
    if weight is None:
        return float(n_rows)
    return float(weight.sum() ** 2 / (weight**2).sum())


def limit_bins(n_rows: float, n_most: int) -> int:
    """Return the number of bins that rows are enough for, [1, n_most]."""
    return int(np.clip(n_rows // MIN_ROWS_OF_BIN, 1, n_most))


def find_edges(column: Column, n_rows: float) -> Vector:
    """Return the upper edges of a number's bins, but for the last bin.

    Parameters
    ----------
    column : Column
        The numbers.
    n_rows : float
        Number of rows, by `count_rows`.

    Returns
    -------
    ndarray of float64, shape (n_edges,)
        Strictly ascending: quantiles, or the values themselves if they are few.
    """
    present = column.present
    if n_rows >= MIN_ROWS_OF_BIN * MAX_NUMBER_BINS:
        values = _find_few(present.values)
        if len(values):
            # What lies below all values, or above, has a bin too.
            return np.insert(values, 0, np.nextafter(values[0], -np.inf))
    return find_quantiles(present, limit_bins(n_rows, MAX_NUMBER_BINS))


def _find_few(values: Vector) -> Vector:
    """Return the distinct values if they are at most `MAX_DISTINCT`, else none."""
    for some in (values[:_N_FIRST], values):
        distinct = np.unique(some)
        if len(distinct) > MAX_DISTINCT:
            return np.empty(0)
    return np.asarray(distinct[np.isfinite(distinct - 1.0)])


def find_quantiles(column: Column, n_bins: int) -> Vector:
    """Return the edges between bins of the same number of rows; equal ones are merged.

    Parameters
    ----------
    column : Column
        Numbers, none missing.
    n_bins : int
        Number of bins, 1 or more.

    Returns
    -------
    ndarray of float64, shape (n_edges,)
        Strictly ascending, all of them values, n_bins - 1 or fewer.
    """
    values, weight = column.values, column.weight
    if n_bins == 1 or not len(values) or (weight is not None and not weight.any()):
        return np.empty(0)
    shares = np.arange(1, n_bins) / n_bins
    edges = np.unique(
        np.quantile(values, shares, method="inverted_cdf", weights=weight)
    )
    # Nothing lies above the largest value.
    return np.asarray(edges[edges < values.max()])


def bin_numbers(column: Column, edges: Vector) -> list[float]:
    """Return the share of each bin and, last, of the gaps."""
    numbers = np.searchsorted(edges, column.values)
    numbers[np.isnan(column.values)] = len(edges) + 1
    return column.measure_shares(numbers, len(edges) + 2)


def choose_categories(column: Column, n_most: int) -> NDArray[np.int64]:
    """Return the most frequent codes, n_most or fewer."""
    present = column.present
    counts = np.bincount(present.values.astype(np.int64), present.weight)
    order = np.argsort(-counts, kind="stable")[:n_most]
    return order[counts[order] > 0]


def bin_categories(column: Column, chosen: NDArray[np.int64]) -> list[float]:
    """Return the share of each chosen code, of all others and, last, of the gaps."""
    is_gap = np.isnan(column.values)
    codes = np.where(is_gap, 0, column.values).astype(np.int64)
    n_codes = max(int(codes.max(initial=0)), int(chosen.max(initial=0))) + 1
    number_of_code = np.full(n_codes, len(chosen))
    number_of_code[chosen] = np.arange(len(chosen))
    numbers = np.where(is_gap, len(chosen) + 1, number_of_code[codes])
    return column.measure_shares(numbers, len(chosen) + 2)
