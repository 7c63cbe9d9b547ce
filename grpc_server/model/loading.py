"""Reads a model artifact, and checks that the model predicts what its trainer predicted."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf.message import DecodeError

from grpc_server.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    ArtifactUntried,
    ArtifactUnverified,
    GoldenMismatch,
    InvalidInstance,
)
from grpc_server.model.artifact_limits import MAX_ARTIFACT_BYTES, check_sizes
from grpc_server.model.calibration import CalibratedEstimator, read_maps
from grpc_server.model.columns import read_columns
from grpc_server.model.ensemble import describe_members, read_ensemble
from grpc_server.model.estimator import Estimator, ScoringEstimator
from grpc_server.model.files import find_folder, read_file
from grpc_server.model.kinds import list_first, list_names, quote
from grpc_server.model.lightgbm import LightgbmBooster
from grpc_server.model.lightgbm_text import parse_text
from grpc_server.model.loaded import Classes, LoadedModel
from grpc_server.model.logistic_regression import LogisticRegression
from grpc_server.model.reference import read_reference
from grpc_server.model.schema import InputSchema
from grpc_server.model.signature import check_age, check_origin, check_signature
from grpc_server.model.source import ModelSource, read_source
from grpc_server.model.steps import NoSteps, Steps
from grpc_server.model.tree_checks import check_ensemble
from grpc_server.model.trees import read_trees
from grpc_server.trust import Trust
from prediction.artifact import FILE_NAME
from prediction.artifact.v1 import model_artifact_pb2

# Largest allowed difference from the trainer's probabilities. Trees add the same leaves in the same
# order; the terms of a dot product may be added in another order.
_TOLERANCE_OF_TREES, _TOLERANCE_OF_LINEAR = 0.0, 1e-12
_TOLERANCE_OF_CALIBRATION = 1e-12
_MAX_ERROR_CHARACTERS = 200


def load_model(
    folder: Path, trust: Trust | None = None, steps: Steps | None = None
) -> LoadedModel:
    """Load the model in `folder`, and check its golden examples.

    Parameters
    ----------
    folder : Path
        Holds model.binpb and, if it comes from a registry, source.json; or a single folder that
        does. A link is followed once, so that all files are of the same version.
    trust : Trust or None
        Whose signatures to accept, which is checked before anything else; None accepts any model.
    steps : Steps or None
        Follows the check of the golden examples; None if nothing does.

    Returns
    -------
    LoadedModel
        The model.

    Raises
    ------
    ArtifactMissing
        If there is no model.binpb, or several folders have one.
    ArtifactCorrupt
        If the file is truncated, altered, or of a kind that this server cannot read.
    ArtifactUntried
        If memory runs out.
    ArtifactUnverified
        If no trusted key has signed the files, or they are too old.
    GoldenMismatch
        If a prediction differs from the trainer's.
    """
    folder = find_folder(_resolve(folder), FILE_NAME)
    path = folder / FILE_NAME
    follow = steps or NoSteps()
    try:
        content = read_file(path, MAX_ARTIFACT_BYTES)
        if trust is None:
            return _load(path, content, read_source(folder, content), follow)
        signed_name = _check_signature(folder, content, trust)
        source = read_source(folder, content)
        check_origin(source, signed_name)
        model = _load(path, content, source, follow)
        check_age(path, model.provenance.create_time.ToDatetime(UTC), trust)
        return model
    except MemoryError:
        raise ArtifactUntried(f"{path}: not enough memory to load it") from None
    except (
        ArithmeticError,
        LookupError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        # The checks foresee common faults. A crafted file may raise other errors.
        raise ArtifactCorrupt(f"{path}: cannot be read: {_name(error)}") from None


def _check_signature(folder: Path, content: bytes, trust: Trust) -> str:
    try:
        return check_signature(folder, content, trust)
    except ArtifactUnverified as error:
        raise ArtifactUnverified(f"{folder}: {error}") from None


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:_MAX_ERROR_CHARACTERS]}"


def _resolve(folder: Path) -> Path:
    try:
        return folder.resolve()
    except (OSError, RuntimeError) as error:  # such as a loop of links
        raise ArtifactMissing(f"no model at {folder}: {error}") from None


def _load(path: Path, content: bytes, source: ModelSource, steps: Steps) -> LoadedModel:
    try:
        artifact = _parse(content)
        model = _make_model(artifact, source)
        with steps.step("golden examples"):
            _check_golden_examples(artifact, model)
        return model
    except ArtifactError as error:
        raise type(error)(f"{path}: {error}") from None


def _make_model(
    artifact: model_artifact_pb2.ModelArtifact, source: ModelSource
) -> LoadedModel:
    check_sizes(artifact)
    _check_provenance(artifact.provenance)
    schema = InputSchema.from_message(artifact.input_schema)
    classes = _read_classes(artifact)
    _check_means(schema, len(classes.labels))
    return LoadedModel(
        input_schema=schema,
        classes=classes,
        estimator=read_columns(
            _read_estimator(artifact, schema, len(classes.labels)), schema
        ),
        provenance=artifact.provenance,
        source=source,
        load_time=datetime.now(UTC),
        calibration=_read_calibration(artifact),
        members=describe_members(artifact.ensemble),
        reference=read_reference(artifact, schema, len(classes.labels)),
    )


def _check_means(schema: InputSchema, n_classes: int) -> None:
    needed = 1 if n_classes == 2 else n_classes
    for feature in schema.features:
        if feature.means and len(feature.means) != needed:
            raise ArtifactCorrupt(
                f"feature {quote(feature.name)} has {len(feature.means)} target means for a "
                f"category; {n_classes} classes need {needed}"
            )


def _check_provenance(provenance: model_artifact_pb2.Provenance) -> None:
    try:
        provenance.create_time.ToDatetime()
    except (OverflowError, ValueError) as error:
        # Such a time has no JSON form, so the REST endpoint could not describe the model.
        raise ArtifactCorrupt(f"provenance.create_time: {error}") from None


def _parse(content: bytes) -> model_artifact_pb2.ModelArtifact:
    try:
        return model_artifact_pb2.ModelArtifact.FromString(content)
    except DecodeError:
        raise ArtifactCorrupt(
            "it is not a ModelArtifact; it was altered or only partly written"
        ) from None


def _read_classes(artifact: model_artifact_pb2.ModelArtifact) -> Classes:
    integers = tuple(artifact.class_labels.integers.values)
    labels = tuple(map(str, integers)) or tuple(artifact.class_labels.strings.values)
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise ArtifactCorrupt(
            "class_labels must have two or more different labels; it has "
            f"{len(labels)}: {list_names(labels)}"
        )
    has_threshold = artifact.HasField("threshold")
    if has_threshold != (len(labels) == 2):
        raise ArtifactCorrupt("threshold must be set for two classes, and only then")
    # Written so that NaN fails.
    if not 0 <= artifact.threshold <= 1:
        raise ArtifactCorrupt(f"threshold is {artifact.threshold}; [0, 1] is allowed")
    return Classes(
        labels=labels,
        predictions=integers or tuple(range(len(labels))),
        threshold=artifact.threshold if has_threshold else None,
    )


def _read_estimator(
    artifact: model_artifact_pb2.ModelArtifact, schema: InputSchema, n_classes: int
) -> Estimator:
    estimator = _read_scoring_estimator(artifact, schema, n_classes)
    if not artifact.HasField("calibration"):
        return estimator
    return CalibratedEstimator(estimator, read_maps(artifact.calibration, n_classes))


def _read_scoring_estimator(
    artifact: model_artifact_pb2.ModelArtifact, schema: InputSchema, n_classes: int
) -> ScoringEstimator:
    n_features = schema.n_numbers
    match artifact.WhichOneof("estimator"):
        case "logistic_regression":
            return LogisticRegression.from_message(
                artifact.logistic_regression, schema, n_classes
            )
        case "boosted_trees":
            trees = read_trees(artifact.boosted_trees)
            return LightgbmBooster(check_ensemble(trees, n_features, n_classes))
        case "lightgbm":
            n_outputs = 1 if n_classes == 2 else n_classes
            text = artifact.lightgbm.model_text
            trees = parse_text(text, n_features, n_outputs)
            return LightgbmBooster(check_ensemble(trees, n_features, n_classes))
        case "ensemble":
            return read_ensemble(artifact.ensemble, schema, n_classes)
        case _:
            raise ArtifactCorrupt(
                "its estimator is missing or unknown; a newer server may know it"
            )


def _read_calibration(artifact: model_artifact_pb2.ModelArtifact) -> str | None:
    if not artifact.HasField("calibration"):
        return None
    return artifact.calibration.maps[0].WhichOneof("kind")


def _tolerance(artifact: model_artifact_pb2.ModelArtifact, n_classes: int) -> float:
    """Return the largest allowed difference from the trainer's probabilities."""
    is_linear = _has_linear_model(artifact)
    if not artifact.HasField("calibration"):
        return _TOLERANCE_OF_LINEAR if is_linear else _TOLERANCE_OF_TREES
    if not is_linear:
        return _TOLERANCE_OF_CALIBRATION
    # A steep piece of an isotonic map magnifies the rounding of the dot product.
    maps = read_maps(artifact.calibration, n_classes)
    return _TOLERANCE_OF_CALIBRATION * max(1.0, *(m.steepest for m in maps))


def _has_linear_model(artifact: model_artifact_pb2.ModelArtifact) -> bool:
    """Tell whether the estimator, or a member of it, is a logistic regression."""
    return artifact.HasField("logistic_regression") or any(
        member.HasField("logistic_regression") for member in artifact.ensemble.members
    )


def _check_golden_examples(
    artifact: model_artifact_pb2.ModelArtifact, model: LoadedModel
) -> None:
    """Compare the golden examples with the trainer's results; this also warms the estimator up."""
    tolerance = _tolerance(artifact, len(model.classes.labels))
    if not artifact.golden_examples:
        raise ArtifactCorrupt(
            "it has no golden examples, so its predictions cannot be checked"
        )
    for number, example in enumerate(artifact.golden_examples):
        try:
            _check_golden_example(example, model, tolerance)
        except InvalidInstance as error:
            raise ArtifactCorrupt(f"golden example {number}: {error}") from None
        except GoldenMismatch as error:
            raise GoldenMismatch(f"golden example {number} {error}") from None


def read_example(
    example: model_artifact_pb2.GoldenExample, schema: InputSchema
) -> Sequence[float]:
    """Return the row of a golden example; InvalidInstance if it does not fit the schema."""
    if example.HasField("record"):
        return schema.row_from_record(example.record.fields)
    return schema.row_from_features(example.features)


def _check_golden_example(
    example: model_artifact_pb2.GoldenExample, model: LoadedModel, tolerance: float
) -> None:
    row = read_example(example, model.input_schema)
    probabilities = model.estimator.predict_probabilities(row)
    expected = example.probabilities
    agrees = len(probabilities) == len(expected) and all(
        abs(p - e) <= tolerance for p, e in zip(probabilities, expected, strict=True)
    )
    if not agrees:
        raise GoldenMismatch(
            f"gives [{list_first(map(repr, probabilities))}]; its trainer got "
            f"[{list_first(map(repr, expected))}]; the allowed difference is {tolerance}"
        )
    label = model.classes.labels[model.classes.decide(probabilities)]
    if label != example.label:
        raise GoldenMismatch(
            f"predicts {quote(label)}; its trainer got {quote(example.label)}"
        )
