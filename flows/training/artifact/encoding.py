"""Writes a fitted model as the message that the server reads, which states the formulas."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from google.protobuf.struct_pb2 import Struct
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.boosted_trees import (
    encode_booster,
    evaluate_trees,
    to_probabilities,
)
from training.data.schema import Feature, Kind, Schema
from training.errors import ArtifactError
from training.models.calibration import apply_calibration, encode_calibration
from training.models.evaluation import decide
from training.models.families import (
    CLASSIFIER,
    COLUMNS,
    FAMILIES,
    LOGISTIC_REGRESSION,
    PREPROCESS,
)
from training.models.final_model import FinalModel
from training.search.preparation import steps_of

MAX_GOLDEN_EXAMPLES = 32
# How close the message's own formula has to come to scikit-learn's answer.
TOLERANCE = 1e-12
# What to do about a difference, by whether the model is linear: too large terms cancel in its sums.
REMEDIES = (
    "remove what is unusual from search.lightgbm",
    "columns of extreme size are the usual cause, so rescale them",
)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from; the fields are those of the message of this name."""

    training_run_id: str
    data_sha256: str
    code_version: str
    library_versions: dict[str, str]
    metrics: dict[str, float]
    create_time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRows:
    """Held-out rows with the probabilities of the trainer's own libraries.

    Parameters
    ----------
    X : ndarray of float64, shape (n_rows, n_features)
        Dense; NaN where missing.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Probability of each class.
    """

    X: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def encode(
    model: FinalModel,
    schema: Schema,
    family: str,
    golden: ScoredRows,
    provenance: Provenance,
) -> pb.ModelArtifact:
    """Write a fitted model as an artifact.

    Parameters
    ----------
    model : FinalModel
        Fitted by `training.models.final_model`.
    schema : Schema
        Columns and classes that it was fitted on.
    family : str
        Name of its family.
    golden : ScoredRows
        Rows to check every reader with.
    provenance : Provenance
        Where the model comes from.

    Raises
    ------
    ArtifactError
        If the message does not answer as the model does.
    """
    artifact = pb.ModelArtifact(
        input_schema=_encode_schema(schema),
        class_labels=_encode_labels(schema.class_labels),
        threshold=model.threshold if schema.is_binary else None,
        provenance=_encode_provenance(provenance, family),
        golden_examples=_encode_golden(golden, schema, model.threshold),
    )
    if model.calibrators:
        artifact.calibration.CopyFrom(encode_calibration(model.calibrators))
    if family == LOGISTIC_REGRESSION.name:
        message = _encode_logistic_regression(model.pipeline, schema)
        artifact.logistic_regression.CopyFrom(message)
    else:
        classifier = model.pipeline.named_steps[CLASSIFIER]
        artifact.boosted_trees.CopyFrom(_encode_trees(classifier.booster_))
    _check(artifact, golden)
    return artifact


def _encode_trees(booster: Any) -> pb.BoostedTrees:
    try:
        return encode_booster(booster)
    except ValueError as error:
        raise ArtifactError(f"{error}; {REMEDIES[False]}") from None


def choose_golden_rows(
    y: NDArray[np.int64], is_missing: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Choose the rows to check readers with.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
        Codes of the labels.
    is_missing : ndarray of bool, shape (n_rows, n_features)
        Where a value is missing, or a category too rare to be known.

    Returns
    -------
    ndarray of int64
        Row numbers, ascending: evenly spread, with a row of each class, and for each of the first
        features with gaps a row with one.
    """
    n_spread = min(MAX_GOLDEN_EXAMPLES, len(y))
    spread = np.linspace(0, len(y) - 1, n_spread).round().astype(np.int64)
    _, first_of_class = np.unique(y, return_index=True)
    with_gaps = np.flatnonzero(is_missing.any(axis=0))[:MAX_GOLDEN_EXAMPLES]
    first_missing = is_missing[:, with_gaps].argmax(axis=0)
    return np.unique(np.concatenate([spread, first_of_class, first_missing])).astype(
        np.int64
    )


def _encode_schema(schema: Schema) -> pb.InputSchema:
    return pb.InputSchema(features=map(_encode_feature, schema.features))


def _encode_feature(feature: Feature) -> pb.Feature:
    message = pb.Feature(name=feature.name, nullable=feature.nullable)
    match feature.kind:
        case Kind.NUMERIC:
            message.numeric.SetInParent()
        case Kind.BOOLEAN:
            message.boolean.SetInParent()
        case Kind.CATEGORICAL:
            message.categorical.CopyFrom(_encode_categories(feature))
    return message


def _encode_categories(feature: Feature) -> pb.CategoricalFeature:
    message = pb.CategoricalFeature(refuse_unknown=feature.refuse_unknown)
    if isinstance(feature.categories[0], str):
        message.strings.values.extend(map(str, feature.categories))
    else:
        message.integers.values.extend(map(int, feature.categories))
    return message


def _encode_labels(labels: Sequence[int] | Sequence[str]) -> pb.ClassLabels:
    if isinstance(labels[0], str):
        return pb.ClassLabels(strings=pb.StringLabels(values=map(str, labels)))
    return pb.ClassLabels(integers=pb.IntegerLabels(values=map(int, labels)))


def _encode_provenance(provenance: Provenance, family: str) -> pb.Provenance:
    message = pb.Provenance(
        family=family,
        display_name=FAMILIES[family].display_name,
        training_run_id=provenance.training_run_id,
        data_sha256=provenance.data_sha256,
        code_version=provenance.code_version,
        library_versions=provenance.library_versions,
        metrics=provenance.metrics,
    )
    message.create_time.FromDatetime(provenance.create_time)
    return message


def _encode_golden(
    golden: ScoredRows, schema: Schema, threshold: float
) -> list[pb.GoldenExample]:
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
    """Return a number of the matrix as a caller would send it."""
    if np.isnan(value):
        return None if feature.nullable else _unknown_category(feature)
    match feature.kind:
        case Kind.NUMERIC:
            return value
        case Kind.BOOLEAN:
            return bool(value)
        case Kind.CATEGORICAL:
            return feature.categories[int(value)]


def _unknown_category(feature: Feature) -> str | int:
    """Return a category that the model does not know, as those are that were too rare."""
    if isinstance(feature.categories[0], str):
        return max(map(str, feature.categories)) + "?"
    return max(map(int, feature.categories)) + 1


def _encode_logistic_regression(
    pipeline: Pipeline, schema: Schema
) -> pb.LogisticRegression:
    classifier = pipeline.named_steps[CLASSIFIER]
    imputers, scalers = _find_transformers(pipeline)
    weights, of_categories = np.split(classifier.coef_, [schema.n_numeric], axis=1)
    # A column that does not vary in the training rows has scale 1 in scikit-learn.
    scale = _join(scaler.scale_ for scaler in scalers)
    return pb.LogisticRegression(
        coefficients=(weights / scale).ravel(),
        intercepts=classifier.intercept_,
        centers=_join(scaler.mean_ for scaler in scalers if scaler.with_mean),
        imputed_values=_join(imputer.statistics_ for imputer in imputers),
        category_weights=_split_by_feature(of_categories, schema),
    )


def _join(parts: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.empty(0), *parts])


def _split_by_feature(
    weights: NDArray[np.float64], schema: Schema
) -> list[pb.CategoryWeights]:
    """Split weights, shape (n_outputs, n_indicators), by categorical feature."""
    counts = [len(feature.categories) for feature in schema.categorical]
    parts = np.split(weights, np.cumsum(counts)[:-1], axis=1) if counts else []
    return [pb.CategoryWeights(values=part.ravel()) for part in parts]


def _find_transformers(
    pipeline: Pipeline,
) -> tuple[list[SimpleImputer], list[StandardScaler]]:
    """Return what imputes and scales the numeric and the boolean columns, in their order."""
    if COLUMNS in pipeline.named_steps:
        by_kind = pipeline.named_steps[COLUMNS].named_transformers_
        fitted = [by_kind[k] for k in (Kind.NUMERIC, Kind.BOOLEAN) if k in by_kind]
    else:
        fitted = [pipeline.named_steps[PREPROCESS]]
    steps = [step for transformer in fitted for step in steps_of(transformer)]
    imputers = [step for step in steps if isinstance(step, SimpleImputer)]
    return imputers, [step for step in steps if isinstance(step, StandardScaler)]


def _check(artifact: pb.ModelArtifact, golden: ScoredRows) -> None:
    """Refuse to hand on what no reader could answer alike."""
    answer = evaluate_formula(artifact, golden.X)
    is_linear = artifact.HasField("logistic_regression")
    if not (is_linear or artifact.HasField("calibration")):
        if not np.array_equal(answer, golden.probabilities):
            raise ArtifactError(
                "the model's trees do not give back the probabilities of the fitted model; "
                f"{REMEDIES[is_linear]}"
            )
        return
    differences = np.abs(answer - golden.probabilities).max(axis=1)
    if not (differences <= TOLERANCE + _find_leeway(artifact, golden.X)).all():
        raise ArtifactError(
            f"the written model differs by {differences.max():.1e} from scikit-learn's, more than "
            f"{TOLERANCE:.0e}; {REMEDIES[is_linear]}"
        )


def _find_leeway(
    artifact: pb.ModelArtifact, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far the answer of each row moves where its scores do by the tolerance.

    Isotonic regression makes a cliff of two close scores, where rounding shows. LightGBM's scores
    are not rounded, and logistic regression without calibration has no cliffs.
    """
    scores = _evaluate_scores(artifact, X)
    if artifact.HasField("boosted_trees") or not artifact.HasField("calibration"):
        return np.zeros(len(X))
    shifts = TOLERANCE * np.eye(scores.shape[1])
    above = [apply_calibration(artifact.calibration, scores + s) for s in shifts]
    below = [apply_calibration(artifact.calibration, scores - s) for s in shifts]
    return np.asarray(np.abs(np.subtract(above, below)).sum(axis=0).max(axis=1))


def evaluate_formula(
    artifact: pb.ModelArtifact, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Evaluate the formulas of the message.

    Parameters
    ----------
    artifact : ModelArtifact
        Estimator, and calibration if it has one.
    X : ndarray of float64, shape (n_rows, n_features)
        Rows, NaN where missing.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_classes)
        Probability of each class.
    """
    scores = _evaluate_scores(artifact, X)
    if artifact.HasField("calibration"):
        return apply_calibration(artifact.calibration, scores)
    if artifact.HasField("logistic_regression"):
        return _to_probabilities(scores)
    return _of_both_classes(to_probabilities(artifact.boosted_trees, scores))


def _evaluate_scores(
    artifact: pb.ModelArtifact, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what probabilities are made of, shape (n_rows, 1) for two classes, else n."""
    if artifact.HasField("logistic_regression"):
        return _evaluate_outputs(artifact.logistic_regression, X)
    n_classes = len(artifact.golden_examples[0].probabilities)
    n_outputs = 1 if n_classes == 2 else n_classes
    return evaluate_trees(artifact.boosted_trees, X, n_outputs)


def _evaluate_outputs(
    message: pb.LogisticRegression, X: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the outputs z of a linear model, shape (n_rows, n_outputs)."""
    n_outputs = len(message.intercepts)
    coefficients = np.array(message.coefficients).reshape(n_outputs, -1)
    numbers, codes = np.split(X, [coefficients.shape[1]], axis=1)
    if message.imputed_values:
        numbers = np.where(np.isnan(numbers), np.array(message.imputed_values), numbers)
    if message.centers:
        numbers = numbers - np.array(message.centers)
    z = numbers @ coefficients.T + np.array(message.intercepts)
    for part, column in zip(message.category_weights, codes.T, strict=True):
        # A missing category adds nothing.
        weights = np.array(part.values).reshape(n_outputs, -1).T
        is_known = ~np.isnan(column)
        z[is_known] += weights[column[is_known].astype(np.int64)]
    return np.asarray(z)


def _to_probabilities(z: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit, softmax

    return _of_both_classes(expit(z)) if z.shape[1] == 1 else softmax(z, axis=1)


def _of_both_classes(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put that of the first class beside the second's, if that is all there is."""
    if probabilities.shape[1] > 1:
        return probabilities
    return np.column_stack([1 - probabilities, probabilities])
