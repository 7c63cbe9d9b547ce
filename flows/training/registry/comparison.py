"""Scores any registered model on the hold-out, or says why this is impossible."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer
from sklearn.pipeline import Pipeline

from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.schema import Schema
from training.text import first_line, quote_list


class NotComparable(Exception):
    """A model cannot be compared on these rows. The message says why."""


class _Coded(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """A fitted model that predicts codes, so that a scorer does not see the labels."""

    def __init__(self, model: Pipeline) -> None:
        self.model = model
        self.classes_ = np.arange(len(model.classes_))

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the predicted code of each row, int64, shape (n_rows,)."""
        classes = self.model.classes_
        # The positive one of two classes is the last, whether it sorts last or not.
        order = np.argsort(classes)
        found = np.searchsorted(classes, self.model.predict(X), sorter=order)
        return np.asarray(order[found])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class, float64, shape (n_rows, n_classes)."""
        return np.asarray(self.model.predict_proba(X))

    def __sklearn_is_fitted__(self) -> bool:
        return True


def score_model(model: Pipeline, holdout: Rows, schema: Schema, scoring: str) -> float:
    """Score a fitted model on held-out rows.

    Parameters
    ----------
    model : Pipeline
        Fitted, perhaps by another run.
    holdout : Rows
        Rows to score.
    schema : Schema
        Columns and classes of the rows.
    scoring : str
        Name of a scikit-learn scorer.

    Returns
    -------
    float
        Score; larger is better.

    Raises
    ------
    NotComparable
        If the model has other classes or columns, or another order of them. The order counts
        because callers may send values and read probabilities by position.
    """
    try:
        classes = tuple(model.classes_.tolist())
        if classes != schema.class_labels:
            raise NotComparable(_tell_classes(classes, schema))
        if not schema.is_sparse:
            _check_columns(model, schema)
        score = get_scorer(scoring)(
            _Coded(model), to_table(holdout.X, schema), holdout.y
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotComparable(first_line(error)) from None
    return float(score)


def _tell_classes(classes: tuple[object, ...], schema: Schema) -> str:
    told = f"its classes are {list(classes)}"
    if set(classes) != set(schema.class_labels):
        return told
    # Callers may read probabilities by position too.
    return f"{told}, in this order; --positive {str(classes[-1])!r} keeps it"


def _check_columns(model: Pipeline, schema: Schema) -> None:
    known = tuple(getattr(model, "feature_names_in_", ()))
    if known == schema.feature_names:
        return
    if sorted(known) == sorted(schema.feature_names):
        raise NotComparable("its columns are in another order")
    raise NotComparable(
        f"its columns are {quote_list(known)}" if known else "its columns have no names"
    )
