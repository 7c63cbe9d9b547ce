"""Describes the model as the protocol does, and as Triton does: ModelMetadata and ModelConfig."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from grpc_server.model import LoadedModel
from grpc_server.model.kinds import IntegerCategories, TextCategories
from grpc_server.oip import model_config_pb2, open_inference_grpc_pb2
from grpc_server.oip.refusals import datatypes
from grpc_server.oip.replies import DATATYPES
from grpc_server.oip.requests import LABEL, OUTPUTS, PREDICTION, PROBABILITIES
from grpc_server.oip.rows import is_numeric

MATRIX = "input"
# Names of families as clients of this protocol know them; others are their own.
_PLATFORMS = {"logistic_regression": "sklearn_logistic_regression"}
_MAX_CATEGORY_BYTES = 8 * 1024
_NO_MORE = "…"


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One input or output.

    Parameters
    ----------
    name, datatype : str
        Its name, and the protocol's name of its type.
    dims : tuple of int
        Dimensions of one row.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]


def list_inputs(model: LoadedModel) -> list[TensorFacts]:
    """Return the inputs: one for all features if they are numeric, otherwise one for each."""
    schema = model.input_schema
    if is_numeric(schema):
        return [TensorFacts(MATRIX, "FP64", (len(schema.features),))]
    return [
        TensorFacts(feature.name, datatypes(feature.kind, feature.nullable)[0], (1,))
        for feature in schema.features
    ]


def list_outputs(model: LoadedModel) -> list[TensorFacts]:
    """Return the outputs that need no parameter."""
    dims = {LABEL: (), PREDICTION: (), PROBABILITIES: (len(model.classes.labels),)}
    return [TensorFacts(name, DATATYPES[name], dims[name]) for name in OUTPUTS]


def list_properties(model: LoadedModel) -> dict[str, str]:
    """Return what else callers may want to know, as text or JSON."""
    classes = model.classes
    properties = {
        "classes": _to_json(classes.labels, _MAX_CATEGORY_BYTES),
        "calibration": model.calibration or "none",
        "run_id": model.source.run_id,
    }
    if classes.threshold is not None:
        properties["threshold"] = repr(classes.threshold)
    left = _MAX_CATEGORY_BYTES
    for name, labels in _list_categories(model):
        text = properties[f"categories.{name}"] = _to_json(labels, left)
        left = max(0, left - len(text.encode()))
    return properties


def describe(
    model: LoadedModel, name: str
) -> open_inference_grpc_pb2.ModelMetadataResponse:
    """Return the reply to ModelMetadata."""
    reply = open_inference_grpc_pb2.ModelMetadataResponse(
        name=name,
        versions=[model.source.version],
        platform=find_platform(model),
        properties=list_properties(model),
    )
    for tensor in list_inputs(model):
        reply.inputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=[-1, *tensor.dims]
        )
    for tensor in list_outputs(model):
        reply.outputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=[-1, *tensor.dims]
        )
    return reply


def configure(
    model: LoadedModel, name: str, max_rows: int
) -> model_config_pb2.ModelConfigResponse:
    """Return the reply to ModelConfig, whose dimensions leave the batch out."""
    reply = model_config_pb2.ModelConfigResponse()
    config = reply.config
    config.name, config.platform = name, find_platform(model)
    config.max_batch_size = max_rows
    for tensor in list_inputs(model):
        config.input.add(
            name=tensor.name,
            data_type=_find_type(tensor.datatype),
            dims=tensor.dims,
        )
    for tensor in list_outputs(model):
        config.output.add(
            name=tensor.name,
            data_type=_find_type(tensor.datatype),
            # Triton knows no output without dimensions.
            dims=tensor.dims or (1,),
        )
    return reply


def find_platform(model: LoadedModel) -> str:
    """Return the kind of the model, such as "lightgbm"."""
    family = model.provenance.family
    return _PLATFORMS.get(family, family)


def _find_type(datatype: str) -> "model_config_pb2.DataType.ValueType":
    name = "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
    return model_config_pb2.DataType.Value(name)


def _list_categories(model: LoadedModel) -> Iterator[tuple[str, Sequence[object]]]:
    for feature in model.input_schema.features:
        if isinstance(feature.kind, TextCategories | IntegerCategories):
            codes: Mapping[object, float] = feature.kind.codes  # type: ignore[assignment]
            yield feature.name, tuple(codes)


def _to_json(values: Sequence[object], max_bytes: int) -> str:
    """Return a JSON list; if it is too long, of the first values and of "…"."""
    written: list[str] = []
    size = len(_NO_MORE.encode()) + 6
    for value in values:
        text = json.dumps(value, ensure_ascii=False)
        size += len(text.encode()) + 2
        if size > max_bytes:
            written.append(json.dumps(_NO_MORE, ensure_ascii=False))
            break
        written.append(text)
    return f"[{', '.join(written)}]"
