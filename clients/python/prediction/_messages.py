"""Converts instances to requests, and responses to values.

Refuses only what a request cannot hold. The server decides what the model takes.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from math import isnan, nan
from numbers import Real
from typing import Protocol, SupportsFloat, TypeAlias

from google.protobuf.struct_pb2 import NULL_VALUE, Struct
from google.protobuf.timestamp_pb2 import Timestamp

from prediction._errors import FieldViolation
from prediction._models import (
    Calibration,
    Canary,
    CanaryState,
    Contribution,
    EnsembleMember,
    Explanation,
    Feature,
    FeatureKind,
    Model,
    Prediction,
    Shadow,
)
from prediction._scalars import is_missing, is_unicode, to_plain
from prediction._violations import invalid, raise_for, shorten, show, show_name
from prediction.v1 import prediction_service_pb2 as pb

_MAX_TOP_K = 2**32 - 1
_KINDS: Mapping[int, FeatureKind] = {
    pb.FEATURE_KIND_NUMERIC: FeatureKind.NUMERIC,
    pb.FEATURE_KIND_BOOLEAN: FeatureKind.BOOLEAN,
    pb.FEATURE_KIND_CATEGORICAL_TEXT: FeatureKind.CATEGORICAL_TEXT,
    pb.FEATURE_KIND_CATEGORICAL_INTEGER: FeatureKind.CATEGORICAL_INTEGER,
    pb.FEATURE_KIND_DATE: FeatureKind.DATE,
    pb.FEATURE_KIND_TIME: FeatureKind.TIME,
}
_CALIBRATIONS: Mapping[int, Calibration] = {
    pb.CALIBRATION_NONE: Calibration.NONE,
    pb.CALIBRATION_SIGMOID: Calibration.SIGMOID,
    pb.CALIBRATION_ISOTONIC: Calibration.ISOTONIC,
}
_CANARY_STATES: Mapping[int, CanaryState] = {
    pb.CANARY_STATE_WAITING: CanaryState.WAITING,
    pb.CANARY_STATE_SERVING: CanaryState.SERVING,
    pb.CANARY_STATE_SAME: CanaryState.SAME,
    pb.CANARY_STATE_INCOMPATIBLE: CanaryState.INCOMPATIBLE,
    pb.CANARY_STATE_ABORTED: CanaryState.ABORTED,
}


class Array(Protocol):
    """The part of a NumPy array or a pandas Series that this module uses."""

    @property
    def ndim(self) -> int:
        """Return the number of axes."""

    def tolist(self) -> object:
        """Return the values as a list of Python values."""


Value: TypeAlias = SupportsFloat | bool | str | date | time | None
Instance: TypeAlias = Sequence[SupportsFloat | None] | Mapping[str, Value] | Array


def to_request(instance: Instance, explain_top_k: int = 0) -> pb.PredictRequest:
    """Return the request for one instance.

    Parameters
    ----------
    instance, explain_top_k
        As in `PredictionClient.predict`.

    Returns
    -------
    PredictRequest
        With `features` or `record`.

    Raises
    ------
    InvalidInstanceError
        If a value cannot be sent.
    TypeError
        If `instance` is of a type that cannot be an instance.
    ValueError
        If `explain_top_k` is out of its range.
    """
    if not 0 <= explain_top_k <= _MAX_TOP_K:
        raise ValueError(
            f"explain_top_k is {explain_top_k}; it must be from 0 to {_MAX_TOP_K}"
        )
    content = _content(instance)
    if isinstance(content, Mapping):
        return pb.PredictRequest(record=_record(content), explain_top_k=explain_top_k)
    return pb.PredictRequest(features=_features(content), explain_top_k=explain_top_k)


def to_prediction(response: pb.PredictResponse) -> Prediction:
    """Convert a response."""
    return Prediction(
        model=response.model,
        prediction=response.prediction,
        label=response.label,
        probabilities=tuple(response.probabilities),
        model_version=response.model_version,
        explanation=(
            _explanation(response.explanation)
            if response.HasField("explanation")
            else None
        ),
    )


def to_model(response: pb.GetModelResponse) -> Model:
    """Convert a response."""
    return Model(
        model=response.model,
        registered_model=response.registered_model,
        model_version=response.model_version,
        run_id=response.run_id,
        features=tuple(_feature(feature) for feature in response.features),
        classes=tuple(response.classes),
        threshold=response.threshold if response.HasField("threshold") else None,
        metrics=dict(response.metrics),
        create_time=(
            _time(response.create_time) if response.HasField("create_time") else None
        ),
        load_time=_time(response.load_time) if response.HasField("load_time") else None,
        calibration=_CALIBRATIONS.get(response.calibration, Calibration.UNSPECIFIED),
        members=tuple(
            EnsembleMember(model=member.model, weight=member.weight)
            for member in response.members
        ),
        wanted_version=(
            response.wanted_version if response.HasField("wanted_version") else None
        ),
        refusal=response.refusal if response.HasField("refusal") else None,
        registry_contact_time=(
            _time(response.registry_contact_time)
            if response.HasField("registry_contact_time")
            else None
        ),
        canary=_canary(response.canary) if response.HasField("canary") else None,
        shadow=_shadow(response.shadow) if response.HasField("shadow") else None,
        takes_packed_rows=response.takes_packed_rows,
    )


def _shadow(shadow: pb.Shadow) -> Shadow:
    return Shadow(
        model_version=shadow.model_version,
        share=shadow.share,
        refusal=shadow.refusal,
        rows=shadow.rows,
        same_rows=shadow.same_rows,
    )


def _canary(canary: pb.Canary) -> Canary:
    return Canary(
        model_version=canary.model_version,
        share=canary.share,
        state=_CANARY_STATES.get(canary.state, CanaryState.UNSPECIFIED),
        reason=canary.reason,
        calls=canary.calls,
        rows=canary.rows,
    )


def _explanation(explanation: pb.Explanation) -> Explanation:
    return Explanation(
        label=explanation.label,
        score=explanation.score,
        base=explanation.base,
        contributions=tuple(
            Contribution(feature=contribution.feature, value=contribution.value)
            for contribution in explanation.contributions
        ),
    )


def _feature(feature: pb.Feature) -> Feature:
    kind = _KINDS.get(feature.kind, FeatureKind.UNSPECIFIED)
    categories: tuple[str, ...] | tuple[int, ...] = tuple(feature.categories)
    if kind is FeatureKind.CATEGORICAL_INTEGER:
        categories = tuple(map(int, feature.categories))
    return Feature(
        name=feature.name,
        kind=kind,
        nullable=feature.nullable,
        categories=categories,
        refuse_unknown=feature.refuse_unknown,
        format=feature.format,
    )


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)


def _content(instance: object) -> Mapping[object, object] | Sequence[object]:
    """Return the instance as a mapping or a sequence."""
    ndim = getattr(instance, "ndim", 1)
    if ndim != 1:
        shape = getattr(instance, "shape", f"of {ndim} axes")
        raise invalid(
            "predict takes one instance, such as an array of shape (n_features,), not an array of "
            f"shape {shape}: call it for each row"
        )
    # A pandas Series is a row with names. By position, a wrong order of columns would go unnoticed.
    for method in ("to_dict", "tolist"):
        if hasattr(instance, method):
            instance = getattr(instance, method)()
    if isinstance(instance, Mapping):
        return instance
    if isinstance(instance, Sequence) and not isinstance(instance, (str, bytes)):
        return instance
    raise TypeError(
        "predict takes a sequence of numbers, a mapping of names to values or a NumPy row, "
        f"not {show(instance)}"
    )


def _features(values: Sequence[object]) -> list[float]:
    features: list[float] = []
    violations: list[FieldViolation] = []
    for position, value in enumerate(values):
        try:
            features.append(_number(value))
        except ValueError as error:
            violations.append(FieldViolation(f"features[{position}]", str(error)))
    raise_for(violations)
    return features


def _record(members: Mapping[object, object]) -> Struct:
    record = Struct()
    violations: list[FieldViolation] = []
    for name, value in members.items():
        try:
            _set_member(record, _name(name), value)
        except ValueError as error:
            violations.append(FieldViolation(_path(name), str(error)))
    raise_for(violations)
    return record


def _set_member(record: Struct, name: str, value: object) -> None:
    plain = to_plain(value)
    if isinstance(plain, bool):
        record.fields[name].bool_value = plain
    elif isinstance(plain, str):
        record.fields[name].string_value = _text(plain, "the text")
    elif is_missing(plain):
        record.fields[name].null_value = NULL_VALUE
    elif isinstance(plain, (date, time)):
        record.fields[name].string_value = plain.isoformat()
    else:
        _set_number(
            record, name, _number(plain, "a number, a bool, a text, a date or None")
        )


def _set_number(record: Struct, name: str, number: float) -> None:
    # A Struct is JSON, which has no NaN.
    if isnan(number):
        record.fields[name].null_value = NULL_VALUE
    else:
        record.fields[name].number_value = number


def _number(value: object, allowed: str = "a number or None") -> float:
    """Convert a number to double precision, and None to NaN."""
    # The most frequent type, as is NumPy's float64. The other types take several times longer.
    if isinstance(value, float):
        return value
    if value is None:
        return nan
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        raise ValueError(f"{show(value)} is not allowed; {allowed} is")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{shorten(repr(value))} is too large for a double") from None


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{show(name)} is not a name; give a text")
    return _text(name, "the name")


def _text(text: str, what: str) -> str:
    if not is_unicode(text):
        raise ValueError(f"{what} cannot be encoded in UTF-8")
    return text


def _path(name: object) -> str:
    return f"record[{show_name(name)}]"
