"""Converts a model's properties to messages of prediction.v1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from grpc_server.model import LoadedModel
from grpc_server.model.kinds import (
    Boolean,
    Date,
    IntegerCategories,
    Numeric,
    TextCategories,
    TimeOfDay,
)
from grpc_server.model.schema import Feature
from grpc_server.model.shadow_status import ShadowStatus
from grpc_server.model.standing import Standing
from prediction.v1 import prediction_service_pb2 as pb

KIND_ON_WIRE: Mapping[type, "pb.FeatureKind.ValueType"] = {
    Numeric: pb.FEATURE_KIND_NUMERIC,
    Boolean: pb.FEATURE_KIND_BOOLEAN,
    TextCategories: pb.FEATURE_KIND_CATEGORICAL_TEXT,
    IntegerCategories: pb.FEATURE_KIND_CATEGORICAL_INTEGER,
    Date: pb.FEATURE_KIND_DATE,
    TimeOfDay: pb.FEATURE_KIND_TIME,
}
_MAX_UINT32 = 2**32 - 1
_CALIBRATIONS: Mapping[str | None, "pb.Calibration.ValueType"] = {
    None: pb.CALIBRATION_NONE,
    "sigmoid": pb.CALIBRATION_SIGMOID,
    "isotonic": pb.CALIBRATION_ISOTONIC,
}


@dataclass(frozen=True, slots=True)
class Replies:
    """The replies of one model to Predict, without probabilities.

    Copying a message takes half the time of building one.

    Parameters
    ----------
    model : LoadedModel or None
        The model.
    by_position : tuple of PredictResponse
        One reply per class, in the order of the probabilities.
    """

    model: LoadedModel | None = None
    by_position: tuple[pb.PredictResponse, ...] = ()

    @classmethod
    def of(cls, model: LoadedModel) -> Self:
        """Build the replies of `model`."""
        classes = model.classes
        return cls(
            model,
            tuple(
                pb.PredictResponse(
                    model=model.display_name,
                    prediction=prediction,
                    label=label,
                    model_version=model.source.version,
                )
                for prediction, label in zip(
                    classes.predictions, classes.labels, strict=True
                )
            ),
        )


def describe_model(model: LoadedModel, standing: Standing) -> pb.GetModelResponse:
    """Return the reply to GetModel."""
    response = pb.GetModelResponse(
        model=model.display_name,
        registered_model=model.source.registered_model,
        model_version=model.source.version,
        run_id=model.source.run_id,
        features=map(_describe_feature, model.input_schema.features),
        classes=model.classes.labels,
        threshold=model.classes.threshold,
        calibration=_CALIBRATIONS[model.calibration],
        metrics=model.provenance.metrics,
        create_time=model.provenance.create_time,
        members=[
            pb.EnsembleMember(model=member.display_name, weight=member.weight)
            for member in model.members
        ],
        wanted_version=standing.wanted_version or None,
        refusal=standing.refusal or None,
        takes_packed_rows=True,
    )
    response.load_time.FromDatetime(model.load_time)
    if standing.contact_time is not None:
        response.registry_contact_time.FromSeconds(int(standing.contact_time))
    return response


def describe_shadow(status: ShadowStatus) -> pb.Shadow:
    """Return the shadow's part of the reply to GetModel."""
    return pb.Shadow(
        model_version=status.version,
        share=status.share,
        refusal=status.refusal,
        rows=min(status.n_rows, _MAX_UINT32),
        same_rows=min(status.n_same, _MAX_UINT32),
    )


def _describe_feature(feature: Feature) -> pb.Feature:
    kind = feature.kind
    description = pb.Feature(
        name=feature.name, nullable=feature.nullable, kind=KIND_ON_WIRE[type(kind)]
    )
    if isinstance(kind, TextCategories | IntegerCategories):
        description.categories.extend(kind.labels)
        description.refuse_unknown = kind.refuse_unknown
    if isinstance(kind, Date | TimeOfDay):
        description.format = kind.form.format
    return description
