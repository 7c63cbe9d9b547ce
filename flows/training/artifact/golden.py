"""Golden examples: rows of the hold-out in the artifact, with which a reader checks its answers."""

from dataclasses import dataclass

import numpy as np
from google.protobuf.struct_pb2 import Struct
from numpy.typing import NDArray

from date_columns.forms import DateForm
from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.data.rows import Rows
from training.data.schema import Feature, Kind, Schema
from training.models.evaluation import decide

MAX_GOLDEN_EXAMPLES = 32


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRows:
    """Rows of the hold-out with the probabilities of the training libraries.

    Parameters
    ----------
    X : ndarray of float64, shape (n_rows, n_features)
        Dense; NaN where missing.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Probability of each class, [0, 1].
    """

    X: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def choose_golden_rows(
    y: NDArray[np.int64], is_missing: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Choose the rows that become golden examples.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
        Codes of the labels.
    is_missing : ndarray of bool, shape (n_rows, n_features)
        Where a value is missing, or its category is too rare to be known.

    Returns
    -------
    ndarray of int64, shape (n_golden,)
        Row numbers, ascending: `MAX_GOLDEN_EXAMPLES` that are evenly spread, the first of each
        class, and the first with a gap for each of the first features with gaps.
    """
    n_spread = min(MAX_GOLDEN_EXAMPLES, len(y))
    spread = np.linspace(0, len(y) - 1, n_spread).round().astype(np.int64)
    _, first_of_class = np.unique(y, return_index=True)
    with_gaps = np.flatnonzero(is_missing.any(axis=0))[:MAX_GOLDEN_EXAMPLES]
    first_missing = is_missing[:, with_gaps].argmax(axis=0)
    return np.unique(np.concatenate([spread, first_of_class, first_missing])).astype(
        np.int64
    )


def take_golden(rows: Rows, probabilities: NDArray[np.float64]) -> ScoredRows:
    """Take the rows that become golden examples.

    Parameters
    ----------
    rows : Rows
        Rows of the hold-out.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Probabilities of the model that the artifact holds.

    Returns
    -------
    ScoredRows
        The rows of `choose_golden_rows`.
    """
    X = rows.X
    if not isinstance(X, np.ndarray):
        chosen = choose_golden_rows(rows.y, np.zeros((len(rows.y), 0), dtype=bool))
        return ScoredRows(X[chosen].toarray(), probabilities[chosen])
    chosen = choose_golden_rows(rows.y, np.isnan(X))
    return ScoredRows(np.asarray(X[chosen]), probabilities[chosen])


def encode_golden(
    golden: ScoredRows, schema: Schema, threshold: float
) -> list[pb.GoldenExample]:
    """Write golden examples as messages.

    Parameters
    ----------
    golden : ScoredRows
        Rows and their probabilities.
    schema : Schema
        Columns and classes.
    threshold : float
        Threshold between two classes, [0, 1].

    Returns
    -------
    list of GoldenExample
        One for each row: numbers if all columns are numeric, else a record by name.
    """
    predicted = decide(golden.probabilities, threshold)
    is_numeric = len(schema.of_kind(Kind.NUMERIC)) == len(schema.features)
    return [
        pb.GoldenExample(
            features=row if is_numeric else [],
            record=None if is_numeric else _encode_record(row, schema),
            probabilities=probabilities,
            label=str(schema.class_labels[code]),
        )
        for row, probabilities, code in zip(
            golden.X, golden.probabilities, predicted, strict=True
        )
    ]


def _encode_record(row: NDArray[np.float64], schema: Schema) -> Struct:
    record = Struct()
    for feature, value in zip(schema.features, row.tolist(), strict=True):
        record[feature.name] = _decode_value(feature, value)
    return record


def _decode_value(feature: Feature, value: float) -> bool | float | str | None:
    """Turn a number of the matrix into the value that a caller would send."""
    if np.isnan(value):
        return None if feature.nullable else _unknown_category(feature)
    match feature.kind:
        case Kind.NUMERIC:
            return value
        case Kind.BOOLEAN:
            return bool(value)
        case Kind.DATE | Kind.TIME:
            return DateForm(feature.kind, feature.format).write(value)
        case Kind.MEANS | Kind.CATEGORICAL:
            return feature.categories[int(value)]


def _unknown_category(feature: Feature) -> str | int:
    """Return a category that the model does not know, in place of one that was too rare."""
    if isinstance(feature.categories[0], str):
        return max(map(str, feature.categories)) + "?"
    return max(map(int, feature.categories)) + 1
