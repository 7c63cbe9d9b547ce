"""Tables and estimators for tests of the search, and its comparison with GridSearchCV."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from training.search import (
    Data,
    Method,
    Problem,
    SharedGridSearchCV,
    SolverLimits,
    plan,
)

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


def one_hot_rows(n_levels: int = 30, n_features: int = 0) -> Table:
    """Rows of eight one-hot categories; wide rows spread their columns over `n_features`."""
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, n_levels + 1)
    codes = rng.choice(n_levels, (3000, 8), p=share / share.sum())
    places = np.random.default_rng(1).permutation(n_features or 8 * n_levels)[
        : 8 * n_levels
    ]
    columns = places[codes + np.arange(8) * n_levels]
    raw_scores = rng.normal(size=8 * n_levels)[codes + np.arange(8) * n_levels].sum(1)
    X = sparse.csr_matrix(
        (np.ones(columns.size), columns.ravel(), np.arange(0, columns.size + 1, 8)),
        shape=(3000, n_features or 8 * n_levels),
    )
    X.sort_indices()
    return X, (raw_scores + rng.logistic(size=3000) > 0).astype(np.int64)


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
    "one-hot": one_hot_rows,
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


def find_methods(estimator: Any, grid: Any, table: Table) -> set[Method]:
    """Return the methods by which the candidates of a search are fitted."""
    splits = tuple(CV.split(np.zeros(len(table[1])), table[1]))
    problem = Problem(estimator, tuple(ParameterGrid(grid)), get_scorer("roc_auc"))
    (shard,) = plan(problem, Data(*table, splits))
    return {task.shared_fit.method for task in shard}


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
