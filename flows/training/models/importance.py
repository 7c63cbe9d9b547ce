"""How much a fitted model rests on each of its columns."""

from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from training.data.rows import Rows
from training.data.schema import Schema
from training.models.averaging import find_members
from training.models.final_model import FinalModel
from training.models.pipelines import CLASSIFIER


def measure_importance(
    model: FinalModel, schema: Schema, rows: Rows
) -> NDArray[np.float64]:
    """Measure the importance of each column that a model takes.

    It is the gain of the splits on a column for boosted trees. For logistic regression it is the
    deviation of what the column adds to the raw scores. The members of an ensemble count as
    often as in its mean.

    Parameters
    ----------
    model : FinalModel
        Fitted model.
    schema : Schema
        Columns of the rows.
    rows : Rows
        Rows that it was fitted on.

    Returns
    -------
    ndarray of float64, shape (n_numeric + n_categorical,)
        Shares, 0 or more: they sum to 1, or are all 0 if the model rests on nothing. Numbers come
        first, then categories, as in the schema.
    """
    members = find_members(model.pipeline)
    total = sum(count for _, count in members)
    shares = [
        _to_shares(_measure(pipeline, schema, rows)) * count
        for pipeline, count in members
    ]
    return np.asarray(np.sum(shares, axis=0) / total)


def _measure(pipeline: Pipeline, schema: Schema, rows: Rows) -> NDArray[np.float64]:
    classifier = pipeline.named_steps[CLASSIFIER]
    if not isinstance(classifier, LogisticRegression):
        gains = classifier.booster_.feature_importance("gain")
        return np.asarray(gains, dtype=np.float64)
    # The columns of numbers are scaled to a deviation of 1.
    numbers, indicators = np.split(classifier.coef_, [schema.n_numeric], axis=1)
    of_categories = _measure_categories(indicators, schema, rows)
    return np.append(np.abs(numbers).mean(axis=0), of_categories)


def _measure_categories(
    weights: NDArray[np.float64], schema: Schema, rows: Rows
) -> list[float]:
    """Return the deviation of what each feature adds; weights has shape (n_raw_scores, n)."""
    features = schema.categorical
    bounds = accumulate((len(f.categories) for f in features), initial=0)
    start = len(schema.features) - len(features)
    return [
        _deviate(weights[:, low:high], np.asarray(rows.X[:, start + number]))
        for number, (low, high) in enumerate(pairwise(bounds))
    ]


def _deviate(weights: NDArray[np.float64], codes: NDArray[np.float64]) -> float:
    known = codes[~np.isnan(codes)].astype(np.int64)
    shares = np.bincount(known, minlength=weights.shape[1]) / max(1, len(codes))
    # A gap adds nothing.
    variance = (weights**2) @ shares - (weights @ shares) ** 2
    return float(np.sqrt(np.clip(variance, 0, None)).mean())


def _to_shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    total = values.sum()
    return values / total if total > 0 else np.zeros_like(values)
