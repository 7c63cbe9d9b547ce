"""Logistic regression in the shared search: every score of every split equals GridSearchCV's."""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.search import (
    Method,
    SharedGridSearchCV,
    SolverLimits,
    joint_solver,
    lbfgs,
)

from search_support import (
    CV,
    EXACT,
    LARGE,
    N_NUMBERS,
    OPTIMUM,
    STRENGTHS,
    TABLES,
    compare,
    find_methods,
    imbalanced,
    logistic,
    many_classes,
    mixed_rows,
    one_hot_rows,
    preparing,
)


@pytest.mark.parametrize("name", ["breast_cancer", "imbalanced"])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("scoring", ["roc_auc", "neg_log_loss", "accuracy"])
def test_logistic_regression_is_at_the_optimum(
    name: str, class_weight: str | None, scoring: str
) -> None:
    table = TABLES[name]()
    estimator = logistic(class_weight=class_weight)
    reference = logistic(class_weight=class_weight, tol=1e-10)

    compare(estimator, STRENGTHS, table, OPTIMUM, reference=reference, scoring=scoring)

    assert find_methods(estimator, STRENGTHS, table) == {Method.JOINT}


def test_logistic_regression_scales_sparse_rows_without_centring_them() -> None:
    scaler = StandardScaler(with_mean=False)

    compare(
        logistic(scaler),
        STRENGTHS,
        TABLES["sparse"](),
        OPTIMUM,
        reference=logistic(scaler, tol=1e-10),
    )


@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
@pytest.mark.parametrize("strategy", ["mean", "median"])
@pytest.mark.parametrize("keep_empty_features", [True, False])
def test_gaps_are_filled_by_the_training_rows_of_each_fold(
    strategy: str, keep_empty_features: bool
) -> None:
    imputer = SimpleImputer(strategy=strategy, keep_empty_features=keep_empty_features)
    X, y = TABLES["gaps"]()
    X[:5, 3] = 1.0 if keep_empty_features else np.nan
    before = make_pipeline(imputer, StandardScaler())

    compare(
        logistic(before),
        STRENGTHS,
        (X, y),
        OPTIMUM,
        reference=logistic(before, tol=1e-10),
        scoring="neg_log_loss",
    )


def test_gaps_of_sparse_rows_are_filled_in_all_columns() -> None:
    X, y = mixed_rows(is_sparse=True, has_gaps=True)
    table = X[:, :N_NUMBERS], y
    before = preparing(is_sparse=True, strategy="mean")

    compare(
        logistic(before),
        STRENGTHS,
        table,
        OPTIMUM,
        reference=logistic(before, tol=1e-10),
    )

    assert find_methods(logistic(before), STRENGTHS, table) == {Method.JOINT}


def test_columns_far_from_zero_or_constant_in_a_fold_lose_no_digits() -> None:
    X, y = imbalanced()
    X = X * 10.0 ** np.arange(-6, 6) + 1e5
    X[:, 0] = 7.1
    X[:, 1] = np.arange(len(y)) < 3

    compare(
        logistic(),
        STRENGTHS,
        (X, y),
        OPTIMUM,
        reference=logistic(tol=1e-10),
        scoring="neg_log_loss",
    )


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_many_rows_share_their_passes(kind: str) -> None:
    """The method for large tables, on one that is small enough to test."""
    max_features = 10 if kind == "sparse" else LARGE.max_preconditioner_features
    scaler = StandardScaler(with_mean=kind == "dense")

    compare(
        logistic(scaler),
        STRENGTHS,
        TABLES["imbalanced" if kind == "dense" else "sparse"](),
        OPTIMUM,
        reference=logistic(scaler, tol=1e-10),
        scoring="neg_log_loss",
        cv=ShuffleSplit(4, test_size=0.3, random_state=0),
        solver_limits=replace(LARGE, max_preconditioner_features=max_features),
    )


@pytest.mark.parametrize("max_features", [2000, 50], ids=["full", "mixed"])
def test_one_hot_rows_are_at_the_optimum_in_few_passes(
    max_features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their columns go together, so a diagonal as preconditioner needs hundreds of passes."""
    counts = count_passes(monkeypatch)

    compare(
        LogisticRegression(max_iter=10_000),
        {"C": [1e-3, 0.1, 10.0]},
        one_hot_rows(),
        OPTIMUM,
        reference=LogisticRegression(solver="newton-cholesky", tol=1e-10),
        scoring="neg_log_loss",
        solver_limits=replace(LARGE, max_preconditioner_features=max_features),
    )

    assert 0 < len(counts) < (60 if max_features == 2000 else 200)


def test_models_that_stand_still_go_on_by_conjugate_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lbfgs, "MAX_QUASI_NEWTON_PASSES", 20)

    compare(
        LogisticRegression(max_iter=10_000),
        {"C": [1e-3, 1.0, 1000.0]},
        one_hot_rows(),
        OPTIMUM,
        reference=LogisticRegression(solver="newton-cholesky", tol=1e-10),
        scoring="neg_log_loss",
        solver_limits=replace(LARGE, max_preconditioner_features=10),
    )


def test_classes_of_one_hot_rows_have_a_metric_each() -> None:
    X, y = one_hot_rows(5)
    y = y + (X[:, 0].toarray()[:, 0] > 0)

    compare(
        LogisticRegression(max_iter=10_000),
        {"C": [1e-3, 1.0]},
        (X, y),
        OPTIMUM,
        reference=LogisticRegression(solver="newton-cholesky", tol=1e-10),
        scoring="neg_log_loss",
        solver_limits=replace(LARGE, max_preconditioner_parameters=10),
    )


def test_hashed_columns_without_a_value_cost_nothing() -> None:
    narrow, wide = one_hot_rows(), one_hot_rows(n_features=2**20)
    estimator = logistic(StandardScaler(with_mean=False))
    options = {"cv": CV, "scoring": "neg_log_loss", "refit": False}
    expected = SharedGridSearchCV(estimator, STRENGTHS, **options).fit(*narrow)

    tracemalloc.start()
    actual = SharedGridSearchCV(estimator, STRENGTHS, **options).fit(*wide)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    key = "mean_test_score"
    np.testing.assert_allclose(
        actual.cv_results_[key], expected.cv_results_[key], rtol=0, atol=OPTIMUM
    )
    # The coefficients of all 18 models would take 150 MB.
    assert peak < 100e6


def test_groups_of_models_that_fit_the_memory_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y = one_hot_rows()
    options = {"cv": CV, "scoring": "neg_log_loss", "refit": False}
    search = SharedGridSearchCV(
        LogisticRegression(), {"C": [0.1, 1.0, 10.0]}, **options
    )
    expected = search.fit(X, y).cv_results_["mean_test_score"]

    monkeypatch.setattr(joint_solver, "MAX_NUMBERS", 2 * X.shape[1] * 28 + 1000)
    actual = search.fit(X, y).cv_results_["mean_test_score"]

    np.testing.assert_allclose(actual, expected, rtol=0, atol=OPTIMUM)


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of models of each pass over the rows."""
    counts: list[int] = []
    derive = joint_solver.JointSolver._derive

    def count(self: Any, thetas: Any, models: Any, pool: Any) -> Any:
        counts.append(len(models))
        return derive(self, thetas, models, pool)

    monkeypatch.setattr(joint_solver.JointSolver, "_derive", count)
    return counts


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "saga", "l1_ratio": 1.0, "random_state": 0},
        {"solver": "saga", "l1_ratio": 0.5, "random_state": 0},
        {"solver": "liblinear", "random_state": 0},
        {"fit_intercept": False},
    ],
    ids=["l1", "elastic net", "liblinear", "no intercept"],
)
def test_other_penalties_and_solvers_share_scaled_rows(params: dict[str, Any]) -> None:
    grid = {"logisticregression__C": [0.1, 1.0]}
    table = TABLES["imbalanced"]()

    compare(logistic(**params), grid, table, EXACT)

    assert find_methods(logistic(**params), grid, table) == {Method.SHARED_ROWS}


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr", "accuracy"])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1, 1: 2, 2: 0.5}])
@pytest.mark.parametrize("kind", ["dense", "sparse", "gaps"])
def test_logistic_regressions_of_many_classes_are_at_their_optimum(
    kind: str, class_weight: Any, scoring: str
) -> None:
    table = many_classes(3, kind)
    scaler: Any = StandardScaler(with_mean=kind != "sparse")
    if kind == "gaps":
        scaler = make_pipeline(SimpleImputer(strategy="median"), scaler)
    estimator = logistic(scaler, class_weight=class_weight)
    reference = logistic(scaler, class_weight=class_weight, tol=1e-10)

    compare(estimator, STRENGTHS, table, OPTIMUM, reference=reference, scoring=scoring)

    assert find_methods(estimator, STRENGTHS, table) == {Method.JOINT}


def test_classes_of_many_columns_are_at_their_optimum() -> None:
    """Without the matrix of all parameters, which would be too large."""
    compare(
        logistic(),
        STRENGTHS,
        many_classes(4),
        OPTIMUM,
        reference=logistic(tol=1e-10),
        scoring="neg_log_loss",
        solver_limits=SolverLimits(max_preconditioner_parameters=10),
    )


def test_many_classes_and_few_rows_use_the_solver_of_scikit_learn() -> None:
    grid = {"logisticregression__C": [0.1, 1.0]}
    table = TABLES["digits"]()

    compare(logistic(), grid, table, EXACT, scoring="neg_log_loss")

    assert find_methods(logistic(), grid, table) == {Method.SHARED_ROWS}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_solver_of_scikit_learn_gives_its_bits(n_classes: int) -> None:
    X, y = TABLES["breast_cancer"]() if n_classes == 2 else many_classes(n_classes)
    scoring = "neg_log_loss"
    expected = GridSearchCV(logistic(), STRENGTHS, cv=CV, scoring=scoring).fit(X, y)

    actual = SharedGridSearchCV(
        logistic(), STRENGTHS, cv=CV, scoring=scoring, solver="scikit-learn"
    ).fit(X, y)

    for split in range(3):
        key = f"split{split}_test_score"
        assert actual.cv_results_[key].tolist() == expected.cv_results_[key].tolist()
    assert actual.best_index_ == expected.best_index_


@pytest.mark.parametrize(
    ("table", "estimator", "reason"),
    [
        (
            "gaps",
            logistic(SimpleImputer(strategy="most_frequent")),
            "more than fill nan by a mean or a median",
        ),
        (
            "imbalanced",
            logistic(SimpleImputer()),
            "SimpleImputer before LogisticRegression is neither",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_unknown_steps_before_are_fitted_as_in_grid_search(
    table: str, estimator: Any, reason: str
) -> None:
    grid = {"logisticregression__C": [0.1, 1.0]}

    compare(estimator, grid, TABLES[table](), EXACT, fallback=reason)


def test_the_smallest_C_wins_a_tie_and_of_equal_C_the_first() -> None:
    X = np.vstack((np.full((30, 1), -1.0), np.full((30, 1), 1.0)))
    y = np.repeat([0, 1], 30)
    grid = {
        "logisticregression__C": [10.0, 0.1, 1.0],
        "logisticregression__class_weight": ["balanced", None],
    }

    search = SharedGridSearchCV(logistic(), grid, scoring="roc_auc", cv=CV).fit(X, y)

    assert search.best_params_ == {
        "logisticregression__C": 0.1,
        "logisticregression__class_weight": "balanced",
    }
