"""The final fit of a logistic regression begins at the optimum that the search's solver finds."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from training.models.families import LOGISTIC_REGRESSION
from training.models.final_model import PostFit, fit_final_model
from training.models.pipelines import PipelineFactory
from training.search import fit_from_optimum

from search_support import imbalanced, many_classes, one_hot_rows
from training_support import make_rows

TIGHT = {"tol": 1e-8, "max_iter": 2000}


def scaled(table: Any) -> Any:
    X, y = table
    return StandardScaler().fit_transform(X), y


TABLES: dict[str, Any] = {
    "dense": lambda: scaled(imbalanced()),
    "classes": lambda: scaled(many_classes(3)),
    "one-hot": one_hot_rows,
    "hashed": lambda: one_hot_rows(n_features=2**14),
}


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_the_solver_of_scikit_learn_has_nothing_left_to_do(
    name: str, class_weight: str | None, is_weighted: bool
) -> None:
    X, y = TABLES[name]()
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y)) if is_weighted else None
    unfitted = LogisticRegression(C=0.5, class_weight=class_weight, **TIGHT)
    expected = clone(unfitted).fit(X, y, weights)

    fit_from_optimum(actual := clone(unfitted), X, y, weights)

    assert actual.n_iter_.tolist() == [0]
    assert actual.get_params() == unfitted.get_params()
    assert set(vars(actual)) == set(vars(expected))
    for attribute in ("coef_", "intercept_", "classes_"):
        mine, theirs = getattr(actual, attribute), getattr(expected, attribute)
        assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=2e-4)
    np.testing.assert_allclose(
        actual.predict_proba(X), expected.predict_proba(X), rtol=0, atol=1e-5
    )


def test_the_gradient_at_the_end_is_below_the_tolerance() -> None:
    X, y = scaled(imbalanced())
    fit_from_optimum(model := LogisticRegression(C=0.5, **TIGHT), X, y)

    residuals = expit(X @ model.coef_[0] + model.intercept_[0]) - y
    gradient = np.append(X.T @ residuals + model.coef_[0] / 0.5, residuals.sum())

    assert np.abs(gradient).max() < 1e-9 * len(y)


@pytest.mark.parametrize("name", ["dense", "one-hot"])
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    X, y = TABLES[name]()
    models = [LogisticRegression(**TIGHT) for _ in range(2)]

    for n_threads, model in enumerate(models, 1):
        fit_from_optimum(model, X, y, n_threads=n_threads)

    assert models[0].coef_.tobytes() == models[1].coef_.tobytes()
    assert models[0].intercept_.tobytes() == models[1].intercept_.tobytes()


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "liblinear"},
        {"solver": "saga", "l1_ratio": 1.0, "random_state": 0},
        {"fit_intercept": False},
    ],
)
def test_other_models_are_fitted_by_scikit_learn_alone(params: dict[str, Any]) -> None:
    X, y = scaled(imbalanced())
    unfitted = LogisticRegression(max_iter=10_000, **params)
    expected = clone(unfitted).fit(X, y)

    fit_from_optimum(actual := clone(unfitted), X, y)

    assert actual.coef_.tobytes() == expected.coef_.tobytes()


def test_the_final_pipeline_is_that_of_scikit_learn() -> None:
    import pandas as pd

    schema, train, _ = make_rows()
    table = pd.DataFrame(train.X, columns=list(schema.feature_names))
    factory = PipelineFactory(LOGISTIC_REGRESSION, schema, 0)
    expected = factory.make_final_pipeline({"C": 1.0}).fit(table, train.y)

    pipeline = factory.make_final_pipeline({"C": 1.0})
    final = fit_final_model(
        pipeline, PostFit(), (), X=table, y=train.y, class_labels=schema.class_labels
    )

    classifier = final.pipeline.named_steps["classifier"]
    assert type(classifier) is LogisticRegression
    assert classifier.n_iter_.tolist() == [0]
    assert classifier.n_features_in_ == len(schema.feature_names)
    assert final.pipeline.feature_names_in_.tolist() == list(schema.feature_names)
    np.testing.assert_allclose(
        final.pipeline.predict_proba(table), expected.predict_proba(table), atol=1e-6
    )
