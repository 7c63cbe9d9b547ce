"""Every value of the grids is tried on a few rows before anything is searched."""

from typing import Any

import numpy as np
import pytest
from sklearn.pipeline import Pipeline

from training.artifact.encoding import check_classifier
from training.data.rows import Rows
from training.data.schema import Feature, Schema
from training.errors import SearchError
from training.models.families import FAMILIES
from training.models.pipelines import PipelineFactory
from training.models.trial_fits import N_ROWS_OF_CLASS, sample_rows, try_grid

from training_support import make_rows


def attempt(
    family: str, grid: dict[str, list[Any]], n_classes: int = 2, **kind: bool
) -> None:
    schema, train, _ = make_rows(n_classes, **kind)
    factory = PipelineFactory(FAMILIES[family], schema, 0)
    try_grid(factory, [grid], sample_rows(train), check_classifier)


@pytest.mark.parametrize(
    ("family", "grid", "message"),
    [
        (
            "logistic_regression",
            {"C": [1.0, -1.0]},
            "C: no candidate with -1.0 can be fitted: ",
        ),
        ("logistic_regression", {"C": ["big"]}, "C: no candidate with 'big'"),
        (
            "logistic_regression",
            {"solver": ["lbfgs", "newton"]},
            "solver: no candidate with 'newton'",
        ),
        (
            "lightgbm",
            {"num_leaves": [7, 1, 15]},
            "num_leaves: no candidate with 1 can be fitted: ",
        ),
        (
            "lightgbm",
            {"n_estimators": [10, 20], "num_leaves": [1]},
            "num_leaves: no candidate with 1 can be fitted: ",
        ),
        (
            "lightgbm",
            {"n_estimators": [5, "many"]},
            "n_estimators: no candidate with 'many'",
        ),
        (
            "lightgbm",
            {"objective": ["binary", "nonsense"]},
            "objective: no candidate with 'nonsense'",
        ),
        (
            "lightgbm",
            {"bagging_fraction": [0.8, 1.5]},
            "bagging_fraction: no candidate with 1.5",
        ),
        (
            "lightgbm",
            {"objective": ["binary", "cross_entropy"]},
            "objective: no candidate with 'cross_entropy' can be fitted: the artifact has",
        ),
        (
            "lightgbm",
            {"linear_tree": [True, False]},
            "linear_tree: no candidate with True can be fitted: the artifact has",
        ),
    ],
)
def test_a_value_that_cannot_be_fitted_is_named(
    family: str, grid: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(SearchError) as caught:
        attempt(family, grid)

    assert str(caught.value).startswith(f"search.{family}.{message}")


def test_combinations_that_do_not_go_together_are_allowed() -> None:
    grid: dict[str, list[Any]] = {
        "solver": ["lbfgs", "liblinear"],
        "l1_ratio": [0.0, 1.0],
    }

    attempt("logistic_regression", grid)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [{}, {"missing": True}, {"sparse": True}])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_good_values_pass(family: str, kind: dict[str, bool], n_classes: int) -> None:
    attempt(family, {"class_weight": [None, "balanced"]}, n_classes, **kind)
    attempt(family, {})


def test_the_trial_takes_a_few_rows_of_each_class() -> None:
    _, train, _ = make_rows(3)

    assert np.bincount(sample_rows(train).y).tolist() == [N_ROWS_OF_CLASS] * 3


@pytest.mark.parametrize("sparse", [False, True])
def test_no_value_of_a_grid_is_blamed_for_a_huge_cell(sparse: bool) -> None:
    schema, train, _ = make_rows(2, sparse=sparse)
    X: Any = train.X
    cells = X.data if sparse else X.reshape(-1)
    cells[:3] = (1e200, -1e300, 1e160)
    factory = PipelineFactory(FAMILIES["logistic_regression"], schema, 0)

    try_grid(factory, [{"C": [1.0]}], sample_rows(train), check_classifier)

    assert cells[0] == 1e200  # for the search, which names the column


@pytest.mark.parametrize("family", FAMILIES)
def test_the_trial_of_thousands_of_classes_takes_some_of_them(family: str) -> None:
    n_classes = 1000
    y = np.repeat(np.arange(n_classes), 2)
    rows = Rows(np.random.default_rng(0).normal(size=(len(y), 2)), y)
    schema = Schema((Feature("a"), Feature("b")), tuple(range(n_classes)))
    seen = []

    def check(pipeline: Pipeline) -> None:
        seen.append(len(pipeline[-1].classes_))

    factory = PipelineFactory(FAMILIES[family], schema, 0)
    try_grid(factory, [{"class_weight": [None, "balanced"]}], rows, check)

    assert seen == [50, 50]


def test_weights_of_every_class_are_tried_with_every_class() -> None:
    y = np.repeat(np.arange(60), 2)
    rows = Rows(np.random.default_rng(0).normal(size=(len(y), 2)), y)
    schema = Schema((Feature("a"), Feature("b")), tuple(range(60)))
    weights = {str(label): 2.0 for label in range(60)}
    for family in FAMILIES.values():
        try_grid(
            PipelineFactory(family, schema, 0), [{"class_weight": [weights]}], rows
        )
