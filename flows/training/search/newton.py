"""Newton's method for penalised logistic regressions, on few rows, which are scaled and copied.

References
----------
J. Nocedal, S. Wright: Numerical Optimization, 2nd edition: algorithms 3.1 (backtracking) and 3.2
(Newton's method with a modified Hessian).
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import issparse
from scipy.special import expit, logsumexp, softmax

from training.search.values import Floats

MAX_NEWTON_STEPS = 100
MAX_HALVINGS = 40
# Sufficient decrease (Armijo condition).
DECREASE_SHARE = 1e-4
# Rounding error of a loss, relative to the loss.
LOSS_NOISE = 1e-13
# Added to the Hessian's diagonal, relative to its trace, so that a flat Hessian has a factor.
RIDGE = 1e-14

# Share of numbers that are not 0 above which the product of sparse rows is faster as a dense one.
MAX_SPARSE_DENSITY = 0.1
# Rows that are dense at once; their number bounds the memory.
DENSE_ROWS = 2048

# A Cholesky factor as `scipy.linalg.cho_factor` returns it.
Factor = tuple[Floats, bool]


class Loss(Protocol):
    """A convex loss of one model on rows with weights."""

    @property
    def weights(self) -> Floats:
        """Weights of the rows, shape (n_rows,)."""
        ...

    def penalise(self, C: float) -> Floats:
        """Return twice the weight of each squared parameter, shape (n_parameters,)."""
        ...

    def evaluate(self, theta: Floats, penalty: Floats) -> float:
        """Return the penalised loss at theta, shape (n_parameters,)."""
        ...

    def derive(self, theta: Floats, penalty: Floats) -> tuple[Floats, Floats]:
        """Return gradient and Hessian: (n_parameters,) and (n_parameters, n_parameters)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LogisticLoss:
    """The loss of a logistic regression of two classes.

    Parameters
    ----------
    Z : ndarray or csr_matrix of float64, shape (n_rows, n_features + 1)
        Scaled rows. The last column is 1; its coefficient, the intercept, is not penalised.
    y : ndarray of float64, shape (n_rows,)
        0 or 1.
    weights : ndarray of float64, shape (n_rows,)
        0 or more.

    Notes
    -----
    sum_i w_i (log(1 + exp(s_i)) - y_i s_i) + sum_j theta_j^2 / (2 C) with the raw scores
    s = Z theta, as `sklearn.linear_model.LogisticRegression` minimises it.
    """

    Z: Any
    y: Floats
    weights: Floats

    def penalise(self, C: float) -> Floats:
        """Return twice the weight of each squared parameter, shape (n_features + 1,)."""
        return np.append(np.full(self.Z.shape[1] - 1, 1 / C), 0.0)

    def evaluate(self, theta: Floats, penalty: Floats) -> float:
        """Return the penalised loss at theta, shape (n_features + 1,)."""
        raw_scores = self.Z @ theta
        losses = np.logaddexp(0, raw_scores) - self.y * raw_scores
        return float(self.weights @ losses + (penalty * theta**2).sum() / 2)

    def derive(self, theta: Floats, penalty: Floats) -> tuple[Floats, Floats]:
        """Return the gradient and the Hessian of the penalised loss.

        Parameters
        ----------
        theta, penalty : ndarray of float64, shape (n_features + 1,)
            Parameters, and what `penalise` returns.

        Returns
        -------
        gradient : ndarray of float64, shape (n_features + 1,)
        hessian : ndarray of float64, shape (n_features + 1, n_features + 1)
        """
        probabilities = expit(self.Z @ theta)
        residuals = self.weights * (probabilities - self.y)
        gradient = self.Z.T @ residuals + penalty * theta
        hessian = weigh_products(
            self.Z, self.weights * probabilities * (1 - probabilities)
        )
        diagonal = np.diag_indices(len(theta))
        hessian[diagonal] += penalty + RIDGE * np.trace(hessian)
        return gradient, hessian


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxLoss:
    """The loss of a logistic regression of several classes.

    The parameters of one class follow those of the other: n_parameters is
    n_classes * (n_features + 1).

    Parameters
    ----------
    Z : ndarray of float64, shape (n_rows, n_features + 1)
        As in `LogisticLoss`.
    Y : ndarray of float64, shape (n_rows, n_classes)
        1 in the column of the row's class, 0 in the others.
    weights : ndarray of float64, shape (n_rows,)
        0 or more.

    Notes
    -----
    sum_i w_i (log(sum_k exp(s_ik)) - sum_k Y_ik s_ik) + sum_jk theta_jk^2 / (2 C) with the raw
    scores s = Z theta, as `sklearn.linear_model.LogisticRegression` minimises it.
    """

    Z: Floats
    Y: Floats
    weights: Floats

    def penalise(self, C: float) -> Floats:
        """Return twice the weight of each squared parameter, shape (n_parameters,)."""
        of_class = np.append(np.full(self.Z.shape[1] - 1, 1 / C), 0.0)
        return np.tile(of_class, self.Y.shape[1])

    def evaluate(self, theta: Floats, penalty: Floats) -> float:
        """Return the penalised loss at theta, shape (n_parameters,)."""
        raw_scores = self._find_raw_scores(theta)
        losses = logsumexp(raw_scores, axis=1) - (raw_scores * self.Y).sum(axis=1)
        return float(self.weights @ losses + (penalty * theta**2).sum() / 2)

    def derive(self, theta: Floats, penalty: Floats) -> tuple[Floats, Floats]:
        """Return the gradient and the Hessian of the penalised loss.

        Parameters
        ----------
        theta, penalty : ndarray of float64, shape (n_parameters,)
            Parameters, and what `penalise` returns.

        Returns
        -------
        gradient : ndarray of float64, shape (n_parameters,)
        hessian : ndarray of float64, shape (n_parameters, n_parameters)
            Its block for the classes k and l is Z' diag(w p_k (δ_kl - p_l)) Z.
        """
        n_rows, n = self.Z.shape
        probabilities = softmax(self._find_raw_scores(theta), axis=1)
        residuals = self.weights[:, None] * (probabilities - self.Y)
        gradient = (residuals.T @ self.Z).ravel() + penalty * theta
        root = np.sqrt(self.weights)[:, None] * probabilities
        joint = (root[:, :, None] * self.Z[:, None, :]).reshape(n_rows, -1)
        hessian = -(joint.T @ joint)
        for number in range(self.Y.shape[1]):
            of_class = slice(number * n, (number + 1) * n)
            weighted = self.Z * (self.weights * probabilities[:, number])[:, None]
            hessian[of_class, of_class] += self.Z.T @ weighted
        # The loss is flat where all intercepts rise together, so any curvature serves there.
        hessian[n - 1 :: n, n - 1 :: n] += self.weights.sum()
        diagonal = np.diag_indices(len(theta))
        hessian[diagonal] += penalty + RIDGE * np.trace(hessian)
        return gradient, hessian

    def _find_raw_scores(self, theta: Floats) -> Floats:
        return np.asarray(self.Z @ theta.reshape(self.Y.shape[1], -1).T)


def weigh_products(Z: Any, weights: Floats) -> Floats:
    """Return Z' diag(weights) Z, the sum of the rows' own products.

    Parameters
    ----------
    Z : ndarray or csr_matrix of float64, shape (n_rows, n_columns)
        Rows.
    weights : ndarray of float64, shape (n_rows,)
        0 or more.

    Returns
    -------
    ndarray of float64, shape (n_columns, n_columns)
    """
    root = np.sqrt(weights)[:, None]
    if not issparse(Z):
        half = Z * root
        return np.asarray(half.T @ half)
    half = Z.multiply(root).tocsr()
    if half.nnz <= MAX_SPARSE_DENSITY * half.shape[0] * half.shape[1]:
        return np.asarray((half.T @ half).toarray())
    total = np.zeros((Z.shape[1], Z.shape[1]))
    for begin in range(0, Z.shape[0], DENSE_ROWS):
        block = half[begin : begin + DENSE_ROWS].toarray()
        total += block.T @ block
    return total


def follow_path(
    loss: Loss, Cs: Floats, tolerance: float
) -> tuple[Floats, list[Factor]]:
    """Minimise a loss for each C, from the smallest on; each begins where the last one ended.

    Parameters
    ----------
    loss : Loss
        What is minimised.
    Cs : ndarray of float64, shape (n_C,)
        Inverse strengths of the penalty, above 0.
    tolerance : float
        A model is done when no component of its gradient is larger, per unit of row weight.

    Returns
    -------
    thetas : ndarray of float64, shape (n_C, n_parameters)
        Minima, in the order of `Cs`.
    factors : list of tuple
        Cholesky factors of the last Hessians, for `scipy.linalg.cho_solve`.
    """
    theta = np.zeros(len(loss.penalise(1.0)))
    thetas, factors = np.zeros((len(Cs), len(theta))), [(np.empty(0), False)] * len(Cs)
    for number in np.argsort(Cs):
        penalty = loss.penalise(Cs[number])
        theta, factors[number] = _minimise(loss, theta, penalty, tolerance)
        thetas[number] = theta
    return thetas, factors


def _minimise(
    loss: Loss, theta: Floats, penalty: Floats, tolerance: float
) -> tuple[Floats, Factor]:
    total = loss.weights.sum()
    factor = (np.empty(0), False)
    for _ in range(MAX_NEWTON_STEPS):
        gradient, hessian = loss.derive(theta, penalty)
        factor = cho_factor(hessian, check_finite=False)
        if np.abs(gradient).max() <= tolerance * total:
            break
        step = cho_solve(factor, gradient, check_finite=False)
        theta = _backtrack(loss, theta, penalty, (step, float(gradient @ step)))
    return theta, factor


def _backtrack(
    loss: Loss, theta: Floats, penalty: Floats, direction: tuple[Floats, float]
) -> Floats:
    """Return theta minus the step or a half, a quarter, ... of it, whichever lowers the loss."""
    step, slope = direction
    before = loss.evaluate(theta, penalty)
    size = 1.0
    for _ in range(MAX_HALVINGS):
        trial = theta - size * step
        # The last digits of the loss are noise when the step is small.
        allowed = before - DECREASE_SHARE * size * slope + LOSS_NOISE * abs(before)
        if loss.evaluate(trial, penalty) <= allowed:
            return trial
        size /= 2
    return theta
