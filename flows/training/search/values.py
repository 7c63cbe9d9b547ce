"""The values of a search: the question, the rows, the shared fits and the scores.

::

    Problem, Data --plan--> Shards --run_shard--> SplitScores --merge--> cv_results_

A `Shard` holds `Task`s. A `Task` is a `SharedFit` on one split, and gives a `SplitScore` for each
candidate of the fit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Positions of the training rows and of the test rows.
Split = tuple[NDArray[np.int64], NDArray[np.int64]]

JOINT, SCIKIT_LEARN = "joint", "scikit-learn"
SOLVERS = (JOINT, SCIKIT_LEARN)
SAMPLE_WEIGHT = "sample_weight"


class Method(StrEnum):
    """How the candidates of a shared fit are fitted; each has a module of its own."""

    # One LightGBM fit; every n_estimators is a prefix of it.
    BOOSTING = "boosting"
    # All C and all splits of a logistic regression together, on the rows as they are.
    JOINT = "joint"
    # scikit-learn's own solver for each candidate, on rows that are scaled once per split.
    SHARED_ROWS = "shared rows"
    # One fit for each candidate and split, as GridSearchCV does it.
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class SolverLimits:
    """Sizes at which the joint solver changes its method.

    A limit changes the time of a search. It changes scores by no more than the solver's tolerance.

    Parameters
    ----------
    max_newton_multiplications : float, default=4e9
        Work up to which Newton's method solves the models of each split. Above it, all models share
        their passes over the rows.
    max_preconditioner_features : int, default=2000
        Columns up to which the preconditioner is a full matrix. Of more columns, this many are in
        the matrix, and the others have a diagonal. Several classes have a matrix each; each has
        the columns divided by the square root of the number of classes.
    max_preconditioner_parameters : int, default=1000
        Parameters up to which all classes have one matrix.
    min_sample_rows : int, default=20_000
        Fewest rows in the sample that gives each model its start and its preconditioner.
    sample_rows_per_feature : int, default=20
        Rows in the sample for each column, if that is more than `min_sample_rows`.
    """

    max_newton_multiplications: float = 4e9
    max_preconditioner_features: int = 2000
    max_preconditioner_parameters: int = 1000
    min_sample_rows: int = 20_000
    sample_rows_per_feature: int = 20


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The question of a search.

    Parameters
    ----------
    estimator : estimator
        Unfitted; a candidate sets its parameters.
    candidates : tuple of dict
        Parameters of each candidate, as `ParameterGrid` gives them.
    scorer : callable
        A scorer of one metric from `sklearn.metrics.check_scoring`, or scikit-learn's scorer of
        several metrics.
    error_score : float or "raise", default=nan
        Score of a fit that fails.
    solver : {"joint", "scikit-learn"}, default="joint"
        "joint" solves logistic regressions together, each to its optimum. "scikit-learn" solves
        each by scikit-learn's own solver, with the same bits.
    solver_limits : SolverLimits
        Sizes at which the joint solver changes its method.
    """

    estimator: Any
    candidates: tuple[dict[str, Any], ...]
    scorer: Any
    error_score: Any = np.nan
    solver: str = JOINT
    solver_limits: SolverLimits = SolverLimits()


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The rows and their splits.

    Parameters
    ----------
    X : ndarray, csr_matrix or DataFrame, shape (n_rows, n_features)
        Features; never changed.
    y : ndarray of shape (n_rows,)
        Class labels.
    splits : tuple of (train, test)
        Positions of the training rows and of the test rows, two ndarrays of int64 for each split.
    fit_params, score_params : mapping
        Keyword arguments of the estimator's `fit` and of the scorer.
    """

    X: Any
    y: Any
    splits: tuple[Split, ...]
    fit_params: Mapping[str, Any] = field(default_factory=dict)
    score_params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sample_weight(self) -> NDArray[Any] | None:
        """Weights of the classifier's rows, shape (n_rows,); None if there are none.

        In a pipeline the parameter's name begins with the names of the steps.
        """
        for name, values in self.fit_params.items():
            if name.rpartition("__")[2] == SAMPLE_WEIGHT and values is not None:
                return np.asarray(values)
        return None


@dataclass(frozen=True, slots=True)
class SharedFit:
    """Candidates that share a fit.

    Parameters
    ----------
    method : Method
        How the candidates are fitted.
    candidates : tuple of int
        Positions of the candidates.
    cost : float
        Expected time on one split. The unit is arbitrary; only ratios have a meaning.
    reason : str
        Why the method is plain; empty for the other methods.
    shares : tuple of float
        Share of the cost that each candidate adds, in (0, 1]; their sum is 1. If empty, all
        candidates add the same.
    """

    method: Method
    candidates: tuple[int, ...]
    cost: float
    reason: str = ""
    shares: tuple[float, ...] = ()

    def split_cost(self) -> dict[int, float]:
        """Return what each candidate adds to the cost."""
        n = len(self.candidates)
        shares = self.shares or (1 / n,) * n
        return {
            candidate: self.cost * share
            for candidate, share in zip(self.candidates, shares, strict=True)
        }


@dataclass(frozen=True, slots=True)
class Task:
    """A shared fit on one split, which is given by its position."""

    shared_fit: SharedFit
    split: int


Shard = tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class SplitScore:
    """The score of one candidate on one split.

    Parameters
    ----------
    candidate, split : int
        Positions.
    test_scores : float or dict of str to float
        Score, or score by metric.
    n_test_samples : int
        Test rows of the split.
    fit_time, score_time : float
        Seconds until the candidate was fitted, and seconds of scoring. Shared time counts in full
        for each candidate of a boosting fit, and in equal parts for those of a joint fit.
    method : Method
        How the candidate was fitted in the end.
    fit_error : str or None
        Traceback of a fit that failed.
    """

    candidate: int
    split: int
    test_scores: Any
    n_test_samples: int
    fit_time: float
    score_time: float
    method: Method
    fit_error: str | None = None


class CannotShare(Exception):
    """The rows or the steps rule out a shared fit, so the candidates are fitted the plain way."""


Emit = Callable[[SplitScore], None]
ShouldStop = Callable[[], bool]
