"""LightGBM in the shared search: every score of every split equals GridSearchCV's."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

from training.search import Method, SharedGridSearchCV
from training.search.lightgbm_parameters import CATEGORICAL
from training.search.scoring import rank

from search_support import (
    CV,
    EXACT,
    PREFIXES,
    TABLES,
    compare,
    find_methods,
    lightgbm,
    with_codes,
)


@pytest.mark.parametrize(
    ("name", "scoring"),
    [
        ("breast_cancer", "roc_auc"),
        ("breast_cancer", "accuracy"),
        ("breast_cancer", "neg_log_loss"),
        ("breast_cancer", ["roc_auc", "f1"]),
        ("breast_cancer", None),
        ("imbalanced", "average_precision"),
        ("gaps", "roc_auc"),
        ("categories", "roc_auc"),
        ("sparse", "roc_auc"),
        ("few values", "roc_auc"),
        ("few values", "average_precision"),
    ],
)
def test_lightgbm_scores_equal_grid_search(name: str, scoring: Any) -> None:
    table = TABLES[name]()

    compare(lightgbm(), PREFIXES, table, EXACT, scoring=scoring)

    assert find_methods(lightgbm(), PREFIXES, table) == {Method.BOOSTING}


@pytest.mark.parametrize("scoring", ["roc_auc_ovr", "accuracy", "neg_log_loss"])
def test_lightgbm_scores_of_many_classes_equal_grid_search(scoring: str) -> None:
    grid = {"n_estimators": [2, 6], "num_leaves": [7]}

    table = TABLES["digits"]()

    compare(lightgbm(), grid, table, EXACT, scoring=scoring)

    assert find_methods(lightgbm(), grid, table) == {Method.BOOSTING}


@pytest.mark.parametrize(
    "params",
    [
        {"subsample": 0.5, "subsample_freq": 1, "colsample_bytree": 0.5},
        {"class_weight": "balanced"},
        {"class_weight": {0: 1.0, 1: 7.0}},
        {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1},
        {"extra_trees": True, "scale_pos_weight": 3.0},
        # So deep and fast that probabilities round to 1.
        {"learning_rate": 0.7, "min_child_samples": 1},
        {"deterministic": True, "force_row_wise": True},
    ],
    ids=["drawn", "balanced", "weights", "rf", "extra", "saturated", "row-wise"],
)
def test_lightgbm_scores_equal_grid_search_under_many_parameters(
    params: dict[str, Any],
) -> None:
    table = TABLES["imbalanced"]()

    compare(lightgbm(**params), PREFIXES, table, EXACT)

    assert find_methods(lightgbm(**params), PREFIXES, table) == {Method.BOOSTING}


def test_zeros_that_are_gaps_are_scored_as_predicted() -> None:
    table, estimator = TABLES["zeros"](), lightgbm(zero_as_missing=True)

    compare(estimator, PREFIXES, table, EXACT)

    assert find_methods(estimator, PREFIXES, table) == {Method.BOOSTING}


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"class_weight": "balanced"},
        {"subsample": 0.5, "subsample_freq": 1, "colsample_bytree": 0.5},
        {"min_data_per_group": 1, "cat_smooth": 0.0, "max_cat_to_onehot": 1},
    ],
    ids=["defaults", "balanced", "drawn", "small groups"],
)
def test_columns_of_codes_are_split_by_category(
    n_classes: int, params: dict[str, Any]
) -> None:
    X, y = with_codes()
    table = X, np.minimum(y, n_classes - 1)
    estimator = lightgbm(categorical_column=[12, 13], **params)
    fitted = clone(estimator).fit(*table)
    lacking = [set(X[test, 13]) - set(X[train, 13]) for train, test in CV.split(*table)]
    scoring = "roc_auc" if n_classes == 2 else "neg_log_loss"

    compare(estimator, PREFIXES, table, EXACT, scoring=scoring)

    assert "cat_threshold" in fitted.booster_.model_to_string()
    assert all(any(np.isfinite(code) for code in codes) for codes in lacking)
    assert find_methods(estimator, PREFIXES, table) == {Method.BOOSTING}


@pytest.mark.parametrize("name", CATEGORICAL)
@pytest.mark.filterwarnings("ignore:categorical_feature keyword has been found")
def test_columns_of_codes_have_several_names(name: str) -> None:
    X, y = with_codes()
    table = X, np.minimum(y, 1)
    estimator = lightgbm(**{name: [12, 13]})
    fitted = clone(estimator).fit(*table)

    compare(estimator, {"n_estimators": [5, 20]}, table, EXACT)

    assert "cat_threshold" in fitted.booster_.model_to_string()
    assert find_methods(estimator, PREFIXES, table) == {Method.BOOSTING}


@pytest.mark.parametrize(
    "grid",
    [
        {"n_estimators": [5, 20], "max_bin": [15, 255], "min_data_in_bin": [1, 9]},
        {"n_estimators": [5, 20], "min_child_samples": [2, 60, 300]},
        {"n_estimators": [5, 20], "class_weight": [None, "balanced"]},
        {"n_estimators": [5, 20], "random_state": [1, 2], "extra_trees": [True]},
        {"n_estimators": [5, 20], "categorical_column": [[], [12], [12, 13]]},
        {
            "n_estimators": [5, 20],
            "colsample_bytree": [0.5, 0.9],
            "subsample": [0.8],
            "subsample_freq": [1],
            "reg_lambda": [0.1, 1.0],
        },
    ],
    ids=["bins", "pre-filter", "class weight", "seed", "categories", "regularised"],
)
def test_parameters_of_the_binned_rows_may_be_in_the_grid(grid: dict[str, Any]) -> None:
    X, y = with_codes()
    table = X, np.minimum(y, 1)

    compare(lightgbm(), grid, table, EXACT)

    assert find_methods(lightgbm(), grid, table) == {Method.BOOSTING}


@pytest.mark.parametrize(
    ("params", "grid", "reason"),
    [
        ({"boosting_type": "dart"}, {}, "dart changes earlier trees"),
        ({}, {"boosting_type": ["gbdt", "dart"]}, "dart changes earlier trees"),
        ({"linear_tree": True}, {}, "linear_tree may change"),
        ({"n_iter": 7}, {}, "n_iter may change"),
        ({"early_stopping_round": 0}, {}, "early_stopping_round may change"),
        ({"objective": "poisson"}, {}, "'poisson' is not one"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_parameters_that_rule_out_prefixes_are_fitted_as_in_grid_search(
    params: dict[str, Any],
    grid: dict[str, Any],
    reason: str,
) -> None:
    grid = {"n_estimators": [3, 8], **grid}
    table = TABLES["breast_cancer"]()

    compare(lightgbm(**params), grid, table, EXACT, fallback=reason)

    assert Method.PLAIN in find_methods(lightgbm(**params), grid, table)


def test_the_first_candidate_wins_a_tie() -> None:
    # A tree of depth 2 has 4 leaves at most, so the scores are equal.
    grid = {"n_estimators": [5], "max_depth": [2], "num_leaves": [31, 4]}
    X, y = TABLES["breast_cancer"]()

    search = SharedGridSearchCV(lightgbm(), grid, scoring="roc_auc", cv=CV).fit(X, y)

    assert len(set(search.cv_results_["mean_test_score"])) == 1
    assert search.best_params_["num_leaves"] == 31


def test_ranks_tell_equal_values_apart_by_the_second() -> None:
    values = np.array([0.5, 1.0, 1.0, 0.1, 1.0])
    second = np.array([9.0, 3.0, 2.0, 9.0, 3.0])

    ranks = rank(values, lambda numbers: second[numbers])

    assert ranks.tolist() == [1.0, 3.0, 2.0, 0.0, 3.0]
