"""Between what a caller has and what travels: instances to requests, responses to values.

Refuses only what a request cannot carry; what the model takes is the server's to say.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from math import isnan, nan
from numbers import Real
from typing import Protocol, SupportsFloat, TypeAlias

import grpc
from google.protobuf.struct_pb2 import NULL_VALUE, Struct
from google.protobuf.timestamp_pb2 import Timestamp

from prediction._errors import FieldViolation, InvalidInstanceError
from prediction._models import Feature, Model, Prediction
from prediction.v1 import prediction_service_pb2 as pb

_MAX_SHOWN_CHARACTERS = 80
_KINDS: Mapping[int, str] = {pb.FEATURE_KIND_NUMERIC: "numeric"}


class Array(Protocol):
    """What is used of a NumPy array or a pandas Series, without importing either."""

    @property
    def ndim(self) -> int:
        """Return the number of axes."""

    def tolist(self) -> object:
        """Return the values as a list of Python's own types."""


Instance: TypeAlias = (
    Sequence[SupportsFloat | None] | Mapping[str, SupportsFloat | None] | Array
)


def to_request(instance: Instance) -> pb.PredictRequest:
    """Return the request for one instance; see `PredictionClient.predict`."""
    content = _content(instance)
    if isinstance(content, Mapping):
        return pb.PredictRequest(record=_record(content))
    return pb.PredictRequest(features=_features(content))


def to_prediction(response: pb.PredictResponse) -> Prediction:
    """Return the value of a response."""
    return Prediction(
        model=response.model,
        prediction=response.prediction,
        label=response.label,
        probabilities=tuple(response.probabilities),
        model_version=response.model_version,
    )


def to_model(response: pb.GetModelResponse) -> Model:
    """Return the value of a response."""
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
    )


def _feature(feature: pb.Feature) -> Feature:
    kind = _KINDS.get(feature.kind, "unspecified")
    return Feature(name=feature.name, kind=kind, nullable=feature.nullable)


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)


def _content(instance: object) -> Mapping[object, object] | Sequence[object]:
    """Return the mapping or the sequence that an instance is, or that its array holds."""
    ndim = getattr(instance, "ndim", 1)
    if ndim != 1:
        shape = getattr(instance, "shape", f"of {ndim} axes")
        raise _invalid(
            f"predict takes one instance, such as an array of shape (n_features,), not one of "
            f"shape {shape}: call it for each row"
        )
    # A pandas Series is a row with names; by position, columns in another order would go unseen.
    for method in ("to_dict", "tolist"):
        if hasattr(instance, method):
            instance = getattr(instance, method)()
    if isinstance(instance, Mapping):
        return instance
    if isinstance(instance, Sequence) and not isinstance(instance, (str, bytes)):
        return instance
    raise TypeError(
        f"predict takes a sequence of numbers, a mapping of names to numbers or a NumPy row, "
        f"not {_show(instance)}"
    )


def _features(values: Sequence[object]) -> list[float]:
    features: list[float] = []
    violations: list[FieldViolation] = []
    for position, value in enumerate(values):
        try:
            features.append(_number(value))
        except ValueError as error:
            violations.append(FieldViolation(f"features[{position}]", str(error)))
    _raise_for(violations)
    return features


def _record(members: Mapping[object, object]) -> Struct:
    record = Struct()
    violations: list[FieldViolation] = []
    for name, value in members.items():
        try:
            _set_member(record, _name(name), _number(value))
        except ValueError as error:
            violations.append(FieldViolation(_path(name), str(error)))
    _raise_for(violations)
    return record


def _set_member(record: Struct, name: str, number: float) -> None:
    # A Struct is JSON, which has no NaN.
    if isnan(number):
        record.fields[name].null_value = NULL_VALUE
    else:
        record.fields[name].number_value = number


def _number(value: object) -> float:
    """Return a number in double precision, NaN for None."""
    # By far the most frequent type, and NumPy's float64; the others take several times longer.
    if isinstance(value, float):
        return value
    if value is None:
        return nan
    if isinstance(value, bool) or not isinstance(value, (Real, Decimal)):
        raise ValueError(f"{_show(value)} is not allowed; a number or None is")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{_shorten(repr(value))} is too large for a double") from None


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{_show(name)} is not a name; text is needed")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("the name cannot be encoded in UTF-8") from None
    return name


def _path(name: object) -> str:
    shown = f'"{name}"' if isinstance(name, str) and name.isprintable() else repr(name)
    return f"record[{_shorten(shown)}]"


def _show(value: object) -> str:
    return f"{_shorten(repr(value))} ({type(value).__name__})"


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= _MAX_SHOWN_CHARACTERS:
        return line
    return line[: _MAX_SHOWN_CHARACTERS - 1] + "…"


def _raise_for(violations: Sequence[FieldViolation]) -> None:
    if violations:
        more = len(violations) - 1
        suffix = f" (and {more} more)" if more else ""
        raise _invalid(f"{violations[0]}{suffix}", violations)


def _invalid(
    message: str, violations: Sequence[FieldViolation] = ()
) -> InvalidInstanceError:
    return InvalidInstanceError(
        grpc.StatusCode.INVALID_ARGUMENT, message, tuple(violations)
    )
