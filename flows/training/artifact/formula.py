"""Evaluates the formulas of an artifact, as any reader has to."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from date_columns.forms import DATE, TIME
from date_columns.parts import PARTS, Part
from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.tree_formula import evaluate_trees, trees_to_probabilities

# A message that holds one estimator.
Estimator = pb.ModelArtifact | pb.EnsembleMember
# What the names of pb.DatePart begin with.
PART_PREFIX = "DATE_PART_"


def evaluate_formula(
    artifact: pb.ModelArtifact, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute probabilities.

    Parameters
    ----------
    artifact : ModelArtifact
        Input schema, estimator, and calibration if it has one.
    X : ndarray of float64, shape (n_rows, n_columns)
        Rows, NaN where missing; a date is seconds.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_classes)
        Probability of each class, [0, 1].
    """
    if artifact.HasField("calibration"):
        raw_scores = evaluate_raw_scores(artifact, X)
        return apply_calibration(artifact.calibration, raw_scores)
    if artifact.HasField("ensemble"):
        numbers = _split_columns(artifact.input_schema, X)
        return _average(artifact.ensemble, numbers, _count_classes(artifact))
    return _to_probabilities(artifact, evaluate_raw_scores(artifact, X))


def evaluate_raw_scores(
    artifact: pb.ModelArtifact, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute raw scores.

    Parameters
    ----------
    artifact, X
        As in `evaluate_formula`.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_raw_scores)
        Raw scores: 1 for two classes, else one for each class. Those of an ensemble are its
        probabilities.
    """
    X, n_classes = _split_columns(artifact.input_schema, X), _count_classes(artifact)
    if artifact.HasField("ensemble"):
        probabilities = _average(artifact.ensemble, X, n_classes)
        return probabilities[:, 1:] if n_classes == 2 else probabilities
    return _evaluate_estimator(artifact, X, n_classes)


def _count_classes(artifact: pb.ModelArtifact) -> int:
    return len(artifact.golden_examples[0].probabilities)


def _average(
    message: pb.Ensemble, X: NDArray[np.float64], n_classes: int
) -> NDArray[np.float64]:
    """Return the mean of the members' probabilities, added in their order."""
    total = np.zeros((len(X), n_classes))
    for member in message.members:
        raw_scores = _evaluate_estimator(member, X, n_classes)
        total += member.count * _to_probabilities(member, raw_scores)
    return total / sum(member.count for member in message.members)


def _evaluate_estimator(
    message: Estimator, X: NDArray[np.float64], n_classes: int
) -> NDArray[np.float64]:
    """Return the raw scores of one estimator for the numbers that it takes."""
    if message.HasField("logistic_regression"):
        return _evaluate_linear(message.logistic_regression, X)
    n_raw_scores = 1 if n_classes == 2 else n_classes
    return evaluate_trees(message.boosted_trees, X, n_raw_scores)


def _to_probabilities(
    message: Estimator, raw_scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the probabilities of one estimator, shape (n_rows, n_classes)."""
    if message.HasField("logistic_regression"):
        return _linear_to_probabilities(raw_scores)
    return _of_both_classes(trees_to_probabilities(message.boosted_trees, raw_scores))


def _split_columns(
    schema: pb.InputSchema, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the numbers that the estimator takes, shape (n_rows, n_numbers)."""
    columns: list[NDArray[np.float64]] = []
    for position, feature in enumerate(schema.features):
        match feature.WhichOneof("kind"):
            case "date":
                parts = _find_parts(DATE, feature.date.parts)
            case "time":
                parts = _find_parts(TIME, feature.time.parts)
            case "categorical" if feature.categorical.HasField("means"):
                parts = _find_means(feature.categorical.means)
            case _:
                parts = [lambda values: values]
        columns += [part(X[:, position]) for part in parts]
    return np.column_stack(columns)


def _find_parts(kind: str, values: Iterable["pb.DatePart.ValueType"]) -> list[Part]:
    names = map(pb.DatePart.Name, values)
    return [PARTS[kind][name.removeprefix(PART_PREFIX).lower()] for name in names]


def _find_means(message: pb.TargetMeans) -> list[Part]:
    """Return what gives the target means of positions, for each output."""
    tables = np.array(message.values).reshape(len(message.missing), -1)

    def make(table: NDArray[np.float64], missing: float) -> Part:
        # NaN becomes the last position.
        extended = np.append(table, missing)
        return lambda column: extended[
            np.nan_to_num(column, nan=len(table)).astype(np.int64)
        ]

    return [make(*pair) for pair in zip(tables, message.missing, strict=True)]


def apply_calibration(
    message: pb.Calibration, raw_scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn raw scores into calibrated probabilities.

    Parameters
    ----------
    message : Calibration
        Maps: 1 for two classes, else one for each class.
    raw_scores : ndarray of float64, shape (n_rows, n_maps)
        Raw scores.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_classes)
        Probability of each class, [0, 1].
    """
    values = np.column_stack(
        [
            _apply_map(map_, column)
            for map_, column in zip(message.maps, raw_scores.T, strict=True)
        ]
    )
    if values.shape[1] == 1:
        return _of_both_classes(values)
    total = values.sum(axis=1, keepdims=True)
    uniform = np.full_like(values, 1 / values.shape[1])
    return np.asarray(np.divide(values, total, out=uniform, where=total != 0))


def _apply_map(
    map_: pb.CalibrationMap, raw_scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    from scipy.special import expit

    if map_.WhichOneof("kind") == "sigmoid":
        sigmoid = map_.sigmoid
        return np.asarray(expit(-(sigmoid.slope * raw_scores + sigmoid.intercept)))
    return np.interp(raw_scores, map_.isotonic.inputs, map_.isotonic.outputs)


def _evaluate_linear(
    message: pb.LogisticRegression, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the raw scores of a linear model, shape (n_rows, n_raw_scores)."""
    n_raw_scores = len(message.intercepts)
    coefficients = np.array(message.coefficients).reshape(n_raw_scores, -1)
    numbers, codes = np.split(X, [coefficients.shape[1]], axis=1)
    if message.imputed_values:
        numbers = np.where(np.isnan(numbers), np.array(message.imputed_values), numbers)
    if message.centers:
        numbers = numbers - np.array(message.centers)
    raw_scores = numbers @ coefficients.T + np.array(message.intercepts)
    for part, column in zip(message.category_weights, codes.T, strict=True):
        # A missing category adds nothing.
        weights = np.array(part.values).reshape(n_raw_scores, -1).T
        is_known = ~np.isnan(column)
        raw_scores[is_known] += weights[column[is_known].astype(np.int64)]
    return np.asarray(raw_scores)


def _linear_to_probabilities(raw_scores: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit, softmax

    if raw_scores.shape[1] == 1:
        return _of_both_classes(expit(raw_scores))
    return np.asarray(softmax(raw_scores, axis=1))


def _of_both_classes(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the first class's probability before the second's, if that is the only column."""
    if probabilities.shape[1] > 1:
        return probabilities
    return np.column_stack([1 - probabilities, probabilities])
