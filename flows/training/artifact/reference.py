"""Writes the distributions that a server compares with those of the rows that it answers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from date_columns.parts import PARTS
from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.bins import (
    MAX_CATEGORY_BINS,
    MAX_SCORE_BINS,
    N_FINE_BINS,
    Column,
    bin_categories,
    bin_numbers,
    choose_categories,
    count_rows,
    find_edges,
    find_quantiles,
    limit_bins,
)
from training.artifact.formula import PART_PREFIX
from training.data.rows import Rows
from training.data.schema import TEMPORAL, WITH_CATEGORIES, Feature, Kind, Schema

_MAX_WATCHED = 500
# The server takes 100 KiB; the scores need less than the rest of it.
_MAX_FEATURE_BYTES = 96 * 1024


@dataclass(frozen=True, slots=True)
class _Watched:
    """A number or a category that a model takes of a row.

    Parameters
    ----------
    position : int
        Position of its feature.
    feature : Feature
        The feature.
    part : str
        Name of the part of a date or time; else empty.
    importance : float
        Share of the model that rests on it.
    """

    position: int
    feature: Feature
    part: str
    importance: float


def describe_reference(
    rows: Rows,
    schema: Schema,
    importance: NDArray[np.float64],
    scores: pb.ReferenceScores,
    calibration_error: float,
) -> pb.Reference:
    """Describe the distributions of a model's rows and scores.

    Parameters
    ----------
    rows : Rows
        Rows that the model was fitted on, as it saw them.
    schema : Schema
        Their columns.
    importance : ndarray of float64, shape (n_numeric + n_categorical,)
        Importance of each column of the model, 0 or more.
    scores : ReferenceScores
        Distribution of the scores.
    calibration_error : float
        Expected calibration error on the hold-out, [0, 1].

    Returns
    -------
    Reference
        At most 100 KiB: the most important features, 500 at most.
    """
    n_rows = count_rows(rows.weight, len(rows.y))
    message = pb.Reference(
        n_rows=n_rows, scores=scores, expected_calibration_error=calibration_error
    )
    watched = sorted(_list_watched(schema, importance), key=lambda w: -w.importance)
    n_bytes, take_column = 0, _make_reader(rows.X)
    for item in watched[:_MAX_WATCHED]:
        column = Column(take_column(item.position), rows.weight)
        described = _describe(item, column, n_rows)
        n_bytes += described.ByteSize() + 4
        if n_bytes > _MAX_FEATURE_BYTES:
            break
        message.features.append(described)
    return message


def describe_scores(
    probabilities: NDArray[np.float64], weight: NDArray[np.float64] | None
) -> pb.ReferenceScores:
    """Describe the scores of rows that a model had not learned from.

    Parameters
    ----------
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Its answers, [0, 1].
    weight : ndarray of float64, shape (n_rows,), or None
        How much each row counts.

    Returns
    -------
    ReferenceScores
        The score is the probability of the second of two classes, otherwise the largest.
    """
    is_binary = probabilities.shape[1] == 2
    values = probabilities[:, 1] if is_binary else probabilities.max(axis=1)
    column = Column(values, weight)
    n_bins = limit_bins(count_rows(weight, len(values)), MAX_SCORE_BINS)
    edges = find_quantiles(column, n_bins)
    fine_edges = _find_fine_edges(column) if is_binary else np.empty(0)
    # There are no gaps.
    return pb.ReferenceScores(
        edges=edges, shares=bin_numbers(column, edges)[:-1], fine_edges=fine_edges
    )


def _find_fine_edges(scores: Column) -> NDArray[np.float64]:
    """Return edges between bins that hold as much of both classes together as each other.

    Where positives are rare, bins of as many rows each would put nearly all of them in the last.
    """
    weight = np.ones_like(scores.values) if scores.weight is None else scores.weight
    share = np.zeros_like(weight)
    for probability in (scores.values, 1 - scores.values):
        expected = weight * probability
        if expected.any():
            share += expected / expected.sum()
    return find_quantiles(Column(scores.values, share), N_FINE_BINS)


def _list_watched(
    schema: Schema, importance: NDArray[np.float64]
) -> Iterator[_Watched]:
    start = 0
    for position, feature in enumerate(schema.features):
        n_columns = 1
        if feature.kind != Kind.CATEGORICAL:
            n_columns = schema.count_numbers(feature)
        own = importance[start : start + n_columns].tolist()
        start += n_columns
        if feature.kind in TEMPORAL:
            for part, share in zip(feature.parts, own, strict=True):
                yield _Watched(position, feature, part, share)
        else:
            yield _Watched(position, feature, "", sum(own))


def _make_reader(X: Any) -> Callable[[int], NDArray[np.float64]]:
    """Return a function that returns a column, for a dense or a sparse matrix."""
    if isinstance(X, np.ndarray):
        return lambda position: np.asarray(X[:, position])
    by_column = X.tocsc()
    return lambda position: np.asarray(by_column[:, [position]].toarray().ravel())


def _describe(item: _Watched, column: Column, n_rows: float) -> pb.ReferenceFeature:
    feature = item.feature
    if feature.kind in WITH_CATEGORIES:
        chosen = choose_categories(column, limit_bins(n_rows, MAX_CATEGORY_BINS))
        return pb.ReferenceFeature(
            name=feature.name,
            categories=chosen,
            shares=bin_categories(column, chosen),
        )
    message = pb.ReferenceFeature(name=feature.name)
    if item.part:
        part = PARTS[feature.kind.value][item.part]
        column = Column(np.asarray(part(column.values)), column.weight)
        message.part = pb.DatePart.Value(f"{PART_PREFIX}{item.part.upper()}")
    is_boolean = feature.kind == Kind.BOOLEAN
    edges = np.zeros(1) if is_boolean else find_edges(column, n_rows)
    message.edges.extend(edges)
    message.shares.extend(bin_numbers(column, edges))
    return message
