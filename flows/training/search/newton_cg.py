"""Newton's method with conjugate gradients, for many convex functions at once.

L-BFGS stands still where many columns go together, as those of one-hot codes do: each group of
them is flat in one direction. Conjugate gradients need one evaluation for each such direction.

References
----------
J. Nocedal, S. Wright: Numerical Optimization, 2nd edition: algorithm 7.1 (truncated Newton) and
section 7.1 (Hessian-vector products by differences of gradients).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.search.values import Floats

# Gets points, shape (n, n_parameters), and the positions of their models, shape (n,); see lbfgs.
Gradient = Callable[[Floats, NDArray[np.int64]], Floats]
Preconditioner = Callable[[Floats, NDArray[np.int64]], Floats]

# Length of the difference, relative to the point: the cube root of the rounding error.
DIFFERENCE = 1e-5
MAX_PRODUCTS = 400
# A step ends when the residual of its equation is this share of the gradient.
RESIDUAL_SHARE = 0.1


def find_newton_steps(
    gradient: Gradient,
    preconditioner: Preconditioner,
    points: Floats,
    gradients: Floats,
    models: NDArray[np.int64],
) -> tuple[Floats, int]:
    """Solve H step = gradient for each model, about.

    Parameters
    ----------
    gradient, preconditioner : callable
        As in `training.search.lbfgs.minimise_together`.
    points, gradients : ndarray of float64, shape (n, n_parameters)
        Where the models are, and their gradients there.
    models : ndarray of int64, shape (n,)
        Positions of the models.

    Returns
    -------
    steps : ndarray of float64, shape (n, n_parameters)
        What is to be subtracted from the points.
    n_passes : int
        Number of evaluations.
    """
    steps, residuals = np.zeros_like(points), gradients.copy()
    scaled = preconditioner(residuals, models)
    directions = scaled.copy()
    products = _dot(residuals, scaled)
    ends = products * RESIDUAL_SHARE**2
    n_passes, active = 0, np.arange(len(models))
    while len(active) and n_passes < MAX_PRODUCTS:
        n_passes += 1
        moved = directions[active]
        norm = np.sqrt(_dot(moved, moved))
        size = DIFFERENCE * (1 + np.sqrt(_dot(points[active], points[active]))) / norm
        beyond = gradient(points[active] + size[:, None] * moved, models[active])
        curved = (beyond - gradients[active]) / size[:, None]
        length = products[active] / _dot(moved, curved)
        steps[active] += length[:, None] * moved
        residuals[active] -= length[:, None] * curved
        scaled = preconditioner(residuals[active], models[active])
        renewed = _dot(residuals[active], scaled)
        ratio = renewed / products[active]
        directions[active] = scaled + ratio[:, None] * moved
        products[active] = renewed
        active = active[renewed > ends[active]]
    return steps, n_passes


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("jd,jd->j", a, b))
