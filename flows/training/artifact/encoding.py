"""Writes a fitted model as the message that the server reads, which states the formulas."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import TargetEncoder

from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.agreement import LIGHTGBM_REMEDY, check_agreement
from training.artifact.boosted_trees import encode_booster
from training.artifact.formula import PART_PREFIX
from training.artifact.golden import ScoredRows, encode_golden
from training.artifact.provenance import Provenance
from training.data.schema import Feature, Kind, Schema
from training.data.schema_file import DROP, HASH
from training.errors import ArtifactError
from training.models.averaging import find_members
from training.models.families import find_display_name
from training.models.final_model import FinalModel
from training.models.pipelines import CLASSIFIER, find_encoder, find_transformers

_REDACTIONS = {
    "": pb.REDACTION_UNSPECIFIED,
    DROP: pb.REDACTION_DROP,
    HASH: pb.REDACTION_HASH,
}


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
        Name of its family, or "ensemble".
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
        input_schema=_encode_schema(schema, model),
        class_labels=_encode_labels(schema.class_labels),
        threshold=model.threshold if schema.is_binary else None,
        provenance=_encode_provenance(provenance, family),
        golden_examples=encode_golden(golden, schema, model.threshold),
    )
    if model.calibrators:
        artifact.calibration.CopyFrom(_encode_calibration(model.calibrators))
    if isinstance(model.pipeline, Pipeline):
        _write_estimator(artifact, model.pipeline, schema)
    else:
        for pipeline, count in find_members(model.pipeline):
            member = artifact.ensemble.members.add(count=count)
            _write_estimator(member, pipeline, schema)
    check_agreement(artifact, golden)
    return artifact


def _write_estimator(
    message: pb.ModelArtifact | pb.EnsembleMember, pipeline: Pipeline, schema: Schema
) -> None:
    """Write a fitted pipeline into the message's oneof."""
    classifier = pipeline.named_steps[CLASSIFIER]
    if isinstance(classifier, LogisticRegression):
        message.logistic_regression.CopyFrom(
            _encode_logistic_regression(pipeline, schema)
        )
    else:
        message.boosted_trees.CopyFrom(_encode_trees(classifier.booster_))


def check_classifier(pipeline: Pipeline) -> None:
    """Raise ValueError if an artifact could not hold the classifier of a fitted pipeline."""
    booster = getattr(pipeline.named_steps[CLASSIFIER], "booster_", None)
    if booster is not None:
        encode_booster(booster)


def _encode_trees(booster: Any) -> pb.BoostedTrees:
    try:
        return encode_booster(booster)
    except ValueError as error:
        raise ArtifactError(f"{error}; {LIGHTGBM_REMEDY}") from None


def _encode_schema(schema: Schema, model: FinalModel) -> pb.InputSchema:
    message = pb.InputSchema(features=map(_encode_feature, schema.features))
    with_means = schema.of_kind(Kind.MEANS)
    if with_means:
        # The members of an ensemble have learned the same means from the same rows.
        encoder = find_encoder(find_members(model.pipeline)[0][0])
        by_name = {feature.name: feature for feature in message.features}
        for number, feature in enumerate(with_means):
            means = _encode_means(encoder, number, feature)
            by_name[feature.name].categorical.means.CopyFrom(means)
    return message


def _encode_means(
    encoder: TargetEncoder, number: int, feature: Feature
) -> pb.TargetMeans:
    """Return what scikit-learn's encoder gives for each category of its column `number`."""
    known = encoder.categories_[number]
    n_outputs = len(encoder.encodings_) // len(encoder.categories_)
    encodings = encoder.encodings_[number * n_outputs : (number + 1) * n_outputs]
    is_gap, message = np.isnan(known), pb.TargetMeans()
    for encoding, mean in zip(encodings, np.atleast_1d(encoder.target_mean_)):
        # A category that no row has gets the mean of all rows, and so does a gap.
        values = np.full(len(feature.categories), mean)
        values[known[~is_gap].astype(np.int64)] = encoding[~is_gap]
        message.values.extend(values)
        message.missing.append(encoding[is_gap][0] if is_gap.any() else mean)
    return message


def _encode_feature(feature: Feature) -> pb.Feature:
    message = pb.Feature(
        name=feature.name,
        nullable=feature.nullable,
        redaction=_REDACTIONS[feature.redaction],
    )
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
        case Kind.MEANS | Kind.CATEGORICAL:
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
        display_name=find_display_name(family),
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
