"""What each column adds to the raw score of a row: the numbers that the server gives callers.

For logistic regression it is the coefficient times the distance from the mean, for LightGBM the
exact Shapley value of its trees, for an ensemble the weighted mean of its members'.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import Pipeline

from training.data.encoding import to_table
from training.data.schema import Kind, Schema
from training.models.averaging import Model, find_members
from training.models.calibration import find_pipeline
from training.models.pipelines import CLASSIFIER

MAX_ROWS, MIN_ROWS = 200, 10
# Numbers in memory, and leaves that are visited, which bound the time to about two seconds.
MAX_VALUES, MAX_LEAVES = 5 * 10**6, 4 * 10**6


class TooLarge(Exception):
    """Contributions would take too long. The message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """Contributions of all columns to one class.

    Parameters
    ----------
    rows : ndarray of int64, shape (n_rows,)
        Positions of the explained rows.
    values : ndarray of float64, shape (n_rows, n_features)
        What each column adds to the raw score of the class.
    sizes : ndarray of float64, shape (n_features,)
        Mean absolute contribution, over the rows and all classes.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.float64]
    sizes: NDArray[np.float64]


def find_model(estimator: BaseEstimator) -> Model:
    """Return the pipeline, or the average of several, within a registered estimator."""
    match estimator:
        case FixedThresholdClassifier():
            return find_model(estimator.estimator_)
        case FrozenEstimator():
            return find_model(estimator.estimator)
        case CalibratedClassifierCV():
            return find_pipeline(estimator)
    return estimator


def explain(
    estimator: BaseEstimator, X: Any, schema: Schema, code: int
) -> Contributions:
    """Compute the contributions on some rows.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier of a run.
    X : ndarray or csr_matrix of float64, shape (n_all, n_features)
        Rows; evenly spread ones are explained.
    schema : Schema
        Columns and classes.
    code : int
        The class whose contributions are returned.

    Returns
    -------
    Contributions

    Raises
    ------
    TooLarge
        If even a few rows would take too long.
    """
    members = find_members(find_model(estimator))
    n_rows = min(_count_rows(members, schema), X.shape[0])
    rows = np.unique(np.linspace(0, X.shape[0] - 1, n_rows).round().astype(np.int64))
    table = to_table(X[rows], schema)
    total = sum(n for _, n in members)
    added = np.sum(
        [n / total * _explain_member(one, table, schema) for one, n in members], axis=0
    )
    output = 0 if schema.is_binary else code
    return Contributions(rows, added[output], np.abs(added).mean(axis=(0, 1)))


def _count_rows(members: list[tuple[Pipeline, int]], schema: Schema) -> int:
    n_outputs = 1 if schema.is_binary else len(schema.class_labels)
    n_numbers = schema.n_numeric + sum(len(f.categories) for f in schema.categorical)
    n_leaves = sum(
        _count_leaves(pipeline.named_steps[CLASSIFIER]) for pipeline, _ in members
    )
    n_values = (n_numbers + 1) * n_outputs
    n_rows = min(MAX_ROWS, MAX_VALUES // n_values, MAX_LEAVES // max(n_leaves, 1))
    if n_rows < MIN_ROWS:
        raise TooLarge(
            f"{n_numbers} numbers, {len(schema.class_labels)} classes and {n_leaves} leaves of "
            "trees would take too long"
        )
    return n_rows


def _count_leaves(classifier: Any) -> int:
    if isinstance(classifier, LogisticRegression):
        return 0
    return int(classifier.booster_.num_trees() * classifier.get_params()["num_leaves"])


def _explain_member(
    pipeline: Pipeline, table: Any, schema: Schema
) -> NDArray[np.float64]:
    """Return contributions, shape (n_outputs, n_rows, n_features)."""
    X, classifier = pipeline[:-1].transform(table), pipeline.named_steps[CLASSIFIER]
    X = X.toarray() if issparse(X) else np.asarray(X)
    if isinstance(classifier, LogisticRegression):
        values = X[None] * classifier.coef_[:, None]
        widths = [_count_columns(f, schema) for f in schema.features]
    else:
        answered = classifier.booster_.predict(X, pred_contrib=True)
        values = answered.reshape(len(X), -1, X.shape[1] + 1)[:, :, :-1].transpose(
            1, 0, 2
        )
        widths = [schema.count_numbers(f) for f in schema.features]
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.int64)
    return np.asarray(np.add.reduceat(values, starts, axis=2))


def _count_columns(feature: Any, schema: Schema) -> int:
    """Return how many columns of a linear model stand for a feature."""
    if feature.kind == Kind.CATEGORICAL:
        return len(feature.categories)
    return schema.count_numbers(feature)
