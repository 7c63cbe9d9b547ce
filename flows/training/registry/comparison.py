"""Asks any registered model for its answers on the hold-out, or says why this is impossible."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.schema import Schema
from training.registry.answers import Answers, Judge
from training.text import MAX_SHOWN, escape, first_line, quote_list, shorten_list

# Rounding in another program moves the sum of a row's probabilities away from 1 by less than this.
MAX_EXCESS = 1e-3
MAX_WORDS = 500  # characters of another program's error


class NotComparable(Exception):
    """A model cannot be compared on these rows. The message says why."""


def answer_rows(model: Pipeline, rows: Rows, schema: Schema) -> Answers:
    """Return a fitted model's answers on rows.

    Parameters
    ----------
    model : Pipeline
        Fitted, perhaps by another run.
    rows : Rows
        The rows.
    schema : Schema
        Columns and classes of the rows.

    Returns
    -------
    Answers
        Predicted codes and probabilities.

    Raises
    ------
    NotComparable
        If the model has other classes or columns, or another order of them, or predicts no
        probabilities. The order counts because callers may send values and read probabilities by
        position.
    """
    try:
        classes = tuple(model.classes_.tolist())
        if classes != schema.class_labels:
            raise NotComparable(_tell_classes(classes, schema))
        if not schema.is_sparse:
            _check_columns(model, schema)
        table = to_table(rows.X, schema)
        probabilities = np.asarray(model.predict_proba(table), dtype=np.float64)
        codes = _to_codes(model.predict(table), model.classes_)
    except NotComparable:
        raise
    except Exception as error:  # another program's model may fail in any way
        raise NotComparable(escape(first_line(error))[:MAX_WORDS]) from None
    _check_probabilities(probabilities, (len(rows.y), len(classes)))
    return Answers(codes, probabilities)


def _to_codes(labels: Any, classes: Any) -> NDArray[np.int64]:
    """Return the positions of labels among the classes."""
    # The positive one of two classes is the last, whether it sorts last or not.
    order = np.argsort(classes)
    found = np.minimum(np.searchsorted(classes, labels, sorter=order), len(order) - 1)
    codes = np.asarray(order[found], dtype=np.int64)
    if not np.array_equal(np.asarray(classes)[codes], labels):
        raise ValueError("it predicts labels that are none of its classes")
    return codes


def _check_probabilities(
    probabilities: NDArray[np.float64], shape: tuple[int, int]
) -> None:
    """Refuse what another program calls probabilities."""
    is_right = probabilities.shape == shape and bool(
        ((probabilities >= 0) & (probabilities <= 1)).all()
        and (np.abs(probabilities.sum(axis=1) - 1) < MAX_EXCESS).all()
    )
    if not is_right:
        raise NotComparable("it predicts no probabilities, which sum to 1 for each row")


def score_model(model: Pipeline, holdout: Rows, schema: Schema, scoring: str) -> float:
    """Score a fitted model on held-out rows.

    Parameters
    ----------
    model, holdout, schema
        As in `answer_rows`.
    scoring : str
        Name of a scikit-learn scorer.

    Returns
    -------
    float
        Score; larger is better.

    Raises
    ------
    NotComparable
        As in `answer_rows`.
    """
    return Judge(scoring, holdout.y, answer_rows(model, holdout, schema)).score_all()


def _tell_classes(classes: tuple[object, ...], schema: Schema) -> str:
    told = f"its classes are [{_list_classes(classes)}]"
    if set(classes) != set(schema.class_labels):
        return told
    # Callers may read probabilities by position too.
    return f"{told}, in this order; --positive {str(classes[-1])!r} keeps it"


def _list_classes(classes: tuple[object, ...]) -> str:
    """List the first few classes; there may be thousands, and each may be a long text."""
    return shorten_list([repr(c) for c in classes[:MAX_SHOWN]], len(classes))


def _check_columns(model: Pipeline, schema: Schema) -> None:
    known = tuple(getattr(model, "feature_names_in_", ()))
    if known == schema.feature_names:
        return
    if sorted(known) == sorted(schema.feature_names):
        raise NotComparable("its columns are in another order")
    raise NotComparable(
        f"its columns are {quote_list(known)}" if known else "its columns have no names"
    )
