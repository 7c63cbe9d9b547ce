"""The optimum of a logistic regression for each C on each split, all in one go.

::

    few rows   each split: Newton's method, from the smallest C up
    many rows  a sample of rows: Newton's method --> a start and a preconditioner for each C
               all rows: L-BFGS, with one pass over the rows for the gradients of all models
"""

import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning

from training.search.blocks import map_pieces
from training.search.design import Design
from training.search.lbfgs import Preconditioner, minimise_together
from training.search.newton import Factor, LogisticLoss, Loss, SoftmaxLoss, follow_path
from training.search.targets import Targets
from training.search.values import Floats, SolverLimits, Split

# Largest component of the gradient per unit of row weight, as scikit-learn's `tol`.
TOLERANCE = 1e-10
SAMPLE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class JointSolver:
    """Finds the optimum for each C on each split.

    A model has one raw score per row for two classes, and one for each of more classes, as
    scikit-learn's. A softmax makes probabilities of several raw scores; each has coefficients of
    its own, which are penalised. Models are numbered split by split.

    Parameters
    ----------
    design : Design
        Scaled rows.
    targets : Targets
        Labels and weights.
    splits : list of (train, test)
        Positions of the rows of each split.
    Cs : ndarray of float64, shape (n_C,)
        Inverse strengths of the penalty, above 0.
    limits : SolverLimits
        Sizes at which the method changes.
    """

    design: Design
    targets: Targets
    splits: list[Split]
    Cs: Floats
    limits: SolverLimits

    @property
    def n_raw_scores(self) -> int:
        """Raw scores of a model for one row."""
        n_classes = len(self.targets.classes)
        return 1 if n_classes == 2 else n_classes

    def solve(self, pool: Executor) -> Floats:
        """Return the coefficients of all models.

        Parameters
        ----------
        pool : Executor
            Runs splits, or pieces of the rows.

        Returns
        -------
        ndarray of float64, shape (n_splits, n_C, n_raw_scores, n_features + 1)
            Coefficients of scaled rows; the intercept is last.
        """
        n_rows, n_features = self.design.X.shape
        n_models = len(self.splits) * len(self.Cs)
        n_multiplications = n_rows * (n_features + 1.0) ** 2 * n_models * 4
        is_large = n_multiplications > self.limits.max_newton_multiplications
        if self.n_raw_scores > 1 or issparse(self.design.X) or is_large:
            return self._solve_together(pool)
        thetas = pool.map(self._solve_split, range(len(self.splits)))
        return np.stack(list(thetas))[:, :, None, :]

    def _solve_split(self, split: int) -> Floats:
        train = np.unique(self.splits[split][0])
        loss = self._make_loss(train, split, self.targets.weights[train, split])
        return follow_path(loss, self.Cs, TOLERANCE / 10)[0]

    def _make_loss(
        self, rows: NDArray[np.int64], split: int, weights: Floats
    ) -> LogisticLoss:
        y = self.targets.codes[rows].astype(np.float64)
        return LogisticLoss(self.design.take_scaled(rows, split), y, weights)

    def _solve_together(self, pool: Executor) -> Floats:
        start, preconditioner = self._make_start()
        shape = (len(self.splits), len(self.Cs), self.n_raw_scores, -1)
        totals = np.repeat(self.targets.weights.sum(axis=0), len(self.Cs))
        points, is_done = minimise_together(
            lambda points, models: self._derive(points, models, pool),
            preconditioner,
            np.tile(start, (len(self.splits), 1)),
            TOLERANCE * totals,
        )
        for _ in np.flatnonzero(~is_done):
            warnings.warn(
                "the joint solver did not reach its tolerance", ConvergenceWarning, 2
            )
        thetas = points.reshape(shape)
        if self.n_raw_scores > 1:
            # Intercepts that all rise together give the same model; scikit-learn's sum to 0.
            thetas[..., -1] -= thetas[..., -1].mean(axis=2, keepdims=True)
        return thetas

    def _derive(
        self, thetas: Floats, models: NDArray[np.int64], pool: Executor
    ) -> Floats:
        """Return the gradients of models, shape (n, n_parameters), by one pass over the rows."""
        splits, numbers_of_C = np.divmod(models, len(self.Cs))
        # One vector of coefficients for each raw score of each model.
        vectors = thetas.reshape(len(models) * self.n_raw_scores, -1)
        of_split = np.repeat(splits, self.n_raw_scores)
        coef, intercept = self.design.unscale(vectors, of_split)
        gradient, total = self._sum_residuals(coef, intercept, splits, pool)
        result = self.design.rescale_gradient(gradient.T, total, of_split)
        strength = np.repeat(1 / self.Cs[numbers_of_C], self.n_raw_scores)
        result[:, :-1] += vectors[:, :-1] * strength[:, None]
        return result.reshape(thetas.shape)

    def _sum_residuals(
        self,
        coef: Floats,
        intercept: Floats,
        splits: NDArray[np.int64],
        pool: Executor,
    ) -> tuple[Floats, Floats]:
        """Return Z' r, shape (n_columns, n_vectors), and sum r, shape (n_vectors,).

        Z are the rows that the design takes, r the weighted residuals of each vector.
        """
        columns = np.ascontiguousarray(coef.T)
        is_binary = self.n_raw_scores == 1
        find_residuals = (
            self._find_binary_residuals if is_binary else self._find_softmax_residuals
        )

        def add(blocks: Iterator[slice]) -> tuple[Floats, Floats]:
            gradient, total = np.zeros(columns.shape), np.zeros(len(intercept))
            for block in blocks:
                Z = self.design.take(block)
                residuals = find_residuals(Z @ columns + intercept, block, splits)
                gradient += Z.T @ residuals
                total += residuals.sum(axis=0)
            return gradient, total

        width = (1 if issparse(self.design.X) else len(columns)) + len(intercept)
        parts = map_pieces(self.design.X.shape[0], width, add, pool)
        gradient, total = (sum(part[i] for part in parts) for i in (0, 1))
        return gradient, total

    def _find_softmax_residuals(
        self, raw_scores: Floats, block: slice, splits: NDArray[np.int64]
    ) -> Floats:
        """Replace raw scores, shape (n_block, n_vectors), by weighted residuals."""
        values = raw_scores.reshape(len(raw_scores), len(splits), self.n_raw_scores)
        values -= values.max(axis=2, keepdims=True)
        np.exp(values, out=values)
        values /= values.sum(axis=2, keepdims=True)
        values[np.arange(len(values)), :, self.targets.codes[block]] -= 1
        values *= self.targets.weights[block][:, splits, None]
        return values.reshape(raw_scores.shape)

    def _find_binary_residuals(
        self, raw_scores: Floats, block: slice, splits: NDArray[np.int64]
    ) -> Floats:
        """Replace raw scores, shape (n_block, n_vectors), by weighted residuals."""
        values = raw_scores
        # numpy's exp is several times faster than scipy's expit; exp(big) is inf, and 1/inf 0.
        with np.errstate(over="ignore"):
            np.negative(values, out=values)
            np.exp(values, out=values)
        values += 1
        np.reciprocal(values, out=values)
        values -= self.targets.codes[block, None]
        values *= self.targets.weights[block][:, splits]
        return values

    def _make_start(self) -> tuple[Floats, Preconditioner]:
        """Return the start of each C, shape (n_C, n_parameters), and a preconditioner.

        All splits share both.
        """
        n_features = self.design.X.shape[1]
        n_parameters = self.n_raw_scores * (n_features + 1)
        if (
            n_features > self.limits.max_preconditioner_features
            or n_parameters > self.limits.max_preconditioner_parameters
        ):
            start = np.zeros((len(self.Cs), n_parameters))
            return start, self._make_diagonal_preconditioner()
        binary = self._draw_sample()
        loss: Loss = binary
        if self.n_raw_scores > 1:
            is_class = binary.y[:, None] == np.arange(self.n_raw_scores)
            loss = SoftmaxLoss(binary.Z, is_class.astype(np.float64), binary.weights)
        thetas, factors = follow_path(loss, self.Cs, SAMPLE_TOLERANCE)
        return thetas, partial(_apply_factors, factors)

    def _draw_sample(self) -> LogisticLoss:
        """Draw rows of the first split, with weights that sum to those of an average split."""
        n_features = self.design.X.shape[1]
        train = np.unique(self.splits[0][0])
        n = max(
            self.limits.min_sample_rows,
            self.limits.sample_rows_per_feature * n_features,
        )
        if len(train) > n:
            train = np.sort(np.random.default_rng(0).choice(train, n, replace=False))
        weights = self.targets.weights[train, 0]
        share = self.targets.weights.sum(axis=0).mean() / weights.sum()
        return self._make_loss(train, 0, weights * share)

    def _make_diagonal_preconditioner(self) -> Preconditioner:
        """Return the preconditioner of independent columns whose mean square is 1."""
        by_class = np.bincount(
            self.targets.codes, weights=self.targets.weights.sum(axis=1)
        )
        share = by_class[-self.n_raw_scores :] / by_class.sum()
        curvature = share * (1 - share) * self.targets.weights.sum(axis=0).mean()
        shape = (len(self.Cs), self.n_raw_scores, self.design.X.shape[1] + 1)
        diagonal = np.broadcast_to(curvature[:, None], shape).copy()
        diagonal[..., :-1] += 1 / self.Cs[:, None, None]
        diagonal = diagonal.reshape(len(self.Cs), -1)
        return lambda vectors, models: vectors / diagonal[models % len(diagonal)]


def _apply_factors(
    factors: list[Factor], vectors: Floats, models: NDArray[np.int64]
) -> Floats:
    result = np.empty_like(vectors)
    for number, factor in enumerate(factors):
        chosen = models % len(factors) == number
        result[chosen] = cho_solve(factor, vectors[chosen].T, check_finite=False).T
    return result
