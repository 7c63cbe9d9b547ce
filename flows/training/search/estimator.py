"""GridSearchCV that does the work that candidates have in common once."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from joblib import effective_n_jobs
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, ParameterGrid
from sklearn.utils import indexable

from training.search.merging import break_ties, merge
from training.search.planning import plan
from training.search.recognition import make_estimator, name_sample_weight
from training.search.running import run_shard
from training.search.sklearn_internals import (
    make_scorers,
    make_splitter,
    route_params,
    select_best_index,
    unwrap_scorer,
)
from training.search.values import (
    JOINT,
    SAMPLE_WEIGHT,
    SOLVERS,
    Data,
    Problem,
    SolverLimits,
    SplitScore,
)

logger = logging.getLogger(__name__)


class SharedGridSearchCV(GridSearchCV):  # type: ignore[misc]  # untyped
    """GridSearchCV for LGBMClassifier and LogisticRegression, several times faster.

    It takes and returns what GridSearchCV does. Candidates that it cannot share are fitted as
    GridSearchCV fits them, and the log says why.

    Parameters
    ----------
    estimator, param_grid, scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, \
    return_train_score
        As in GridSearchCV. `n_jobs` is a number of threads; each fit takes one.
    solver : {"joint", "scikit-learn"}, default="joint"
        "joint" solves logistic regressions with an l2 penalty together, each to its optimum.
        "scikit-learn" solves each by scikit-learn's own solver, with the same bits.
    solver_limits : SolverLimits, optional
        Sizes at which the joint solver changes its method; None means `SolverLimits()`.
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        solver: str = JOINT,
        solver_limits: SolverLimits | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.solver = solver
        self.solver_limits = solver_limits

    def fit(self, X: Any, y: Any = None, **params: Any) -> "SharedGridSearchCV":
        """Search, and refit the best candidate.

        Parameters
        ----------
        X : ndarray, sparse matrix or DataFrame, shape (n_rows, n_features)
            Features; never changed.
        y : array-like of shape (n_rows,)
            Class labels.
        **params : dict
            As in GridSearchCV.

        Returns
        -------
        SharedGridSearchCV
            Itself, fitted.

        Raises
        ------
        ValueError
            If `solver` is unknown, or as GridSearchCV raises it.
        """
        if self.solver not in SOLVERS:
            raise ValueError(
                f"solver is {self.solver!r}; set it to {' or '.join(map(repr, SOLVERS))}"
            )
        reason = self._find_objection(X, y, params) or self._find_fault()
        if reason:
            logger.info("searched by GridSearchCV: %s", reason)
            super().fit(X, y, **params)
        else:
            self._search_and_refit(X, y, params)
        return self

    def _find_objection(self, X: Any, y: Any, params: Mapping[str, Any]) -> str:
        """Return why no candidate can share a fit; empty if some may."""
        is_table = isinstance(X, pd.DataFrame)
        is_array = isinstance(X, np.ndarray) and X.dtype.kind in "fiub"
        if not (is_table or is_array or issparse(X)) or X.ndim != 2 or 0 in X.shape:
            return "X is no DataFrame, sparse matrix or array of numbers with rows and columns"
        if not isinstance(y, np.ndarray | pd.Series | list) or np.ndim(y) != 1:
            return "y is not a list of labels"
        if set(params) - {
            SAMPLE_WEIGHT,
            "groups",
            name_sample_weight(self.estimator),
        }:
            return "fit takes parameters for its estimator"
        if self.return_train_score:
            return "return_train_score is set"
        if get_config()["enable_metadata_routing"]:
            return "metadata routing is on"
        if self.verbose > 1:
            return f"verbose is {self.verbose}, so each fit is printed"
        return ""

    def _find_fault(self) -> str:
        """Return why the search cannot begin; empty if it can."""
        try:
            problem, _ = self._make_problem()
            make_estimator(problem, 0)
        except (ValueError, TypeError, AttributeError, IndexError):
            # GridSearchCV raises its own error for them.
            return "a parameter is invalid"
        return ""

    def _make_problem(self) -> tuple[Problem, str]:
        """Return the question of the search, and the metric that `refit` goes by."""
        scorers, refit_metric = make_scorers(self)
        problem = Problem(
            self.estimator,
            tuple(ParameterGrid(self.param_grid)),
            scorers,
            self.error_score,
            self.solver,
            self.solver_limits or SolverLimits(),
        )
        return problem, refit_metric

    def _search_and_refit(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        problem, refit_metric = self._make_problem()
        X, y = indexable(X, y)
        routed = route_params(self, X, params)
        splitter = make_splitter(self, y)
        splits = tuple(splitter.split(X, y, **routed.splitter.split))
        self.n_splits_ = len(splits)
        given = {k: v for k, v in routed.estimator.fit.items() if v is not None}
        data = Data(X, y, splits, given, routed.scorer.score)
        split_scores = self._search(problem, data)
        self._select(problem, split_scores, refit_metric)
        self.scorer_ = unwrap_scorer(problem.scorer)
        if self.refit:
            self._refit(X, y, given)

    def _search(self, problem: Problem, data: Data) -> tuple[SplitScore, ...]:
        (shard,) = plan(problem, data)
        if self.verbose:
            print(
                f"Fitting {self.n_splits_} folds for each of {len(problem.candidates)} candidates"
            )
        split_scores = run_shard(
            problem,
            data,
            shard,
            n_threads=effective_n_jobs(self.n_jobs),
            log=logger.info,
        )
        self.cv_results_ = merge(problem, self.n_splits_, split_scores)
        self.multimetric_ = isinstance(split_scores[0].test_scores, dict)
        return split_scores

    def _select(
        self, problem: Problem, split_scores: tuple[SplitScore, ...], refit_metric: str
    ) -> None:
        if not self.refit and self.multimetric_:
            return
        best = select_best_index(self, refit_metric)
        if not callable(self.refit):
            scores = self.cv_results_[f"mean_test_{refit_metric}"]
            best = break_ties(problem, split_scores, scores, best)
            self.best_score_ = scores[best]
        self.best_index_ = best
        self.best_params_ = self.cv_results_["params"][best]

    def _refit(self, X: Any, y: Any, fit_params: Mapping[str, Any]) -> None:
        self.best_estimator_ = clone(self.estimator).set_params(
            **clone(self.best_params_, safe=False)
        )
        begin = time.time()
        self.best_estimator_.fit(X, y, **fit_params)
        self.refit_time_ = time.time() - begin
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
