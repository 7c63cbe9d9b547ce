"""Where models start and how their steps are stretched, learned from a sample of the rows.

::

    two classes                     the sample's Hessian for each C
    more classes, few parameters    the sample's Hessian over all classes
    more classes, more parameters   a Hessian for each class against the others
    too many columns                the Hessian of the heaviest columns, a diagonal for the others
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.sparse import issparse

from training.search.design import Design
from training.search.newton import Factor, LogisticLoss, SoftmaxLoss, follow_path
from training.search.targets import Targets
from training.search.values import Floats, SolverLimits, Split

# Multiplies vectors of models by an approximate inverse Hessian; same shapes.
Preconditioner = Callable[[Floats, NDArray[np.int64]], Floats]

# Largest component of the gradient on the sample, per unit of row weight. The optimum on a sample
# is not that on all rows, so more digits would be in vain.
SAMPLE_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """The start of each C and its approximate inverse Hessian; all splits share both.

    Parameters
    ----------
    start : ndarray of float64, shape (n_C, n_parameters)
        Coefficients.
    precondition : callable
        Multiplies vectors of models.
    """

    start: Floats
    precondition: Preconditioner


@dataclass(frozen=True, slots=True, eq=False)
class MetricMaker:
    """Makes the metric of all models.

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

    def make(self) -> Metric:
        """Return the metric that the numbers of columns and classes allow."""
        n_classes = len(self.targets.classes)
        n_parameters = n_classes * (self.design.X.shape[1] + 1)
        sample = self._draw_sample()
        if n_classes == 2:
            return self._make_blocks([sample])
        Y = (sample.y[:, None] == np.arange(n_classes)).astype(np.float64)
        if n_parameters <= self.limits.max_preconditioner_parameters:
            return self._make_whole(sample, Y)
        losses = [LogisticLoss(sample.Z, of_class, sample.weights) for of_class in Y.T]
        return self._make_blocks(losses)

    def _draw_sample(self) -> LogisticLoss:
        """Draw rows of the first split, with weights that sum to those of an average split."""
        limits = self.limits
        n_features = min(self.design.X.shape[1], limits.max_preconditioner_features)
        n = max(limits.min_sample_rows, limits.sample_rows_per_feature * n_features)
        train = np.unique(self.splits[0][0])
        if len(train) > n:
            train = np.sort(np.random.default_rng(0).choice(train, n, replace=False))
        weights = self.targets.weights[train, 0]
        share = self.targets.weights.sum(axis=0).mean() / weights.sum()
        y = self.targets.codes[train].astype(np.float64)
        return LogisticLoss(self.design.take_scaled(train, 0), y, weights * share)

    def _make_whole(self, sample: LogisticLoss, Y: Floats) -> Metric:
        """Return the metric of a softmax over all classes."""
        Z = sample.Z.toarray() if issparse(sample.Z) else sample.Z
        loss = SoftmaxLoss(Z, Y, sample.weights)
        thetas, factors = follow_path(loss, self.Cs, SAMPLE_TOLERANCE)
        return Metric(thetas, lambda vectors, models: _solve(factors, vectors, models))

    def _make_blocks(self, losses: list[LogisticLoss]) -> Metric:
        """Return the metric of models of two classes each, side by side."""
        # A factor has the square of the columns, and each loss has one.
        n_heavy = int(self.limits.max_preconditioner_features / len(losses) ** 0.5)
        squares = _sum_squares(losses[0])
        heavy = _find_heavy(squares, n_heavy)
        paths = [
            follow_path(
                LogisticLoss(loss.Z[:, heavy], loss.y, loss.weights),
                self.Cs,
                SAMPLE_TOLERANCE,
            )
            for loss in losses
        ]
        start = np.zeros((len(self.Cs), len(losses), len(squares)))
        start[:, :, heavy] = np.stack([thetas for thetas, _ in paths], axis=1)
        shares = np.array(
            [loss.weights @ loss.y / loss.weights.sum() for loss in losses]
        )
        diagonal = (shares * (1 - shares))[:, None] * squares + 1 / self.Cs[
            :, None, None
        ]
        blocks = _Blocks([factors for _, factors in paths], heavy, diagonal)
        return Metric(start.reshape(len(self.Cs), -1), blocks)


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """Cholesky factors for the heavy columns of each loss, and a diagonal for the other columns.

    Parameters
    ----------
    factors : list of list of tuple
        Factors of each loss, for each C.
    heavy : ndarray of int64, shape (n_heavy,)
        Positions of the columns that have factors.
    diagonal : ndarray of float64, shape (n_C, n_losses, n_columns)
        Curvature of each column by itself.
    """

    factors: list[list[Factor]]
    heavy: NDArray[np.int64]
    diagonal: Floats

    def __call__(self, vectors: Floats, models: NDArray[np.int64]) -> Floats:
        """Multiply vectors, shape (n_models, n_parameters), by the inverse."""
        n_C, *shape = self.diagonal.shape
        of_loss = vectors.reshape(-1, *shape)
        result: Floats = of_loss / self.diagonal[models % n_C]
        for number, factors in enumerate(self.factors):
            part = _solve(factors, of_loss[:, number, self.heavy], models)
            result[:, number, self.heavy] = part
        return result.reshape(vectors.shape)


def _sum_squares(loss: LogisticLoss) -> Floats:
    """Return the weighted sum of the squares of each column, shape (n_columns,)."""
    Z, weights = loss.Z, loss.weights
    squares = Z.multiply(Z) if issparse(Z) else Z * Z
    # A column without a value in the sample is as light as one with a single value.
    return np.asarray(np.maximum(squares.T @ weights, weights.mean()))


def _find_heavy(squares: Floats, n_heavy: int) -> NDArray[np.int64]:
    """Return the positions of the columns with the largest squares, and of the intercept."""
    last = len(squares) - 1
    order = np.argsort(-squares[:last], kind="stable")
    return np.asarray(np.append(np.sort(order[:n_heavy]), last))


def _solve(factors: list[Factor], vectors: Floats, models: NDArray[np.int64]) -> Floats:
    """Solve the equations of each model, whose factor is that of its C."""
    result = np.empty_like(vectors)
    for number, factor in enumerate(factors):
        chosen = models % len(factors) == number
        if chosen.any():
            result[chosen] = cho_solve(factor, vectors[chosen].T, check_finite=False).T
    return result
