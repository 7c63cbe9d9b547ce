"""The values of a search: what is asked, on which rows, what is fitted once, and what came out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Split = tuple[NDArray[np.int64], NDArray[np.int64]]

JOINT, SCIKIT_LEARN = "joint", "scikit-learn"
SOLVERS = (JOINT, SCIKIT_LEARN)
SAMPLE_WEIGHT = "sample_weight"


class Method(StrEnum):
    """How the candidates of a run are fitted."""

    # One boosting run; every n_estimators is a prefix of it.
    BOOSTING = "boosting"
    # All C and all folds of a logistic regression together, on the rows as they are.
    JOINT = "joint"
    # scikit-learn's own solver for each candidate, on rows that are scaled once per fold.
    SHARED_ROWS = "shared rows"
    # What GridSearchCV does.
    PLAIN = "plain"


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """What is asked.

    Parameters
    ----------
    estimator : estimator
        Unfitted; candidates set its parameters.
    candidates : tuple of dict
        Parameters of each candidate, as `ParameterGrid` gives them.
    scorer : callable
        What `sklearn.metrics.check_scoring` returns, or a scorer of several metrics.
    error_score : float or "raise", default=nan
        Score of a fit that fails.
    solver : {"joint", "scikit-learn"}, default="joint"
        How logistic regressions are solved: together and to the optimum, or each to the last bit as
        scikit-learn does it.
    """

    estimator: Any
    candidates: tuple[dict[str, Any], ...]
    scorer: Any
    error_score: Any = np.nan
    solver: str = JOINT


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The rows and how they are split.

    Parameters
    ----------
    X : ndarray, csr_matrix or DataFrame, shape (n_samples, n_features)
        Features; never changed.
    y : ndarray of shape (n_samples,)
        Class labels.
    splits : tuple of (train, test)
        Row numbers of each split.
    fit_params, score_params : mapping
        What the estimator's `fit` and the scorer take beside the rows.
    """

    X: Any
    y: Any
    splits: tuple[Split, ...]
    fit_params: Mapping[str, Any] = field(default_factory=dict)
    score_params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sample_weight(self) -> NDArray[Any] | None:
        """Weights of the classifier's rows: `fit` takes them by its name, behind its steps'."""
        for name, values in self.fit_params.items():
            if name.rpartition("__")[2] == SAMPLE_WEIGHT and values is not None:
                return np.asarray(values)
        return None


@dataclass(frozen=True, slots=True)
class Run:
    """Candidates that share a fit.

    Parameters
    ----------
    method : Method
        How they are fitted.
    candidates : tuple of int
        Their positions.
    cost : float
        Expected time on one split, in units of which only ratios mean something.
    reason : str
        Why the method is plain; empty for the others.
    """

    method: Method
    candidates: tuple[int, ...]
    cost: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """A run on one split."""

    run: Run
    split: int


Shard = tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """The score of one candidate on one split.

    Parameters
    ----------
    candidate, split : int
        Positions.
    test_scores : float or dict of str to float
        Score, or score by metric.
    n_test_samples : int
        Rows that it was scored on.
    fit_time, score_time : float
        Seconds until the candidate was fitted, and seconds of scoring. What candidates share counts
        for each of them.
    method : Method
        How it was fitted in the end.
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
    """The rows do not allow what the parameters do; the run has to be plain."""


Emit = Callable[[Row], None]
ShouldStop = Callable[[], bool]
