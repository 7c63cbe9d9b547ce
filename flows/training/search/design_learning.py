"""What a design learns from the training rows: shift, gaps, fill values, means and scales."""

import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack, issparse
from sklearn.preprocessing import StandardScaler

from training.search.blocks import map_pieces
from training.search.design import Design, count_training_rows
from training.search.pipeline_steps import Preprocessing
from training.search.values import CannotShare, Floats, Split

# Rows from which the shift of the columns is taken.
N_SHIFT_ROWS = 4096
EPSILON = float(np.finfo(np.float64).eps)


def make_design(
    X: Any, splits: list[Split], preprocessing: Preprocessing, pool: Executor
) -> Design:
    """Learn what imputes and scales the training rows of each split.

    Parameters
    ----------
    X : ndarray or sparse matrix of float64, shape (n_rows, n_features)
        The rows; never changed.
    splits : list of (train, test)
        Positions of the rows of each split.
    preprocessing : Preprocessing
        What the steps before the classifier do.
    pool : Executor
        Runs the passes over the rows.

    Returns
    -------
    Design
        Without the columns that are 0 in all sparse rows.

    Raises
    ------
    CannotShare
        If a value is infinite, a gap is not filled, or sparse rows would be centred.
    """
    imputer, scaler = preprocessing.imputer, preprocessing.scaler
    if issparse(X) and scaler and scaler.with_mean:
        raise CannotShare(
            "StandardScaler cannot centre sparse rows; use with_mean=False"
        )
    if issparse(X):
        X, preprocessing = _drop_empty(X.tocsr(), preprocessing)
    shift, gaps = _find_shift(X), _find_gaps(X, pool)
    if len(gaps) and (not imputer or gaps[-1] >= preprocessing.n_columns):
        raise CannotShare("X has missing values and nothing fills them")
    rows = _lay_out(X, gaps) if issparse(X) and len(gaps) else X
    fill = _fill_splits(X, splits, gaps, imputer) - shift[gaps]
    mean, scale = np.tile(-shift, (len(splits), 1)), np.ones((len(splits), X.shape[1]))
    design = Design(X, rows, shift, gaps, fill, mean, scale)
    if scaler:
        scaled = slice(preprocessing.n_columns)
        learned = _learn_scale(design, splits, scaler, pool)
        mean[:, scaled], scale[:, scaled] = (values[:, scaled] for values in learned)
    return design


def _drop_empty(X: Any, preprocessing: Preprocessing) -> tuple[Any, Preprocessing]:
    """Drop the columns without a value, whose coefficients are 0; hashed rows have many."""
    used = np.unique(X.indices)
    if len(used) == X.shape[1]:
        return X, preprocessing
    n_columns = int(np.searchsorted(used, preprocessing.n_columns))
    return X[:, used], replace(preprocessing, n_columns=n_columns)


def _lay_out(X: Any, gaps: NDArray[np.int64]) -> Any:
    """Return sparse rows with 0 in gaps, and an indicator column for each column with gaps."""
    is_gap = np.isnan(X.data)
    filled, indicators = X.copy(), X.copy()
    filled.data[is_gap] = 0.0
    indicators.data = is_gap.astype(np.float64)
    indicators = indicators[:, gaps]
    indicators.eliminate_zeros()
    return hstack((filled, indicators), format="csr")


def _find_shift(X: Any) -> Floats:
    if issparse(X):
        return np.zeros(X.shape[1])
    # The median, not the mean: it makes a column that is constant in a split 0 to the last digit,
    # and no outlier moves it.
    sample = np.asarray(X[:: max(1, len(X) // N_SHIFT_ROWS)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without a value
        middle = np.nanmedian(sample, axis=0)
    return np.where(np.isfinite(middle), middle, 0.0)


def _find_gaps(X: Any, pool: Executor) -> NDArray[np.int64]:
    """Return the columns with missing values, shape (n_gaps,), in ascending order."""
    if issparse(X):
        if np.isinf(X.data).any():
            raise CannotShare("X has infinite values")
        return np.unique(X.indices[np.isnan(X.data)]).astype(np.int64)

    def look(blocks: Iterator[slice]) -> tuple[NDArray[np.bool_], bool]:
        has_gap, has_infinite = np.zeros(X.shape[1], dtype=bool), False
        for block in blocks:
            # A finite sum means that all numbers are finite, and costs less than a look at each.
            if not np.isfinite(X[block].sum()):
                has_gap |= np.isnan(X[block]).any(axis=0)
                has_infinite |= bool(np.isinf(X[block]).any())
        return has_gap, has_infinite

    seen = map_pieces(len(X), X.shape[1], look, pool)
    if any(has_infinite for _, has_infinite in seen):
        raise CannotShare("X has infinite values")
    return np.flatnonzero(np.any([has_gap for has_gap, _ in seen], axis=0))


def _fill_splits(
    X: Any, splits: list[Split], gaps: NDArray[np.int64], imputer: Any
) -> Floats:
    """Return the fill values of each split, shape (n_splits, n_gaps)."""
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
        # Any value does: the column is constant, so its coefficient is 0.
        return 0.0
    return float(np.median(present) if imputer.strategy == "median" else present.mean())


def _learn_scale(
    design: Design, splits: list[Split], scaler: StandardScaler, pool: Executor
) -> tuple[Floats, Floats]:
    """Return means and scales of the training rows, shape (n_splits, n_features) each."""
    shift = design.shift
    first, second, count = _sum_moments(design, splits, pool)
    mean = first / count
    variance = np.maximum(second / count - mean**2, 0.0)
    scale = np.sqrt(variance)
    # The bound of sklearn.preprocessing._data._is_constant_feature, and the rounding error of the
    # difference above.
    bound = count * EPSILON * variance + (count * (mean + shift) * EPSILON) ** 2
    bound = np.maximum(bound, 10 * EPSILON * second / count)
    scale[(variance <= bound) | (scale < 10 * EPSILON)] = 1.0
    if not scaler.with_mean:
        mean = np.broadcast_to(-shift, mean.shape).copy()
    return mean, scale if scaler.with_std else np.ones(scale.shape)


def _sum_moments(
    design: Design, splits: list[Split], pool: Executor
) -> tuple[Floats, Floats, Floats]:
    """Sum the training rows of each split.

    Returns
    -------
    first, second : ndarray of float64, shape (n_splits, n_features)
        Sums and sums of squares.
    count : ndarray of float64, shape (n_splits, 1)
        Number of training rows.
    """
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
    # An indicator column counts the gaps: each adds its fill value.
    filled = first[:, n_features:]
    first, second = first[:, :n_features], second[:, :n_features]
    first[:, design.gaps] += filled * design.fill
    second[:, design.gaps] += filled * design.fill**2
    return first, second, is_in.sum(axis=0)[:, None]
