"""The design matrix of each split, imputed and scaled, without a copy of the rows.

Scaling is linear, so the coefficients can do it: a raw score on scaled rows is one on the rows as
they are, with other coefficients. A missing value becomes a 0 in its column and a 1 in a column of
its own, whose coefficient is the fill value times the column's. A split then needs only a few
numbers per column.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags, hstack, issparse

from training.search.values import Floats, Split


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """The rows, and what imputes and scales them in each split.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        The rows as they are.
    rows : ndarray or csr_matrix of float64
        X. For a sparse X with gaps: the matrix that `take` slices, shape
        (n_rows, n_features + n_gaps).
    shift : ndarray of float64, shape (n_features,)
        Subtracted from every row, so that columns far from 0 lose no digits; 0 if X is sparse.
    gaps : ndarray of int64, shape (n_gaps,)
        Positions of the columns with gaps, which are missing values.
    fill : ndarray of float64, shape (n_splits, n_gaps)
        Values that fill the gaps, after the shift.
    mean, scale : ndarray of float64, shape (n_splits, n_features)
        Mean and scale of the training rows, after the shift.
    """

    X: Any
    rows: Any
    shift: Floats
    gaps: NDArray[np.int64]
    fill: Floats
    mean: Floats
    scale: Floats

    def take(self, rows: Any) -> Any:
        """Return shifted rows, and an indicator column for each column with gaps.

        Parameters
        ----------
        rows : slice or ndarray of int64, shape (n_taken,)
            Positions.

        Returns
        -------
        ndarray or csr_matrix of float64, shape (n_taken, n_features + n_gaps)
            Gaps are 0; the indicator is 1 where a gap was.
        """
        Z = self.rows[rows]
        if issparse(Z):
            return Z
        Z = Z - self.shift
        if not len(self.gaps):
            return Z
        is_gap = np.isnan(Z[:, self.gaps])
        Z[:, self.gaps] = np.where(is_gap, 0.0, Z[:, self.gaps])
        return np.hstack((Z, is_gap))

    def take_scaled(self, rows: Any, split: int) -> Any:
        """Return rows as the pipeline of a split hands them to the classifier.

        Parameters
        ----------
        rows : slice or ndarray of int64, shape (n_taken,)
            Positions.
        split : int
            Position of the split.

        Returns
        -------
        ndarray or csr_matrix of float64, shape (n_taken, n_features + 1)
            The last column is 1, for the intercept. Sparse if X is.
        """
        Z = self.take(rows)
        n_features = len(self.shift)
        if issparse(Z):
            return self._scale_sparse(Z, split)
        if len(self.gaps):
            Z[:, self.gaps] += Z[:, n_features:] * self.fill[split]
        Z = (Z[:, :n_features] - self.mean[split]) / self.scale[split]
        return np.column_stack((Z, np.ones(len(Z))))

    def _scale_sparse(self, Z: Any, split: int) -> Any:
        """Scale sparse rows that `take` returned; nothing is subtracted from them."""
        n_features = len(self.shift)
        numbers = Z[:, :n_features]
        if len(self.gaps):
            place = csr_matrix(
                (self.fill[split], (np.arange(len(self.gaps)), self.gaps)),
                shape=(len(self.gaps), n_features),
            )
            numbers = numbers + Z[:, n_features:] @ place
        scaled = numbers @ diags(1 / self.scale[split])
        return hstack((scaled, np.ones((Z.shape[0], 1))), format="csr")

    def unscale(
        self, theta: Floats, splits: NDArray[np.int64]
    ) -> tuple[Floats, Floats]:
        """Turn coefficients of scaled rows into coefficients of the rows that `take` returns.

        Parameters
        ----------
        theta : ndarray of float64, shape (n_models, n_features + 1)
            Coefficients of scaled rows; the intercept is last.
        splits : ndarray of int64, shape (n_models,)
            Split of each model.

        Returns
        -------
        coef : ndarray of float64, shape (n_models, n_features + n_gaps)
        intercept : ndarray of float64, shape (n_models,)

        Notes
        -----
        sum_j theta_j (z_j - mean_j) / scale_j + theta_0 = sum_j coef_j z_j + intercept, with
        coef_j = theta_j / scale_j and intercept = theta_0 - sum_j coef_j mean_j.
        """
        coef = theta[:, :-1] / self.scale[splits]
        intercept = theta[:, -1] - np.einsum("jp,jp->j", coef, self.mean[splits])
        filled = coef[:, self.gaps] * self.fill[splits]
        return np.hstack((coef, filled)), intercept

    def rescale_gradient(
        self, gradient: Floats, total: Floats, splits: NDArray[np.int64]
    ) -> Floats:
        """Turn a gradient by the results of `unscale` into one by theta, by its transpose.

        Parameters
        ----------
        gradient : ndarray of float64, shape (n_models, n_features + n_gaps)
            Gradient by `coef`.
        total : ndarray of float64, shape (n_models,)
            Gradient by `intercept`.
        splits : ndarray of int64, shape (n_models,)
            Split of each model.

        Returns
        -------
        ndarray of float64, shape (n_models, n_features + 1)
        """
        n_features = len(self.shift)
        inner = gradient[:, :n_features].copy()
        inner[:, self.gaps] += gradient[:, n_features:] * self.fill[splits]
        inner -= self.mean[splits] * total[:, None]
        inner /= self.scale[splits]
        return np.column_stack((inner, total))


def count_training_rows(n_rows: int, splits: list[Split]) -> Floats:
    """Count how often each split trains on each row.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    splits : list of (train, test)
        Positions of the rows of each split; a position may occur more than once.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_splits)
        Whole numbers from 0 on.
    """
    return np.column_stack(
        [np.bincount(train, minlength=n_rows).astype(np.float64) for train, _ in splits]
    )
