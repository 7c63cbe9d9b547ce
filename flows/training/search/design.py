"""The rows as logistic regression sees them: imputed and scaled per split, yet never copied.

Scaling is linear, so it goes into the coefficients: a margin on scaled rows is one on the rows as
they are, with other coefficients. A gap that is filled with a median is a 0 in its column and a 1
in a column of its own whose coefficient is the median times the column's. What is left to do per
split is a few numbers per column.
"""

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack, issparse
from sklearn.preprocessing import StandardScaler

from training.search.preparation import Preparation
from training.search.scoring import Floats
from training.search.values import CannotShare, Split

# Numbers in a block of rows, and in what is computed from it: a few megabytes stay in the cache.
BLOCK_NUMBERS = 2**18
# Pieces that are summed up one after the other: as many for any number of threads, so that sums are
# the same for any number.
N_PIECES = 16
N_PILOT_ROWS = 4096
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """The rows, and per split what imputes and scales them.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        The rows as they are.
    rows : ndarray or csr_matrix of float64
        X; for sparse X with gaps, what `take` returns of all rows.
    shift : ndarray of shape (n_features,)
        Taken off every row, so that columns far from 0 lose no digits; 0 if sparse.
    gaps : ndarray of int
        Columns with gaps.
    fill : ndarray of shape (n_splits, n_gaps)
        What fills them, after the shift.
    mean, scale : ndarray of shape (n_splits, n_features)
        Of the training rows, after the shift.
    """

    X: Any
    rows: Any
    shift: Floats
    gaps: NDArray[np.int64]
    fill: Floats
    mean: Floats
    scale: Floats

    def take(self, rows: Any) -> Any:
        """Return shifted rows, and beside them a column of 0 and 1 for each column with gaps."""
        Z = self.rows[rows]
        if issparse(Z):
            return Z
        Z = Z - self.shift
        if not len(self.gaps):
            return Z
        is_gap = np.isnan(Z[:, self.gaps])
        Z[:, self.gaps] = np.where(is_gap, 0.0, Z[:, self.gaps])
        return np.hstack((Z, is_gap))

    def scaled(self, rows: Any, split: int) -> Floats:
        """Return rows as the pipeline of a split would hand them on, and a column of ones."""
        Z = self.take(rows)
        n_features = len(self.shift)
        Z = Z.toarray() if issparse(Z) else Z
        if len(self.gaps):
            Z[:, self.gaps] += Z[:, n_features:] * self.fill[split]
        Z = (Z[:, :n_features] - self.mean[split]) / self.scale[split]
        return np.column_stack((Z, np.ones(len(Z))))

    def unscale(
        self, theta: Floats, splits: NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """Turn coefficients of scaled rows into those of rows that `take` returns.

        Parameters
        ----------
        theta : ndarray of shape (n_models, n_features + 1)
            The intercept is last.
        splits : ndarray of shape (n_models,)
            Split of each model.

        Returns
        -------
        coef : ndarray of shape (n_models, n_features + n_gaps)
        intercept : ndarray of shape (n_models,)
        """
        coef = theta[:, :-1] / self.scale[splits]
        intercept = theta[:, -1] - np.einsum("jp,jp->j", coef, self.mean[splits])
        filled = coef[:, self.gaps] * self.fill[splits]
        return np.hstack((coef, filled)), intercept

    def rescale(
        self, gradient: Floats, total: Floats, splits: NDArray[np.int64]
    ) -> Floats:
        """Turn a gradient by the coefficients of `unscale` into one by theta: its transpose."""
        n_features = len(self.shift)
        inner = gradient[:, :n_features].copy()
        inner[:, self.gaps] += gradient[:, n_features:] * self.fill[splits]
        inner -= self.mean[splits] * total[:, None]
        inner /= self.scale[splits]
        return np.column_stack((inner, total))


def map_pieces(
    n_rows: int,
    row_numbers: int,
    function: Callable[[Iterator[slice]], Any],
    pool: Executor,
) -> list[Any]:
    """Call a function for each piece of the rows, with the slices of its blocks.

    Parameters
    ----------
    n_rows : int
        Rows in all.
    row_numbers : int
        Numbers that are held per row, by which the blocks are as large as the cache likes.
    function : callable
        Gets an iterator of slices.
    pool : Executor
        Runs the pieces.
    """
    size = max(256, BLOCK_NUMBERS // max(row_numbers, 1))
    ends = np.linspace(0, n_rows, N_PIECES + 1).astype(int)
    pieces = [_cut(begin, end, size) for begin, end in pairwise(ends.tolist())]
    return list(pool.map(function, pieces))


def _cut(begin: int, end: int, size: int) -> Iterator[slice]:
    return (slice(a, min(a + size, end)) for a in range(begin, end, size))


def make_design(
    X: Any, splits: list[Split], preparation: Preparation, pool: Executor
) -> Design:
    """Learn what imputes and scales the training rows of each split.

    Raises
    ------
    CannotShare
        If the rows are not finite, or have gaps that nothing fills.
    """
    imputer, scaler = preparation.imputer, preparation.scaler
    if issparse(X) and scaler and scaler.with_mean:
        raise CannotShare("sparse rows can be scaled, but not centred")
    X = X.tocsr() if issparse(X) else X
    shift, gaps = _find_shift(X), _find_gaps(X, pool)
    if len(gaps) and (not imputer or gaps[-1] >= preparation.n_columns):
        raise CannotShare("the rows have gaps and nothing fills them")
    rows = _lay_out(X, gaps) if issparse(X) and len(gaps) else X
    fill = _fill_splits(X, splits, gaps, imputer) - shift[gaps]
    mean, scale = np.tile(-shift, (len(splits), 1)), np.ones((len(splits), X.shape[1]))
    design = Design(X, rows, shift, gaps, fill, mean, scale)
    if scaler:
        scaled = slice(preparation.n_columns)
        learned = _scale(design, splits, scaler, pool)
        mean[:, scaled], scale[:, scaled] = (values[:, scaled] for values in learned)
    return design


def _lay_out(X: Any, gaps: NDArray[np.int64]) -> Any:
    """Return sparse rows with 0 in gaps, and a column of 0 and 1 for each column with gaps."""
    is_gap = np.isnan(X.data)
    filled, beside = X.copy(), X.copy()
    filled.data[is_gap] = 0.0
    beside.data = is_gap.astype(np.float64)
    beside = beside[:, gaps]
    beside.eliminate_zeros()
    return hstack((filled, beside), format="csr")


def _find_shift(X: Any) -> Floats:
    if issparse(X):
        return np.zeros(X.shape[1])
    # The median, not the mean: a column that is constant in a split is then 0 there, to the last
    # digit, and an outlier moves nothing.
    sample = np.asarray(X[:: max(1, len(X) // N_PILOT_ROWS)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without a value
        middle = np.nanmedian(sample, axis=0)
    return np.where(np.isfinite(middle), middle, 0.0)


def _find_gaps(X: Any, pool: Executor) -> NDArray[np.int64]:
    if issparse(X):
        if np.isinf(X.data).any():
            raise CannotShare("the rows are not finite")
        return np.unique(X.indices[np.isnan(X.data)]).astype(np.int64)

    def look(blocks: Iterator[slice]) -> tuple[NDArray[np.bool_], bool]:
        has_gap, has_infinite = np.zeros(X.shape[1], dtype=bool), False
        for block in blocks:
            # Cheaper than to look at every number: a sum is finite if all are.
            if not np.isfinite(X[block].sum()):
                has_gap |= np.isnan(X[block]).any(axis=0)
                has_infinite |= bool(np.isinf(X[block]).any())
        return has_gap, has_infinite

    seen = map_pieces(len(X), X.shape[1], look, pool)
    if any(has_infinite for _, has_infinite in seen):
        raise CannotShare("the rows are not finite")
    return np.flatnonzero(np.any([has_gap for has_gap, _ in seen], axis=0))


def _fill_splits(
    X: Any, splits: list[Split], gaps: NDArray[np.int64], imputer: Any
) -> Floats:
    """Return what fills the gaps of each split, shape (n_splits, n_gaps)."""
    fill = np.empty((len(splits), len(gaps)))
    columns = X[:, gaps].tocsc() if issparse(X) else None
    for number, gap in enumerate(gaps):
        # The zeros of sparse rows count, as they do for SimpleImputer.
        column = X[:, gap] if columns is None else columns[:, [number]].toarray()[:, 0]
        fill[:, number] = [_fill(imputer, column[train]) for train, _ in splits]
    return fill


def _fill(imputer: Any, column: Floats) -> float:
    present = column[~np.isnan(column)]
    if not len(present):
        # A column without a value is constant either way: its coefficient is 0.
        return 0.0
    return float(np.median(present) if imputer.strategy == "median" else present.mean())


def _scale(
    design: Design, splits: list[Split], scaler: StandardScaler, pool: Executor
) -> tuple[Floats, Floats]:
    shift = design.shift
    first, second, count = _sum_moments(design, splits, pool)
    mean = first / count
    variance = np.maximum(second / count - mean**2, 0.0)
    scale = np.sqrt(variance)
    # As sklearn.preprocessing._data._is_constant_feature; and what is left of a difference.
    bound = count * EPSILON * variance + (count * (mean + shift) * EPSILON) ** 2
    bound = np.maximum(bound, 10 * EPSILON * second / count)
    scale[(variance <= bound) | (scale < 10 * EPSILON)] = 1.0
    if not scaler.with_mean:
        mean = np.broadcast_to(-shift, mean.shape).copy()
    return mean, scale if scaler.with_std else np.ones(scale.shape)


def _sum_moments(
    design: Design, splits: list[Split], pool: Executor
) -> tuple[Floats, Floats, Floats]:
    """Return sums, sums of squares and counts over the training rows of each split."""
    n_rows, n_features = design.X.shape
    is_in = count_training_rows(n_rows, splits)

    def add(blocks: Iterator[slice]) -> tuple[Floats, Floats]:
        first, second = np.zeros((2, len(splits), n_features + len(design.gaps)))
        for block in blocks:
            Z, weights = design.take(block), is_in[block]
            squares = Z.multiply(Z) if issparse(Z) else Z * Z
            first += (Z.T @ weights).T
            second += (squares.T @ weights).T
        return first, second

    parts = map_pieces(n_rows, n_features, add, pool)
    first, second = (sum(part[i] for part in parts) for i in (0, 1))
    # A column of 0 and 1 counts the gaps: each adds what fills it.
    filled = first[:, n_features:]
    first, second = first[:, :n_features], second[:, :n_features]
    first[:, design.gaps] += filled * design.fill
    second[:, design.gaps] += filled * design.fill**2
    return first, second, is_in.sum(axis=0)[:, None]


def count_training_rows(n_rows: int, splits: list[Split]) -> Floats:
    """Return how often each row is trained on in each split, shape (n_rows, n_splits)."""
    return np.column_stack(
        [np.bincount(train, minlength=n_rows).astype(np.float64) for train, _ in splits]
    )
