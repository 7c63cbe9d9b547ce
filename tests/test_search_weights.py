"""Sample weights, and labels that are words or missing, for every method of the search."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from training.search import Method

from search_support import (
    EXACT,
    MIXED,
    OPTIMUM,
    PREFIXES,
    STRENGTHS,
    TABLES,
    compare,
    find_methods,
    lightgbm,
    logistic,
    many_classes,
    mixed,
    mixed_rows,
)


@pytest.mark.parametrize("estimator", [lightgbm(), LogisticRegression(max_iter=5000)])
def test_sample_weights_reach_the_fit_and_the_scorer(estimator: Any) -> None:
    table = TABLES["imbalanced"]()
    weight = np.random.default_rng(0).uniform(0.1, 3, len(table[1]))
    is_trees = isinstance(estimator, LGBMClassifier)
    grid = PREFIXES if is_trees else {"C": [0.1, 1.0]}
    reference = None if is_trees else LogisticRegression(max_iter=5000, tol=1e-10)

    compare(
        estimator,
        grid,
        table,
        EXACT if is_trees else OPTIMUM,
        reference=reference,
        fit_params={"sample_weight": weight},
    )

    method = Method.BOOSTING if is_trees else Method.JOINT
    assert find_methods(estimator, grid, table) == {method}


def test_labels_may_be_words_and_folds_may_lack_a_class() -> None:
    X, y = make_classification(300, 6, n_informative=4, n_classes=3, random_state=0)
    words = np.array(["high", "low", "mid"])[y]
    words[words == "mid"] = "low"
    words[:2] = "rare"
    cv = [(np.arange(100, 300), np.arange(100)), (np.arange(200), np.arange(200, 300))]

    compare(lightgbm(), PREFIXES, (X, words), EXACT, scoring="accuracy", cv=cv)
    compare(logistic(), STRENGTHS, (X, words), EXACT, scoring="accuracy", cv=cv)


WEIGHED: Mapping[Method, tuple[Any, Any]] = {
    Method.BOOSTING: (Pipeline([("classifier", lightgbm())]), PREFIXES),
    Method.JOINT: (mixed(StandardScaler()), MIXED),
    Method.SHARED_ROWS: (mixed(StandardScaler(), solver="newton-cholesky"), MIXED),
}


@pytest.mark.parametrize("method", WEIGHED)
@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_sample_weights_reach_the_classifier_of_a_pipeline(
    method: Method, class_weight: str | None, is_nested: bool
) -> None:
    estimator, grid = WEIGHED[method]
    estimator = clone(estimator).set_params(classifier__class_weight=class_weight)
    reference = clone(estimator)
    if method is Method.JOINT:
        reference.set_params(classifier__tol=1e-10)
    prefix = "classifier__"
    if method is Method.BOOSTING:
        grid = {prefix + name: values for name, values in grid.items()}
    if is_nested:
        estimator, reference = (
            Pipeline([("inner", pipeline)]) for pipeline in (estimator, reference)
        )
        grid = {f"inner__{name}": values for name, values in grid.items()}
        prefix = "inner__classifier__"
    table = mixed_rows(is_sparse=False, has_gaps=False)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(table[1]))
    weight[::5] = 0.0

    compare(
        estimator,
        grid,
        table,
        OPTIMUM if method is Method.JOINT else EXACT,
        reference=reference,
        scoring="neg_log_loss",
        fit_params={f"{prefix}sample_weight": weight},
    )

    assert find_methods(estimator, grid, table) == {method}


def test_weights_of_another_step_are_fitted_as_in_grid_search() -> None:
    table = TABLES["imbalanced"]()

    compare(
        logistic(),
        {"logisticregression__C": [0.1, 1.0]},
        table,
        EXACT,
        fallback="fit takes parameters for its estimator",
        fit_params={"standardscaler__sample_weight": np.ones(len(table[1]))},
    )


def test_six_classes_and_weights_are_at_their_optimum() -> None:
    X, y = many_classes(6)
    weight = np.random.default_rng(0).random(len(y)) * (np.arange(len(y)) % 5 > 0)
    params = {"logisticregression__sample_weight": weight}

    compare(
        logistic(),
        STRENGTHS,
        (X, y),
        OPTIMUM,
        reference=logistic(tol=1e-10),
        scoring="neg_log_loss",
        fit_params=params,
    )
