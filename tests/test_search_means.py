"""Target means before a classifier: the shared search gives what GridSearchCV gives."""

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from numpy.typing import NDArray
from scipy import sparse
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder

from training.search import Method, TargetMeans

from search_support import EXACT, OPTIMUM, compare, find_methods

TREES = {"trees__n_estimators": [5, 15], "trees__num_leaves": [4, 15]}


def make_rows(n_classes: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return rows of three numbers, two columns of many codes and one of few."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, [200, 120], (900, 2)).astype(float)
    codes[rng.random(codes.shape) < 0.05] = np.nan
    numbers = rng.normal(size=(900, 3))
    pull = rng.normal(size=200)
    score = pull[np.nan_to_num(codes[:, 0]).astype(int)] + numbers[:, 0]
    score += rng.logistic(size=900)
    cuts = np.quantile(score, np.arange(1, n_classes) / n_classes)
    few = rng.integers(0, 5, (900, 1)).astype(float)
    return np.hstack([numbers, codes, few]), np.digitize(score, cuts)


def make_step(n_classes: int) -> TargetMeans:
    kind = "binary" if n_classes == 2 else "multiclass"
    parts = KFold(5, shuffle=True, random_state=0)
    return TargetMeans(TargetEncoder(target_type=kind, cv=parts), slice(3, 5))


def count_numbers(n_classes: int) -> int:
    """Return how many numbers come before the column of few codes."""
    return 3 + 2 * (1 if n_classes == 2 else n_classes)


def make_trees(n_classes: int) -> Pipeline:
    classifier = LGBMClassifier(
        random_state=0,
        n_jobs=1,
        verbose=-1,
        categorical_column=[count_numbers(n_classes)],
    )
    return Pipeline([("means", make_step(n_classes)), ("trees", classifier)])


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr", "accuracy"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_boosted_trees(n_classes: int, scoring: str) -> None:
    table = make_rows(n_classes)
    pipeline = make_trees(n_classes)

    compare(pipeline, TREES, table, EXACT, scoring=scoring)

    assert find_methods(pipeline, TREES, table) == {Method.BOOSTING}


@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_regression(n_classes: int, is_sparse: bool) -> None:
    X, y = make_rows(n_classes)
    X = np.hstack([X[:, :5], X[:, 5:] == np.arange(5)])
    table = (sparse.csr_matrix(X) if is_sparse else X), y
    scaler = StandardScaler(with_mean=not is_sparse)
    columns = ColumnTransformer(
        [("numbers", scaler, slice(0, count_numbers(n_classes)))],
        remainder="passthrough",
        sparse_threshold=1.0,
    )
    classifier = LogisticRegression(max_iter=5000, tol=1e-10)
    steps = [("means", make_step(n_classes)), ("scale", columns)]
    pipeline = Pipeline([*steps, ("linear", classifier)])
    grid = {"linear__C": [0.01, 1.0, 10.0]}

    compare(pipeline, grid, table, OPTIMUM, scoring="neg_log_loss")

    assert find_methods(pipeline, grid, table) == {Method.JOINT}


def test_candidates_that_set_the_means_are_fitted_alone() -> None:
    table = make_rows(2)
    grid = {"means__encoder__smooth": [1.0, 50.0], "trees__n_estimators": [5]}

    compare(
        make_trees(2), grid, table, EXACT, fallback="TargetMeans stands before LightGBM"
    )


def test_rows_of_a_split_are_transformed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    n_fits = []
    fit_transform = TargetMeans.fit_transform

    def count(self: TargetMeans, X: object, y: object) -> object:
        n_fits.append(1)
        return fit_transform(self, X, y)

    monkeypatch.setattr(TargetMeans, "fit_transform", count)
    search = compare(make_trees(2), TREES, make_rows(2), EXACT, scoring="neg_log_loss")

    # GridSearchCV fits it for each of the candidates on each split; both refit nothing.
    n_splits, n_candidates = search.n_splits_, len(search.cv_results_["params"])
    assert len(n_fits) == n_splits * n_candidates + n_splits


@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_row_of_a_fit_gets_the_means_of_other_rows(
    n_classes: int, is_sparse: bool
) -> None:
    """As in scikit-learn's encoder: its own label must not tell."""
    X, y = make_rows(n_classes)
    rows = sparse.csr_matrix(X) if is_sparse else X
    step, encoder = make_step(n_classes), make_step(n_classes).encoder

    learned, later = step.fit_transform(rows, y), step.transform(rows)

    means = slice(3, count_numbers(n_classes))
    if is_sparse:
        learned, later = learned.toarray(), later.toarray()
    expected = encoder.fit_transform(X[:, 3:5], y)
    np.testing.assert_array_equal(learned[:, means], expected)
    np.testing.assert_array_equal(later[:, means], encoder.transform(X[:, 3:5]))
    assert not np.array_equal(learned[:, means], later[:, means])
    for part in (learned, later):
        np.testing.assert_array_equal(part[:, :3], X[:, :3])
        np.testing.assert_array_equal(part[:, means.stop :], X[:, 5:])
