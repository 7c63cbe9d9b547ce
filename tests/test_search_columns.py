"""Logistic regressions behind steps for the first columns only."""

from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from training.search import Method, SharedGridSearchCV

from search_support import (
    CV,
    EXACT,
    LARGE,
    MIXED,
    N_NUMBERS,
    OPTIMUM,
    compare,
    find_methods,
    listening,
    mixed,
    mixed_rows,
    preparing,
)


@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
@pytest.mark.parametrize("strategy", ["", "mean", "median"])
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("is_large", [False, True], ids=["few", "many"])
def test_columns_pass_beside_those_that_are_scaled(
    strategy: str, is_sparse: bool, is_large: bool
) -> None:
    table = mixed_rows(is_sparse=is_sparse, has_gaps=bool(strategy))
    before = preparing(is_sparse=is_sparse, strategy=strategy)

    compare(
        mixed(before),
        MIXED,
        table,
        OPTIMUM,
        reference=mixed(before, tol=1e-10),
        scoring="neg_log_loss",
        solver_limits=LARGE if is_large else None,
    )

    assert find_methods(mixed(before), MIXED, table) == {Method.JOINT}


@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
@pytest.mark.parametrize("strategy", ["", "median"])
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
def test_columns_that_pass_have_the_bits_of_scikit_learn(
    strategy: str, is_sparse: bool
) -> None:
    table = mixed_rows(is_sparse=is_sparse, has_gaps=bool(strategy))
    estimator = mixed(preparing(is_sparse=is_sparse, strategy=strategy))
    options: dict[str, Any] = {"cv": CV, "scoring": "neg_log_loss"}
    expected = GridSearchCV(estimator, MIXED, **options).fit(*table)
    search = SharedGridSearchCV(estimator, MIXED, solver="scikit-learn", **options)

    with listening() as lines:
        actual = search.fit(*table)

    assert not [line for line in lines if "GridSearchCV" in line]
    for split in range(3):
        key = f"split{split}_test_score"
        assert actual.cv_results_[key].tolist() == expected.cv_results_[key].tolist()


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"remainder": "drop"}, "remainder='drop', not one and 'passthrough'"),
        ({"remainder": StandardScaler()}, "remainder=StandardScaler()"),
        (
            {
                "transformers": [
                    ("a", StandardScaler(), slice(0, 4)),
                    ("b", StandardScaler(), slice(4, 8)),
                ]
            },
            "has 2 transformers",
        ),
        ({"transformer_weights": {"numeric": 2.0}}, "has transformer_weights"),
        (
            {"numeric": MinMaxScaler()},
            "MinMaxScaler before LogisticRegression is neither",
        ),
        ({"numeric": "drop"}, "drops columns"),
    ],
)
def test_other_transformers_of_columns_are_fitted_as_in_grid_search(
    params: dict[str, Any], reason: str
) -> None:
    table = mixed_rows(is_sparse=False, has_gaps=False)
    estimator = mixed(StandardScaler())
    estimator["preprocess"].set_params(**params)

    compare(estimator, {"classifier__C": [0.1, 1.0]}, table, EXACT, fallback=reason)


@pytest.mark.parametrize("columns", [slice(1, 8), slice(0, 8, 2), [0, 1, 2]], ids=str)
def test_other_columns_than_the_first_are_fitted_as_in_grid_search(
    columns: Any,
) -> None:
    table = mixed_rows(is_sparse=False, has_gaps=False)
    estimator = mixed(StandardScaler(), columns=columns)

    compare(
        estimator,
        {"classifier__C": [0.1, 1.0]},
        table,
        EXACT,
        fallback="not a slice from the first column on",
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_gaps_in_columns_that_pass_fail_as_in_grid_search() -> None:
    X, y = mixed_rows(is_sparse=False, has_gaps=False)
    X[5, N_NUMBERS] = np.nan
    estimator = mixed(preparing(is_sparse=False, strategy="median"))
    cv = [(np.arange(5, 1200), np.arange(5)), (np.arange(6, 1200), np.arange(5))]

    compare(
        estimator,
        {"classifier__C": [0.1, 1.0]},
        (X, y),
        EXACT,
        scoring="accuracy",
        cv=cv,
        fallback="nothing fills them",
    )
