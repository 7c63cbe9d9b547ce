"""Writes a fitted model as the message that the server reads, which states the formulas."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.pipeline import Pipeline

from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.agreement import LIGHTGBM_REMEDY, check_agreement
from training.artifact.boosted_trees import encode_booster
from training.artifact.formula import PART_PREFIX
from training.artifact.golden import ScoredRows, encode_golden
from training.artifact.provenance import Provenance
from training.data.schema import Feature, Kind, Schema
from training.errors import ArtifactError
from training.models.families import FAMILIES, LOGISTIC_REGRESSION
from training.models.final_model import FinalModel
from training.models.pipelines import CLASSIFIER, find_transformers


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
        Fitted model.
    schema : Schema
        Columns and classes that it was fitted on.
    family : str
        Name of its family.
    golden : ScoredRows
        Golden examples.
    provenance : Provenance
        Where the model comes from.

    Returns
    -------
    ModelArtifact
        The message that the server reads.

    Raises
    ------
    ArtifactError
        If the artifact cannot hold the model, or its formulas do not answer as the model does.
    """
    artifact = pb.ModelArtifact(
        input_schema=_encode_schema(schema),
        class_labels=_encode_labels(schema.class_labels),
        threshold=model.threshold if schema.is_binary else None,
        provenance=_encode_provenance(provenance, family),
        golden_examples=encode_golden(golden, schema, model.threshold),
    )
    if model.calibrators:
        artifact.calibration.CopyFrom(_encode_calibration(model.calibrators))
    if family == LOGISTIC_REGRESSION.name:
        message = _encode_logistic_regression(model.pipeline, schema)
        artifact.logistic_regression.CopyFrom(message)
    else:
        classifier = model.pipeline.named_steps[CLASSIFIER]
        artifact.boosted_trees.CopyFrom(_encode_trees(classifier.booster_))
    check_agreement(artifact, golden)
    return artifact


def _encode_trees(booster: Any) -> pb.BoostedTrees:
    try:
        return encode_booster(booster)
    except ValueError as error:
        raise ArtifactError(f"{error}; {LIGHTGBM_REMEDY}") from None


def _encode_schema(schema: Schema) -> pb.InputSchema:
    return pb.InputSchema(features=map(_encode_feature, schema.features))


def _encode_feature(feature: Feature) -> pb.Feature:
    message = pb.Feature(name=feature.name, nullable=feature.nullable)
    match feature.kind:
        case Kind.NUMERIC:
            message.numeric.SetInParent()
        case Kind.BOOLEAN:
            message.boolean.SetInParent()
        case Kind.DATE:
            message.date.CopyFrom(
                pb.DateFeature(format=feature.format, parts=_encode_parts(feature))
            )
        case Kind.TIME:
            message.time.CopyFrom(
                pb.TimeFeature(format=feature.format, parts=_encode_parts(feature))
            )
        case Kind.CATEGORICAL:
            message.categorical.CopyFrom(_encode_categories(feature))
    return message


def _encode_parts(feature: Feature) -> list["pb.DatePart.ValueType"]:
    return [pb.DatePart.Value(f"{PART_PREFIX}{name.upper()}") for name in feature.parts]


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


def _encode_logistic_regression(
    pipeline: Pipeline, schema: Schema
) -> pb.LogisticRegression:
    classifier = pipeline.named_steps[CLASSIFIER]
    imputers, scalers = find_transformers(pipeline)
    weights, of_categories = np.split(classifier.coef_, [schema.n_numeric], axis=1)
    # scikit-learn gives scale 1 to a column that does not vary, so there is no division by 0.
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
    """Split weights, shape (n_raw_scores, n_indicators), by categorical feature."""
    counts = [len(feature.categories) for feature in schema.categorical]
    parts = np.split(weights, np.cumsum(counts)[:-1], axis=1) if counts else []
    return [pb.CategoryWeights(values=part.ravel()) for part in parts]


def _encode_calibration(calibrators: Sequence[Any]) -> pb.Calibration:
    return pb.Calibration(maps=map(_encode_map, calibrators))


def _encode_map(calibrator: Any) -> pb.CalibrationMap:
    if not isinstance(calibrator, IsotonicRegression):
        sigmoid = pb.SigmoidMap(slope=calibrator.a_, intercept=calibrator.b_)
        return pb.CalibrationMap(sigmoid=sigmoid)
    isotonic = pb.IsotonicMap(
        inputs=calibrator.X_thresholds_,
        # The mean of some ones may be rounded to a little more than 1.
        outputs=np.clip(calibrator.y_thresholds_, 0, 1),
    )
    return pb.CalibrationMap(isotonic=isotonic)
