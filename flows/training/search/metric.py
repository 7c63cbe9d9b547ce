"""Where models start and how their steps are stretched, learned from a sample of the rows.

::

    two classes, not too many columns    the sample's Hessian for each C
    more classes, few parameters         the sample's Hessian over all classes
    more classes, more parameters        a Hessian for each class: each class against the others
    too many columns                     the diagonal of independent columns, from 0
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    is_full : bool
        Whether it knows how the columns go together.
    """

    start: Floats
    precondition: Preconditioner
    is_full: bool


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
        n_raw_scores = 1 if n_classes == 2 else n_classes
        n_features = self.design.X.shape[1]
        # A factor has the square of the columns; each class has one.
        if n_raw_scores**0.5 * n_features > self.limits.max_preconditioner_features:
            return self._make_diagonal(n_raw_scores)
        sample = self._draw_sample()
        n_parameters = n_raw_scores * (n_features + 1)
        if n_raw_scores == 1:
            thetas, factors = follow_path(sample, self.Cs, SAMPLE_TOLERANCE)
            return Metric(thetas, _Factors([factors]), is_full=True)
        if n_parameters > self.limits.max_preconditioner_parameters:
            return self._make_blocks(sample, n_raw_scores)
        is_class = sample.y[:, None] == np.arange(n_raw_scores)
        Z = sample.Z.toarray() if issparse(sample.Z) else sample.Z
        loss = SoftmaxLoss(Z, is_class.astype(np.float64), sample.weights)
        thetas, factors = follow_path(loss, self.Cs, SAMPLE_TOLERANCE)
        return Metric(thetas, _Factors([factors]), is_full=True)

    def _make_blocks(self, sample: LogisticLoss, n_classes: int) -> Metric:
        """Return the metric of models that tell each class from the others."""
        paths = [
            follow_path(
                LogisticLoss(
                    sample.Z, (sample.y == code).astype(np.float64), sample.weights
                ),
                self.Cs,
                SAMPLE_TOLERANCE,
            )
            for code in range(n_classes)
        ]
        thetas = np.hstack([thetas for thetas, _ in paths])
        return Metric(thetas, _Factors([factors for _, factors in paths]), is_full=True)

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
        y = self.targets.codes[train].astype(np.float64)
        return LogisticLoss(self.design.take_scaled(train, 0), y, weights * share)

    def _make_diagonal(self, n_raw_scores: int) -> Metric:
        """Return the metric of independent columns whose mean square is 1."""
        by_class = np.bincount(
            self.targets.codes, weights=self.targets.weights.sum(axis=1)
        )
        share = by_class[-n_raw_scores:] / by_class.sum()
        curvature = share * (1 - share) * self.targets.weights.sum(axis=0).mean()
        shape = (len(self.Cs), n_raw_scores, self.design.X.shape[1] + 1)
        diagonal = np.broadcast_to(curvature[:, None], shape).copy()
        diagonal[..., :-1] += 1 / self.Cs[:, None, None]
        diagonal = diagonal.reshape(len(self.Cs), -1)
        return Metric(
            np.zeros(diagonal.shape),
            lambda vectors, models: vectors / diagonal[models % len(diagonal)],
            is_full=False,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Factors:
    """Cholesky factors of each part of the parameters, for each C."""

    parts: list[list[Factor]]

    def __call__(self, vectors: Floats, models: NDArray[np.int64]) -> Floats:
        of_part = np.split(vectors, len(self.parts), axis=1)
        solved = [
            _solve(factors, part, models)
            for factors, part in zip(self.parts, of_part, strict=True)
        ]
        return np.hstack(solved)


def _solve(factors: list[Factor], vectors: Floats, models: NDArray[np.int64]) -> Floats:
    result = np.empty_like(vectors)
    for number, factor in enumerate(factors):
        chosen = models % len(factors) == number
        if chosen.any():
            result[chosen] = cho_solve(factor, vectors[chosen].T, check_finite=False).T
    return result
