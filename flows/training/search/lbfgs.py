"""L-BFGS for many convex functions at once, which share each evaluation of their gradients.

A good preconditioner leaves only a few evaluations, each of which may be a pass over many rows.

References
----------
J. Nocedal, S. Wright: Numerical Optimization, 2nd edition: algorithm 7.4 (the two-loop recursion)
and equation 3.7 (the strong Wolfe conditions).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.search.newton_cg import find_newton_steps
from training.search.values import Floats

MAX_PASSES = 5000
# Passes after which the steps are Newton's: models that are still open stand nearly still.
MAX_QUASI_NEWTON_PASSES = 200
# Steps that are remembered.
MEMORY = 10
# A search along a direction ends when the slope has fallen to this share: the second of the strong
# Wolfe conditions, which is enough for a convex function.
SLOPE_SHARE = 0.9
MAX_STEPS_PER_LINE = 40

# Returns gradients at points of models: (n, n_parameters), (n,) -> (n, n_parameters).
Gradient = Callable[[Floats, NDArray[np.int64]], Floats]
# Multiplies vectors of models by an approximate inverse Hessian; same shapes.
Preconditioner = Callable[[Floats, NDArray[np.int64]], Floats]


def minimise_together(
    gradient: Gradient,
    preconditioner: Preconditioner,
    start: Floats,
    tolerance: Floats,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Minimise a convex function for each model.

    Parameters
    ----------
    gradient : callable
        Gets points, float64 of shape (n, n_parameters), and the positions of their models, int64 of
        shape (n,). Returns the gradients, float64 of shape (n, n_parameters).
    preconditioner : callable
        Gets vectors and positions of the same shapes. Returns the vectors, multiplied by an
        approximate inverse Hessian of their models.
    start : ndarray of float64, shape (n_models, n_parameters)
        Where each model begins.
    tolerance : ndarray of float64, shape (n_models,)
        A model is done when no component of its gradient is larger.

    Returns
    -------
    points : ndarray of float64, shape (n_models, n_parameters)
        Minima.
    is_done : ndarray of bool, shape (n_models,)
        Whether the model reached its tolerance.
    """
    points = start.copy()
    everything = np.arange(len(points))
    gradients = gradient(points, everything)
    memory = _Memory([], [])
    n_passes = 1
    while True:
        is_open = np.abs(gradients).max(axis=1) > tolerance
        models = np.flatnonzero(is_open)
        if not len(models) or n_passes >= MAX_PASSES:
            return points, ~is_open
        if n_passes < MAX_QUASI_NEWTON_PASSES:
            direction = memory.apply(gradients[models], models, preconditioner)
        else:
            direction, n = find_newton_steps(
                gradient, preconditioner, points[models], gradients[models], models
            )
            n_passes += n
        step, change, n = _search_line(gradient, points, gradients, (models, direction))
        n_passes += n
        points, gradients = points + step, gradients + change
        memory.add(step, change)


@dataclass(slots=True)
class _Memory:
    """The last steps of all models, and the changes of their gradients."""

    steps: list[Floats]
    changes: list[Floats]

    def apply(
        self,
        gradient: Floats,
        models: NDArray[np.int64],
        preconditioner: Preconditioner,
    ) -> Floats:
        """Return the direction of each model, shape (n, n_parameters): algorithm 7.4."""
        q, alphas = gradient.copy(), []
        pairs = [
            (step[models], change[models], _invert(_dot(step[models], change[models])))
            for step, change in zip(self.steps, self.changes, strict=True)
        ]
        for step, change, rho in reversed(pairs):
            alpha = rho * _dot(step, q)
            q -= alpha[:, None] * change
            alphas.append(alpha)
        direction = preconditioner(q, models)
        for (step, change, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            beta = rho * _dot(change, direction)
            direction += (alpha - beta)[:, None] * step
        return direction

    def add(self, step: Floats, change: Floats) -> None:
        """Remember a step and forget the oldest."""
        self.steps = [*self.steps, step][-MEMORY:]
        self.changes = [*self.changes, change][-MEMORY:]


def _search_line(
    gradient: Gradient,
    points: Floats,
    gradients: Floats,
    line: tuple[NDArray[np.int64], Floats],
) -> tuple[Floats, Floats, int]:
    """Go against the direction of each model, and shorten the steps that overshoot.

    Returns
    -------
    step, change : ndarray of float64, shape (n_models, n_parameters)
        Changes of the points and of their gradients; 0 for models that are not on a line.
    n_passes : int
        Number of evaluations.
    """
    models, direction = line
    step, change = np.zeros_like(points), np.zeros_like(points)
    size = np.ones(len(models))
    before = _dot(gradients[models], direction)
    pending = np.arange(len(models))
    n_passes = 0
    while len(pending) and n_passes < MAX_STEPS_PER_LINE:
        n_passes += 1
        chosen = models[pending]
        moved = -size[pending, None] * direction[pending]
        new = gradient(points[chosen] + moved, chosen)
        step[chosen], change[chosen] = moved, new - gradients[chosen]
        after = _dot(new, direction[pending])
        overshot = after < -SLOPE_SHARE * np.abs(before[pending])
        # Where the slope is 0, if it falls in proportion to the step.
        ratio = before[pending] / np.where(overshot, before[pending] - after, 1.0)
        size[pending] *= np.where(overshot, np.clip(ratio, 0.1, 0.5), 1.0)
        pending = pending[overshot]
    return step, change, n_passes


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("jd,jd->j", a, b))


def _invert(values: Floats) -> Floats:
    return np.where(values > 0, 1 / np.where(values > 0, values, 1.0), 0.0)
