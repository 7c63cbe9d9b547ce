"""The optimum of one logistic regression on all rows, by the solver of the search."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from training.search.design_learning import make_design
from training.search.joint_solver import JointSolver
from training.search.pipeline_steps import Preprocessing
from training.search.recognition import can_solve_together
from training.search.targets import make_targets
from training.search.values import SAMPLE_WEIGHT, CannotShare, Data, SolverLimits


def fit_from_optimum(
    classifier: LogisticRegression,
    X: Any,
    y: NDArray[Any],
    sample_weight: NDArray[np.float64] | None = None,
    *,
    n_threads: int = 1,
) -> None:
    """Fit a logistic regression; scikit-learn's solver begins at the optimum, if that is known.

    It ends there, if its gradient is below `tol`, and goes on if not. The bits do not depend on
    the number of threads.

    Parameters
    ----------
    classifier : LogisticRegression
        Unfitted; it is fitted in place, and its parameters stay as they are.
    X : ndarray or sparse matrix of float64, shape (n_rows, n_features)
        Rows as the classifier sees them.
    y : ndarray of shape (n_rows,)
        Labels.
    sample_weight : ndarray of float64, shape (n_rows,), optional
        Weights of the rows.
    n_threads : int, default=1
        Number of threads.
    """
    data = Data(X, y, (), {SAMPLE_WEIGHT: sample_weight})
    if not can_solve_together(data, classifier):
        classifier.fit(X, y, sample_weight)
        return
    try:
        thetas, classes = _solve(classifier, data, n_threads)
    except (CannotShare, np.linalg.LinAlgError):
        # scikit-learn's own solver takes any rows, or says what is wrong with them.
        classifier.fit(X, y, sample_weight)
        return
    classifier.coef_, classifier.intercept_ = thetas[:, :-1], thetas[:, -1]
    classifier.classes_ = classes
    try:
        classifier.set_params(warm_start=True).fit(X, y, sample_weight)
    finally:
        classifier.set_params(warm_start=False)


def _solve(
    classifier: LogisticRegression, data: Data, n_threads: int
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return coefficients, shape (n_raw_scores, n_features + 1), and the class labels."""
    rows, n_features = data.X, data.X.shape[1]
    used = np.unique(rows.tocsr().indices) if issparse(rows) else np.arange(n_features)
    if len(used) < n_features:
        rows = rows.tocsr()[:, used]
    splits = [(np.arange(rows.shape[0]), np.arange(0))]
    with threadpool_limits(1), ThreadPoolExecutor(n_threads) as pool:
        nothing = Preprocessing(None, None, rows.shape[1])
        design = make_design(rows, splits, nothing, pool)
        targets = make_targets(data, splits, classifier.class_weight)
        Cs = np.array([float(classifier.C)])
        solver = JointSolver(design, targets, splits, Cs, SolverLimits())
        solved = solver.solve(pool)[0, 0]
    thetas = np.zeros((len(solved), n_features + 1))
    thetas[:, np.append(used, n_features)] = solved
    return thetas, targets.classes
