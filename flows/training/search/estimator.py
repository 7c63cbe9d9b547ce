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
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.utils import indexable
from sklearn.utils.validation import _check_method_params

from training.search.merging import break_ties, merge
from training.search.planning import plan
from training.search.recognition import name_weight, set_up
from training.search.running import run_shard
from training.search.values import JOINT, SAMPLE_WEIGHT, SOLVERS, Data, Problem, Row

logger = logging.getLogger(__name__)


class SharedGridSearchCV(GridSearchCV):  # type: ignore[misc]  # untyped
    """GridSearchCV for LGBMClassifier and LogisticRegression, several times faster.

    Takes and returns what GridSearchCV does. Candidates for which that cannot be promised are
    fitted the way GridSearchCV fits them; the log says why.

    Parameters
    ----------
    estimator, param_grid, scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, \
    return_train_score
        As in GridSearchCV; `n_jobs` is a number of threads, each fit takes one.
    solver : {"joint", "scikit-learn"}, default="joint"
        How logistic regressions of two classes with an l2 penalty are solved: all together and to
        the optimum, or by scikit-learn's own solver, to the last bit.
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

    def fit(self, X: Any, y: Any = None, **params: Any) -> "SharedGridSearchCV":
        """Search, and refit the best; parameters as in GridSearchCV.

        Raises
        ------
        ValueError
            If `solver` is unknown, or as GridSearchCV raises it.
        """
        if self.solver not in SOLVERS:
            raise ValueError(
                f"solver is {self.solver!r}; it has to be one of {', '.join(SOLVERS)}"
            )
        reason = self._find_objection(X, y, params) or self._find_fault()
        if reason:
            logger.info("searched by GridSearchCV: %s", reason)
            super().fit(X, y, **params)
        else:
            self._search_and_refit(X, y, params)
        return self

    def _find_objection(self, X: Any, y: Any, params: Mapping[str, Any]) -> str:
        """Say why nothing can be shared at all; empty if there is no reason."""
        is_table = isinstance(X, pd.DataFrame)
        is_array = isinstance(X, np.ndarray) and X.dtype.kind in "fiub"
        if not (is_table or is_array or issparse(X)) or X.ndim != 2 or 0 in X.shape:
            return "the rows are no table, array or sparse matrix with numbers"
        if not isinstance(y, np.ndarray | pd.Series | list) or np.ndim(y) != 1:
            return "the labels are not a list of one label each"
        if set(params) - {SAMPLE_WEIGHT, "groups", name_weight(self.estimator)}:
            return "fit is given parameters for its estimator"
        if self.return_train_score:
            return "training rows are to be scored"
        if get_config()["enable_metadata_routing"]:
            return "metadata routing is on"
        if self.verbose > 1:
            return "each fit is to be told of"
        return ""

    def _find_fault(self) -> str:
        """Say why the candidates cannot even be looked at; empty if they can."""
        try:
            scorers, _ = self._get_scorers()
            candidates = tuple(ParameterGrid(self.param_grid))
            set_up(Problem(self.estimator, candidates, scorers), 0)
        except (ValueError, TypeError, AttributeError, IndexError):
            # GridSearchCV tells what is wrong, in its own words.
            return "the parameters are no good"
        return ""

    def _search_and_refit(self, X: Any, y: Any, params: dict[str, Any]) -> None:
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        routed = self._get_routed_params_for_fit(_check_method_params(X, params=params))
        self._checked_cv_orig = check_cv(
            self.cv, y, classifier=is_classifier(self.estimator)
        )
        splits = tuple(self._checked_cv_orig.split(X, y, **routed.splitter.split))
        self.n_splits_ = len(splits)
        problem = Problem(
            self.estimator,
            tuple(ParameterGrid(self.param_grid)),
            scorers,
            self.error_score,
            self.solver,
        )
        given = {k: v for k, v in routed.estimator.fit.items() if v is not None}
        data = Data(X, y, splits, given, routed.scorer.score)
        rows = self._search(problem, data)
        self._select(problem, rows, refit_metric)
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        if self.refit:
            self._refit(X, y, given)

    def _search(self, problem: Problem, data: Data) -> tuple[Row, ...]:
        (shard,) = plan(problem, data)
        if self.verbose:
            print(
                f"Fitting {self.n_splits_} folds for each of {len(problem.candidates)} candidates"
            )
        rows = run_shard(
            problem,
            data,
            shard,
            n_threads=effective_n_jobs(self.n_jobs),
            log=logger.info,
        )
        self.cv_results_ = merge(problem, self.n_splits_, rows)
        self.multimetric_ = isinstance(rows[0].test_scores, dict)
        return rows

    def _select(
        self, problem: Problem, rows: tuple[Row, ...], refit_metric: str
    ) -> None:
        if not self.refit and self.multimetric_:
            return
        self.best_index_ = self._select_best_index(
            self.refit, refit_metric, self.cv_results_
        )
        if not callable(self.refit):
            scores = self.cv_results_[f"mean_test_{refit_metric}"]
            self.best_index_ = break_ties(problem, rows, scores, int(self.best_index_))
            self.best_score_ = scores[self.best_index_]
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _refit(self, X: Any, y: Any, fit_params: Mapping[str, Any]) -> None:
        self.best_estimator_ = clone(self.estimator).set_params(
            **clone(self.best_params_, safe=False)
        )
        begin = time.time()
        self.best_estimator_.fit(X, y, **fit_params)
        self.refit_time_ = time.time() - begin
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
