"""The shared search against GridSearchCV on the same folds: every score of every split."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    ParameterGrid,
    ShuffleSplit,
    StratifiedKFold,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from training.search import (
    Data,
    Method,
    Problem,
    SharedGridSearchCV,
    SolverLimits,
    plan,
)
from training.search.lightgbm_parameters import CATEGORICAL
from training.search.scoring import rank

CV = StratifiedKFold(3, shuffle=True, random_state=0)
PREFIXES = {"n_estimators": [5, 20, 40], "num_leaves": [7, 31], "max_depth": [3, -1]}
STRENGTHS = {"logisticregression__C": [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]}
MIXED = {"classifier__C": STRENGTHS["logisticregression__C"]}
N_NUMBERS = 8
EXACT, OPTIMUM = 1e-12, 1e-6
# Limits under which a small table is solved as a large one.
LARGE = SolverLimits(max_newton_multiplications=0.0, min_sample_rows=200)

Table = tuple[Any, NDArray[np.int64]]


def imbalanced() -> Table:
    X, y = make_classification(
        1200, 12, n_informative=5, weights=[0.93], random_state=0
    )
    return X, y


def with_gaps() -> Table:
    X, y = imbalanced()
    rng = np.random.default_rng(0)
    X[rng.random(X.shape) < 0.2] = np.nan
    X[:, 3] = np.nan
    return X, y


def with_categories() -> Table:
    X, y = with_gaps()
    rng = np.random.default_rng(0)
    table = pd.DataFrame(X, columns=[f"column {n}" for n in range(X.shape[1])])
    letters = np.where(
        y == 1, rng.choice(list("abc"), len(y)), rng.choice(list("bcd"), len(y))
    )
    table["letter"] = pd.Categorical(letters)
    return table, y


def with_codes() -> Table:
    """Rows whose last two columns are codes of categories; each fold lacks some of them."""
    X, _ = with_gaps()
    rng = np.random.default_rng(0)
    few = rng.choice([0.0, 1.0, 2.0, np.nan], len(X), p=[0.5, 0.3, 0.1, 0.1])
    many = np.minimum(rng.geometric(0.03, len(X)), 200).astype(float)
    many[rng.random(len(X)) < 0.05] = np.nan
    noise = rng.normal(size=len(X))
    signal = np.nan_to_num(few == 1) + np.nan_to_num(many % 3) + noise
    y = np.digitize(signal, np.quantile(signal, [0.7, 0.9]))
    return np.column_stack((X, few, many)), y


def sparse_rows() -> Table:
    rng = np.random.default_rng(0)
    X = sparse.random(900, 60, 0.1, format="csr", random_state=0)
    y = np.asarray(X[:, :6].sum(axis=1)).ravel() + rng.normal(size=900) * 0.2 > 0.3
    return X, y.astype(np.int64)


def few_values() -> Table:
    """Many rows are alike, so many get the same score."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, size=(600, 3)).astype(float)
    return X, (X.sum(axis=1) + rng.normal(size=600) > 3).astype(np.int64)


def mixed_rows(*, is_sparse: bool, has_gaps: bool) -> Table:
    """Rows with N_NUMBERS columns of numbers and, beside them, a category as columns of 0 and 1."""
    X, y = with_gaps() if has_gaps else imbalanced()
    rng = np.random.default_rng(0)
    codes = np.where(y == 1, rng.integers(0, 6, len(y)), rng.integers(2, 9, len(y)))
    numbers = X[:, :N_NUMBERS] * np.arange(1, N_NUMBERS + 1)
    if is_sparse:
        numbers[rng.random(numbers.shape) < 0.3] = 0.0
        numbers = sparse.csr_matrix(numbers)
        return sparse.hstack((numbers, np.eye(9)[codes]), format="csr"), y
    return np.hstack((numbers, np.eye(9)[codes])), y


def mixed(before: Any, *, columns: Any = None, **params: Any) -> Pipeline:
    """Return a logistic regression behind steps for the first columns only."""
    columns = slice(0, N_NUMBERS) if columns is None else columns
    preprocess = ColumnTransformer(
        [("numeric", before, columns)], remainder="passthrough", sparse_threshold=1.0
    )
    params = {"max_iter": 10_000, **params}
    steps = [("preprocess", preprocess), ("classifier", LogisticRegression(**params))]
    return Pipeline(steps)


def preparing(*, is_sparse: bool, strategy: str = "") -> Any:
    """Return a scaler, behind an imputer if there is a strategy."""
    scaler = StandardScaler(with_mean=not is_sparse)
    if not strategy:
        return scaler
    return make_pipeline(SimpleImputer(strategy=strategy), scaler)


def zeros() -> Table:
    X, y = load_breast_cancer(return_X_y=True)
    return np.where(np.median(X, axis=0) > X, 0.0, X), y


TABLES: Mapping[str, Any] = {
    "breast_cancer": lambda: load_breast_cancer(return_X_y=True),
    "digits": lambda: load_digits(return_X_y=True),
    "imbalanced": imbalanced,
    "gaps": with_gaps,
    "categories": with_categories,
    "sparse": sparse_rows,
    "few values": few_values,
    "zeros": zeros,
}


def lightgbm(**params: Any) -> LGBMClassifier:
    return LGBMClassifier(n_jobs=1, verbose=-1, random_state=0, **params)


def logistic(scaler: Any = None, **params: Any) -> Pipeline:
    params = {"max_iter": 10_000, **params}
    return make_pipeline(scaler or StandardScaler(), LogisticRegression(**params))


@contextmanager
def listening() -> Iterator[list[str]]:
    """Yield a list that gets what the shared search logs."""
    lines: list[str] = []
    logger = logging.getLogger("training.search")
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def compare(
    estimator: Any,
    grid: Any,
    table: Table,
    tolerance: float,
    *,
    fallback: str = "",
    reference: Any = None,
    fit_params: Mapping[str, Any] | None = None,
    solver_limits: SolverLimits | None = None,
    **options: Any,
) -> SharedGridSearchCV:
    """Search both ways and compare; return the shared search.

    A search that falls back to GridSearchCV logs a line with a reason. `fallback` has to be in it;
    an empty `fallback` means that there is no such line.
    """
    options = {"scoring": "roc_auc", "cv": CV, "refit": False, **options}
    X, y = table
    given = fit_params or {}
    expected = GridSearchCV(reference or estimator, grid, **options).fit(X, y, **given)

    search = SharedGridSearchCV(
        estimator, grid, n_jobs=2, solver_limits=solver_limits, **options
    )
    with listening() as lines:
        actual = search.fit(X, y, **given)

    said = [line for line in lines if "GridSearchCV" in line]
    assert bool(said) == bool(fallback), said
    assert fallback in " ".join(said)
    assert list(actual.cv_results_) == list(expected.cv_results_)
    assert actual.cv_results_["params"] == expected.cv_results_["params"]
    for key, values in expected.cv_results_.items():
        if key.startswith("rank"):
            if tolerance == EXACT:
                assert actual.cv_results_[key].tolist() == values.tolist()
        elif "_test_" in key:
            np.testing.assert_allclose(
                actual.cv_results_[key], values, rtol=0, atol=tolerance, err_msg=key
            )
    if hasattr(expected, "best_index_"):
        assert actual.best_index_ == expected.best_index_
    return actual


def methods(estimator: Any, grid: Any, table: Table) -> set[Method]:
    """Return how the candidates of a search are fitted."""
    splits = tuple(CV.split(np.zeros(len(table[1])), table[1]))
    problem = Problem(estimator, tuple(ParameterGrid(grid)), get_scorer("roc_auc"))
    (shard,) = plan(problem, Data(*table, splits))
    return {task.shared_fit.method for task in shard}


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

    assert methods(lightgbm(), PREFIXES, table) == {Method.BOOSTING}


@pytest.mark.parametrize("scoring", ["roc_auc_ovr", "accuracy", "neg_log_loss"])
def test_lightgbm_scores_of_many_classes_equal_grid_search(scoring: str) -> None:
    grid = {"n_estimators": [2, 6], "num_leaves": [7]}

    table = TABLES["digits"]()

    compare(lightgbm(), grid, table, EXACT, scoring=scoring)

    assert methods(lightgbm(), grid, table) == {Method.BOOSTING}


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

    assert methods(lightgbm(**params), PREFIXES, table) == {Method.BOOSTING}


def test_zeros_that_are_gaps_are_scored_as_predicted() -> None:
    table, estimator = TABLES["zeros"](), lightgbm(zero_as_missing=True)

    compare(estimator, PREFIXES, table, EXACT)

    assert methods(estimator, PREFIXES, table) == {Method.BOOSTING}


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
    assert methods(estimator, PREFIXES, table) == {Method.BOOSTING}


@pytest.mark.parametrize("name", CATEGORICAL)
@pytest.mark.filterwarnings("ignore:categorical_feature keyword has been found")
def test_columns_of_codes_have_several_names(name: str) -> None:
    X, y = with_codes()
    table = X, np.minimum(y, 1)
    estimator = lightgbm(**{name: [12, 13]})
    fitted = clone(estimator).fit(*table)

    compare(estimator, {"n_estimators": [5, 20]}, table, EXACT)

    assert "cat_threshold" in fitted.booster_.model_to_string()
    assert methods(estimator, PREFIXES, table) == {Method.BOOSTING}


@pytest.mark.parametrize(
    "grid",
    [
        {"n_estimators": [5, 20], "max_bin": [15, 255], "min_data_in_bin": [1, 9]},
        {"n_estimators": [5, 20], "min_child_samples": [2, 60, 300]},
        {"n_estimators": [5, 20], "class_weight": [None, "balanced"]},
        {"n_estimators": [5, 20], "random_state": [1, 2], "extra_trees": [True]},
        {"n_estimators": [5, 20], "categorical_column": [[], [12], [12, 13]]},
    ],
    ids=["bins", "pre-filter", "class weight", "seed", "categories"],
)
def test_parameters_of_the_binned_rows_may_be_in_the_grid(grid: dict[str, Any]) -> None:
    X, y = with_codes()
    table = X, np.minimum(y, 1)

    compare(lightgbm(), grid, table, EXACT)

    assert methods(lightgbm(), grid, table) == {Method.BOOSTING}


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
    assert methods(estimator, grid, table) == {method}


def test_labels_may_be_words_and_folds_may_lack_a_class() -> None:
    X, y = make_classification(300, 6, n_informative=4, n_classes=3, random_state=0)
    words = np.array(["high", "low", "mid"])[y]
    words[words == "mid"] = "low"
    words[:2] = "rare"
    cv = [(np.arange(100, 300), np.arange(100)), (np.arange(200), np.arange(200, 300))]

    compare(lightgbm(), PREFIXES, (X, words), EXACT, scoring="accuracy", cv=cv)
    compare(logistic(), STRENGTHS, (X, words), EXACT, scoring="accuracy", cv=cv)


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

    assert Method.PLAIN in methods(lightgbm(**params), grid, table)


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

    assert methods(estimator, STRENGTHS, table) == {Method.JOINT}


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

    assert methods(mixed(before), MIXED, table) == {Method.JOINT}


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

    assert methods(logistic(before), STRENGTHS, table) == {Method.JOINT}


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
def test_other_transformers_of_columns_are_fitted_as_grid_search_does(
    params: dict[str, Any], reason: str
) -> None:
    table = mixed_rows(is_sparse=False, has_gaps=False)
    estimator = mixed(StandardScaler())
    estimator["preprocess"].set_params(**params)

    compare(estimator, {"classifier__C": [0.1, 1.0]}, table, EXACT, fallback=reason)


@pytest.mark.parametrize("columns", [slice(1, 8), slice(0, 8, 2), [0, 1, 2]], ids=str)
def test_other_columns_than_the_first_are_fitted_as_grid_search_does(
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

    assert methods(estimator, grid, table) == {method}


def test_weights_of_another_step_are_fitted_as_grid_search_does() -> None:
    table = TABLES["imbalanced"]()

    compare(
        logistic(),
        {"logisticregression__C": [0.1, 1.0]},
        table,
        EXACT,
        fallback="fit takes parameters for its estimator",
        fit_params={"standardscaler__sample_weight": np.ones(len(table[1]))},
    )


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

    assert methods(logistic(**params), grid, table) == {Method.SHARED_ROWS}


def many_classes(n_classes: int, kind: str = "dense") -> Table:
    """Return 1500 rows of eight columns; the classes overlap and differ in size."""
    rng = np.random.default_rng(n_classes)
    X = rng.normal(size=(1500, 8)) * [1, 1e3, 1e-3, 1, 1, 1, 1, 1]
    X[:, 3] += 50
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    shift = np.arange(n_classes) * (3 / n_classes)
    raw_scores = Z @ rng.normal(size=(8, n_classes)) - shift
    y = (raw_scores + rng.gumbel(size=raw_scores.shape)).argmax(axis=1)
    if kind == "gaps":
        X[rng.random(X.shape) < 0.1] = np.nan
    if kind == "sparse":
        return sparse.csr_matrix(np.where(np.abs(Z) < 0.8, 0, X)), y
    return X, y


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

    assert methods(estimator, STRENGTHS, table) == {Method.JOINT}


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

    assert methods(logistic(), grid, table) == {Method.SHARED_ROWS}


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


def test_the_smallest_C_wins_a_tie() -> None:
    X = np.vstack((np.full((30, 1), -1.0), np.full((30, 1), 1.0)))
    y = np.repeat([0, 1], 30)
    grid = {"logisticregression__C": [10.0, 0.1, 1.0]}

    search = SharedGridSearchCV(logistic(), grid, scoring="roc_auc", cv=CV).fit(X, y)

    assert search.best_params_ == {"logisticregression__C": 0.1}


def test_ranks_tell_equal_values_apart_by_the_second() -> None:
    values = np.array([0.5, 1.0, 1.0, 0.1, 1.0])
    second = np.array([9.0, 3.0, 2.0, 9.0, 3.0])

    ranks = rank(values, lambda numbers: second[numbers])

    assert ranks.tolist() == [1.0, 3.0, 2.0, 0.0, 3.0]
