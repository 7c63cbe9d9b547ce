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

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning

from training.search.blocks import map_pieces
from training.search.design import Design
from training.search.lbfgs import MEMORY, minimise_together
from training.search.metric import Metric, MetricMaker
from training.search.newton import LogisticLoss, follow_path
from training.search.targets import Targets
from training.search.values import Floats, SolverLimits, Split

# Largest component of the gradient per unit of row weight, as scikit-learn's `tol`.
TOLERANCE = 1e-10
# Numbers that the solver of a group of models may hold at once: 0.5 GB.
MAX_NUMBERS = 2**26
# Numbers that it holds for each parameter of a model: the steps and changes that it remembers.
NUMBERS_PER_PARAMETER = 2 * MEMORY + 8


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
        Z = self.design.take_scaled(train, split)
        y = self.targets.codes[train].astype(np.float64)
        loss = LogisticLoss(Z, y, self.targets.weights[train, split])
        return follow_path(loss, self.Cs, TOLERANCE / 10)[0]

    def _solve_together(self, pool: Executor) -> Floats:
        metric = MetricMaker(
            self.design, self.targets, self.splits, self.Cs, self.limits
        ).make()
        n_models = len(self.splits) * len(self.Cs)
        points = np.empty((n_models, metric.start.shape[1]))
        for models in self._group_models(*points.shape):
            points[models] = self._solve_group(models, metric, pool)
        shape = (len(self.splits), len(self.Cs), self.n_raw_scores, -1)
        thetas = points.reshape(shape)
        if self.n_raw_scores > 1:
            # Intercepts that all rise together give the same model; scikit-learn's sum to 0.
            thetas[..., -1] -= thetas[..., -1].mean(axis=2, keepdims=True)
        return thetas

    @staticmethod
    def _group_models(n_models: int, n_parameters: int) -> list[NDArray[np.int64]]:
        """Return groups of models whose steps fit the memory; one group, if they all do."""
        size = max(1, MAX_NUMBERS // (n_parameters * NUMBERS_PER_PARAMETER))
        return np.array_split(np.arange(n_models), -(-n_models // size))

    def _solve_group(
        self, models: NDArray[np.int64], metric: Metric, pool: Executor
    ) -> Floats:
        """Return the parameters of some models, shape (n, n_parameters)."""
        totals = self.targets.weights.sum(axis=0)[models // len(self.Cs)]
        points, is_done = minimise_together(
            lambda points, chosen: self._derive(points, models[chosen], pool),
            lambda vectors, chosen: metric.precondition(vectors, models[chosen]),
            metric.start[models % len(self.Cs)],
            TOLERANCE * totals,
        )
        for _ in np.flatnonzero(~is_done):
            warnings.warn(
                "the joint solver did not reach its tolerance", ConvergenceWarning, 2
            )
        return points

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
