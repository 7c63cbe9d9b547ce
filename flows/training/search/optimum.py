"""Minima of many logistic regressions at once.

Newton's method where rows are few. Where they are many, L-BFGS with a good metric: Newton's method
on a sample of the rows gives every model its start and its metric, so that a few passes over all
rows are left, which all models share.

References
----------
J. Nocedal, S. Wright: Numerical Optimization, 2nd edition, algorithms 7.4 (L-BFGS) and 3.2.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, logsumexp, softmax

Floats = NDArray[np.float64]
Metric = Callable[[Floats, NDArray[np.int64]], Floats]
Gradient = Callable[[Floats, NDArray[np.int64]], Floats]

MAX_NEWTON_STEPS = 100
MAX_PASSES = 500
MEMORY = 10
# A slope that is this much smaller is a line's end (strong Wolfe condition, on a convex function).
SLOPE_SHARE = 0.9
MAX_HALVINGS = 40
# What keeps a factor of a flat Hessian apart from singular, relative to its trace.
RIDGE = 1e-14


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows of one binary problem.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_features + 1)
        Scaled, with a last column of ones, which is not penalised.
    y : ndarray of shape (n_rows,)
        0 or 1.
    weights : ndarray of shape (n_rows,)
        0 or more.
    """

    Z: Floats
    y: Floats
    weights: Floats

    def penalise(self, C: float) -> Floats:
        """Return the weight of each parameter's square, twice: nothing for the intercept."""
        return np.append(np.full(self.Z.shape[1] - 1, 1 / C), 0.0)

    def loss(self, theta: Floats, penalty: Floats) -> float:
        """Return the penalised loss."""
        margins = self.Z @ theta
        losses = np.logaddexp(0, margins) - self.y * margins
        return float(self.weights @ losses + (penalty * theta**2).sum() / 2)

    def derive(self, theta: Floats, penalty: Floats) -> tuple[Floats, Floats]:
        """Return gradient and Hessian."""
        chances = expit(self.Z @ theta)
        gradient = self.Z.T @ (self.weights * (chances - self.y)) + penalty * theta
        root = np.sqrt(self.weights * chances * (1 - chances))
        half = self.Z * root[:, None]
        hessian = half.T @ half
        diagonal = np.diag_indices(len(theta))
        hessian[diagonal] += penalty + RIDGE * np.trace(hessian)
        return gradient, hessian


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxSample:
    """Rows of one problem of several classes; parameters are those of a class after the other.

    Parameters
    ----------
    Z, weights : ndarray
        As in `Sample`.
    Y : ndarray of shape (n_rows, n_classes)
        1 in the column of the row's class, else 0.
    """

    Z: Floats
    Y: Floats
    weights: Floats

    def penalise(self, C: float) -> Floats:
        """Return the weight of each parameter's square, twice: nothing for the intercepts."""
        of_class = np.append(np.full(self.Z.shape[1] - 1, 1 / C), 0.0)
        return np.tile(of_class, self.Y.shape[1])

    def loss(self, theta: Floats, penalty: Floats) -> float:
        """Return the penalised loss."""
        margins = self._find_margins(theta)
        losses = logsumexp(margins, axis=1) - (margins * self.Y).sum(axis=1)
        return float(self.weights @ losses + (penalty * theta**2).sum() / 2)

    def derive(self, theta: Floats, penalty: Floats) -> tuple[Floats, Floats]:
        """Return gradient and Hessian."""
        n_rows, n = self.Z.shape
        chances = softmax(self._find_margins(theta), axis=1)
        residuals = self.weights[:, None] * (chances - self.Y)
        gradient = (residuals.T @ self.Z).ravel() + penalty * theta
        # Zᵀ diag(w p_k (δ_kl - p_l)) Z for the classes k and l.
        root = np.sqrt(self.weights)[:, None] * chances
        joint = (root[:, :, None] * self.Z[:, None, :]).reshape(n_rows, -1)
        hessian = -(joint.T @ joint)
        for number in range(self.Y.shape[1]):
            of_class = slice(number * n, (number + 1) * n)
            weighted = self.Z * (self.weights * chances[:, number])[:, None]
            hessian[of_class, of_class] += self.Z.T @ weighted
        # To raise all intercepts changes nothing: any curvature will do.
        hessian[n - 1 :: n, n - 1 :: n] += self.weights.sum()
        diagonal = np.diag_indices(len(theta))
        hessian[diagonal] += penalty + RIDGE * np.trace(hessian)
        return gradient, hessian

    def _find_margins(self, theta: Floats) -> Floats:
        return np.asarray(self.Z @ theta.reshape(self.Y.shape[1], -1).T)


def follow_path(
    sample: Sample | SoftmaxSample, Cs: Floats, tolerance: float
) -> tuple[Floats, list[tuple[Floats, bool]]]:
    """Minimise for each C, from the smallest on, each from where the one before ended.

    Parameters
    ----------
    sample : Sample or SoftmaxSample
        Rows.
    Cs : ndarray of shape (n_C,)
        Inverse strengths of the penalty, above 0.
    tolerance : float
        Largest component of the gradient, by the sum of the weights, at which a model is done.

    Returns
    -------
    thetas : ndarray of shape (n_C, n_parameters)
        In the order of `Cs`.
    factors : list of tuple
        Cholesky factors of the last Hessians, for `scipy.linalg.cho_solve`.
    """
    theta = np.zeros(len(sample.penalise(1.0)))
    thetas, factors = np.zeros((len(Cs), len(theta))), [(np.empty(0), False)] * len(Cs)
    for number in np.argsort(Cs):
        penalty = sample.penalise(Cs[number])
        theta, factors[number] = _minimise(sample, theta, penalty, tolerance)
        thetas[number] = theta
    return thetas, factors


def _minimise(
    sample: Sample | SoftmaxSample, theta: Floats, penalty: Floats, tolerance: float
) -> tuple[Floats, tuple[Floats, bool]]:
    total = sample.weights.sum()
    factor = (np.empty(0), False)
    for _ in range(MAX_NEWTON_STEPS):
        gradient, hessian = sample.derive(theta, penalty)
        factor = cho_factor(hessian, check_finite=False)
        if np.abs(gradient).max() <= tolerance * total:
            break
        step = cho_solve(factor, gradient, check_finite=False)
        theta = _search_line(sample, theta, penalty, (step, float(gradient @ step)))
    return theta, factor


def _search_line(
    sample: Sample | SoftmaxSample,
    theta: Floats,
    penalty: Floats,
    direction: tuple[Floats, float],
) -> Floats:
    step, slope = direction
    before = sample.loss(theta, penalty)
    share = 1.0
    for _ in range(MAX_HALVINGS):
        trial = theta - share * step
        # The last digits of the loss are noise when the step is small.
        allowed = before - 1e-4 * share * slope + 1e-13 * abs(before)
        if sample.loss(trial, penalty) <= allowed:
            return trial
        share /= 2
    return theta


@dataclass(slots=True)
class _Memory:
    """The last steps and how the gradient changed with them, for all models."""

    steps: list[Floats]
    changes: list[Floats]

    def apply(
        self, gradient: Floats, models: NDArray[np.int64], metric: Metric
    ) -> Floats:
        """Return the direction of each model (two-loop recursion)."""
        q, shares = gradient.copy(), []
        pairs = [
            (step[models], change[models], _invert(_dot(step[models], change[models])))
            for step, change in zip(self.steps, self.changes, strict=True)
        ]
        for step, change, rho in reversed(pairs):
            share = rho * _dot(step, q)
            q -= share[:, None] * change
            shares.append(share)
        direction = metric(q, models)
        for (step, change, rho), share in zip(pairs, reversed(shares), strict=True):
            back = rho * _dot(change, direction)
            direction += (share - back)[:, None] * step
        return direction

    def add(self, step: Floats, change: Floats) -> None:
        """Remember a step, and forget the oldest."""
        self.steps, self.changes = (
            [*self.steps, step][-MEMORY:],
            [*self.changes, change][-MEMORY:],
        )


def minimise_together(
    gradient: Gradient, metric: Metric, start: Floats, tolerance: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Minimise convex functions together, each evaluation of the gradient shared.

    Parameters
    ----------
    gradient : callable
        Returns the gradients, shape (n, n_parameters), of n models at n points.
    metric : callable
        Applies an approximate inverse Hessian to vectors of n models.
    start : ndarray of shape (n_models, n_parameters)
        Where to begin.
    tolerance : ndarray of shape (n_models,)
        Largest component of the gradient at which a model is done.

    Returns
    -------
    points : ndarray of shape (n_models, n_parameters)
    is_done : ndarray of bool, shape (n_models,)
        Whether the tolerance was reached.
    """
    points = start.copy()
    everything = np.arange(len(points))
    slopes = gradient(points, everything)
    memory = _Memory([], [])
    n_passes = 1
    while True:
        is_open = np.abs(slopes).max(axis=1) > tolerance
        models = np.flatnonzero(is_open)
        if not len(models) or n_passes >= MAX_PASSES:
            return points, ~is_open
        direction = memory.apply(slopes[models], models, metric)
        step, change, n = _step(gradient, points, slopes, (models, direction))
        n_passes += n
        points, slopes = points + step, slopes + change
        memory.add(step, change)


def _step(
    gradient: Gradient,
    points: Floats,
    slopes: Floats,
    move: tuple[NDArray[np.int64], Floats],
) -> tuple[Floats, Floats, int]:
    """Go along each direction until it no longer leads down steeply; return what changed."""
    models, direction = move
    step, change = np.zeros_like(points), np.zeros_like(points)
    share = np.ones(len(models))
    before = _dot(slopes[models], direction)
    pending = np.arange(len(models))
    n_passes = 0
    while len(pending) and n_passes < MAX_HALVINGS:
        n_passes += 1
        chosen = models[pending]
        moved = -share[pending, None] * direction[pending]
        new = gradient(points[chosen] + moved, chosen)
        step[chosen], change[chosen] = moved, new - slopes[chosen]
        after = _dot(new, direction[pending])
        overshot = after < -SLOPE_SHARE * np.abs(before[pending])
        # The zero of the slope, if it falls in proportion.
        ratio = before[pending] / np.where(overshot, before[pending] - after, 1.0)
        share[pending] *= np.where(overshot, np.clip(ratio, 0.1, 0.5), 1.0)
        pending = pending[overshot]
    return step, change, n_passes


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("jd,jd->j", a, b))


def _invert(values: Floats) -> Floats:
    return np.where(values > 0, 1 / np.where(values > 0, values, 1.0), 0.0)
