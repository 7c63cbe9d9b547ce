"""SharedGridSearchCV in the place of GridSearchCV: its interface, its errors, its refit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from training.search import SharedGridSearchCV

X, Y = make_classification(240, 6, n_informative=4, random_state=0)
TREES = LGBMClassifier(n_jobs=1, verbose=-1, random_state=0, min_child_samples=2)
LINE = make_pipeline(StandardScaler(), LogisticRegression())
TREE_GRID = {"n_estimators": [2, 4], "max_depth": [2]}
LINE_GRID = {"logisticregression__C": [0.1, 1.0]}


def run_checks(search: type[GridSearchCV], estimator: Any, grid: Any) -> dict[str, str]:
    """Return the outcome of scikit-learn's common checks by name."""
    outcomes = check_estimator(
        search(clone(estimator), grid, cv=2, error_score="raise"),
        on_fail=None,
        on_skip=None,
    )
    return {outcome["check_name"]: outcome["status"] for outcome in outcomes}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "grid"),
    [(TREES, TREE_GRID), (LINE, LINE_GRID)],
    ids=["LightGBM", "logistic regression"],
)
def test_scikit_learn_checks_pass_wherever_grid_search_passes_them(
    estimator: Any, grid: Any
) -> None:
    expected = run_checks(GridSearchCV, estimator, grid)

    actual = run_checks(SharedGridSearchCV, estimator, grid)

    failed = {name for name, status in actual.items() if status == "failed"}
    passed = {name for name, status in expected.items() if status == "passed"}
    assert len(passed) > 20
    assert not failed & passed


@pytest.mark.parametrize(("estimator", "grid"), [(TREES, TREE_GRID), (LINE, LINE_GRID)])
def test_the_best_is_refitted_and_predicts(estimator: Any, grid: Any) -> None:
    expected = GridSearchCV(estimator, grid, cv=3, scoring="roc_auc").fit(X, Y)

    actual = SharedGridSearchCV(estimator, grid, cv=3, scoring="roc_auc").fit(X, Y)

    assert actual.best_params_ == expected.best_params_
    assert np.array_equal(actual.predict_proba(X), expected.predict_proba(X))
    assert actual.score(X, Y) == expected.score(X, Y)
    assert actual.n_splits_ == 3
    assert actual.refit_time_ >= 0
    assert vars(expected).keys() <= vars(actual).keys()


def test_several_metrics_are_refitted_by_the_one_that_is_named() -> None:
    options: dict[str, Any] = {"scoring": ["roc_auc", "accuracy"], "refit": "accuracy"}
    expected = GridSearchCV(TREES, TREE_GRID, **options).fit(X, Y)

    actual = SharedGridSearchCV(TREES, TREE_GRID, **options).fit(X, Y)

    assert actual.best_score_ == expected.best_score_
    assert actual.scorer_.keys() == expected.scorer_.keys()


def pick_last(results: dict[str, Any]) -> int:
    return len(results["params"]) - 1


def test_a_callable_may_pick_the_best() -> None:
    search = SharedGridSearchCV(TREES, TREE_GRID, refit=pick_last).fit(X, Y)

    assert search.best_index_ == 1
    assert not hasattr(search, "best_score_")


def score_by_hand(estimator: Any, X: Any, y: Any) -> float:
    return float((estimator.predict(X) == y).mean())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: SharedGridSearchCV(TREES, TREE_GRID, scoring=score_by_hand),
            "the scorer uses more than predictions",
        ),
        (
            lambda: SharedGridSearchCV(TREES, TREE_GRID, return_train_score=True),
            "return_train_score is set",
        ),
    ],
)
def test_an_unknown_search_is_left_to_grid_search(
    make: Callable[[], Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    search = make().fit(X, Y)

    assert reason in caplog.text
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_another_estimator_is_fitted_as_in_grid_search() -> None:
    expected = GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}).fit(X, Y)

    actual = SharedGridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}).fit(X, Y)

    key = "mean_test_score"
    assert actual.cv_results_[key].tolist() == expected.cv_results_[key].tolist()


def test_a_candidate_that_fails_fails_as_in_grid_search() -> None:
    grid = {"num_leaves": [1, 7], "n_estimators": [2, 3]}
    with pytest.warns((UserWarning, FitFailedWarning)):
        expected = GridSearchCV(TREES, grid, refit=False).fit(X, Y)

    with pytest.warns((UserWarning, FitFailedWarning)):
        actual = SharedGridSearchCV(TREES, grid, refit=False).fit(X, Y)

    key = "mean_test_score"
    assert np.array_equal(
        actual.cv_results_[key], expected.cv_results_[key], equal_nan=True
    )
    assert np.isnan(actual.cv_results_[key]).tolist() == [True, False] * 2


def test_a_search_of_failures_only_raises_as_in_grid_search() -> None:
    with pytest.raises(ValueError, match="All the 5 fits failed"):
        SharedGridSearchCV(TREES, {"num_leaves": [1]}).fit(X, Y)


def test_a_fit_that_fails_raises_if_error_score_says_so() -> None:
    search = SharedGridSearchCV(TREES, {"num_leaves": [1]}, error_score="raise")

    with pytest.raises(Exception, match="num_leaves"):
        search.fit(X, Y)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"leaves": [1], "n_estimators": []}, "got: \\[\\]|non-empty sequence"),
        ({"logisticregression__c": [1]}, "Invalid parameter 'c'"),
    ],
)
def test_an_invalid_grid_raises_what_scikit_learn_raises(
    grid: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SharedGridSearchCV(LINE, grid).fit(X, Y)


def test_an_unknown_solver_is_named() -> None:
    with pytest.raises(
        ValueError, match="solver is 'fast'; set it to 'joint' or 'scikit-learn'"
    ):
        SharedGridSearchCV(LINE, LINE_GRID, solver="fast").fit(X, Y)
