"""Requests of the Open Inference Protocol, and the same rows for prediction.v1."""

import struct
from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
from hypothesis import strategies as st

from date_columns.forms import DateForm
from grpc_server.model.kinds import (
    Boolean,
    Date,
    IntegerCategories,
    TextCategories,
)
from grpc_server.model.schema import Feature, InputSchema
from grpc_server.oip import open_inference_grpc_pb2 as pb
from prediction.artifact.v1.model_artifact_pb2 import DATE_PART_DAYS, ModelArtifact
from prediction.v1 import prediction_service_pb2 as v1

from support import artifact_without_estimator

MIXED = InputSchema(
    (
        Feature("age", nullable=False),
        Feature("height", nullable=True),
        Feature("smoker", True, Boolean()),
        Feature("active", False, Boolean()),
        Feature("born", True, Date(DateForm("date", "%d/%m/%Y"), ("days",))),
        Feature("city", True, TextCategories({"Oslo": 0.0, "": 1.0}, False)),
        Feature("plan", False, TextCategories({"a": 0.0, "b": 1.0}, True)),
        Feature("ward", True, IntegerCategories({3: 0.0, 7: 1.0, -11: 2.0}, False)),
    )
)
_DTYPES = {
    "FP64": "<f8",
    "FP32": "<f4",
    "FP16": "<f2",
    "BOOL": "?",
    "INT64": "<i8",
    "INT32": "<i4",
    "INT16": "<i2",
    "INT8": "i1",
    "UINT64": "<u8",
    "UINT32": "<u4",
    "UINT16": "<u2",
    "UINT8": "u1",
}
_FIELDS = {
    "FP64": "fp64_contents",
    "FP32": "fp32_contents",
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "INT32": "int_contents",
    "INT16": "int_contents",
    "INT8": "int_contents",
    "UINT64": "uint64_contents",
    "UINT32": "uint_contents",
    "UINT16": "uint_contents",
    "UINT8": "uint_contents",
    "BYTES": "bytes_contents",
}
Cell = float | bool | str | int | None


def to_raw(datatype: str, values: Sequence[Any]) -> bytes:
    """Return values as the protocol's bytes."""
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.array(values).astype(_DTYPES[datatype]).tobytes()


def add_input(
    request: pb.ModelInferRequest,
    name: str,
    datatype: str,
    shape: Sequence[int],
    values: Sequence[Any],
    *,
    is_raw: bool = True,
) -> pb.ModelInferRequest.InferInputTensor:
    """Add an input to a request."""
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    if is_raw:
        request.raw_input_contents.append(to_raw(datatype, values))
    else:
        if datatype == "BYTES":
            values = [value.encode() for value in values]
        getattr(tensor.contents, _FIELDS[datatype]).extend(values)
    return tensor


def matrix_request(
    X: np.ndarray[Any, Any], *, is_raw: bool = True, name: str = "model"
) -> pb.ModelInferRequest:
    """Return a request of one tensor of doubles."""
    request = pb.ModelInferRequest(model_name=name)
    add_input(request, "x", "FP64", X.shape, X.ravel().tolist(), is_raw=is_raw)
    return request


def cells(name: str) -> st.SearchStrategy[Cell]:
    """Return the cells that a caller may send for a column of `MIXED`."""
    known: dict[str, st.SearchStrategy[Cell]] = {
        "age": st.floats(-1e6, 1e6, width=32),
        "height": st.none() | st.floats(-1e6, 1e6, width=32),
        "smoker": st.none() | st.booleans(),
        "active": st.booleans(),
        "born": st.none() | st.sampled_from(["01/02/2003", "31/12/1999"]),
        "city": st.none() | st.text(max_size=3) | st.sampled_from(["Oslo", ""]),
        "plan": st.sampled_from(["a", "b"]),
        "ward": st.none() | st.sampled_from([3, 7, -11, 100]),
    }
    return known[name]


_DATATYPES = {
    "age": ("FP64", "FP32"),
    "height": ("FP64", "FP32"),
    "smoker": ("BOOL", "FP64", "FP32"),
    "active": ("BOOL",),
    "born": ("BYTES",),
    "city": ("BYTES",),
    "plan": ("BYTES",),
    "ward": ("INT64", "INT32", "INT16", "INT8", "FP64"),
}


@st.composite
def mixed_requests(
    draw: st.DrawFn,
) -> tuple[pb.ModelInferRequest, v1.BatchPredictRequest]:
    """Return the same rows in both contracts, in any layout and encoding."""
    n_rows, is_raw = draw(st.integers(1, 4)), draw(st.booleans())
    request = pb.ModelInferRequest(model_name="model")
    batch = v1.BatchPredictRequest()
    for name in draw(st.permutations([feature.name for feature in MIXED.features])):
        values = draw(st.lists(cells(name), min_size=n_rows, max_size=n_rows))
        batch.columns.append(to_column(name, values))
        datatype = draw(st.sampled_from(_DATATYPES[name]))
        missing = [row for row, value in enumerate(values) if value is None]
        says_rows = not datatype.startswith("FP") or draw(st.booleans())
        filler: Any = {"BYTES": "", "FP64": nan, "FP32": nan}.get(datatype, 0)
        sent = [filler if value is None else value for value in values]
        shape = [n_rows] if draw(st.booleans()) else [n_rows, 1]
        tensor = add_input(request, name, datatype, shape, sent, is_raw=is_raw)
        if missing and says_rows:
            text = ",".join(map(str, missing))
            tensor.parameters["missing_rows"].string_param = text
    return request, batch


def to_column(name: str, values: Sequence[Cell]) -> v1.Column:
    """Return a column of prediction.v1."""
    column = v1.Column(name=name)
    column.missing_rows.extend(row for row, v in enumerate(values) if v is None)
    if name in ("born", "city", "plan"):
        column.strings.values.extend("" if v is None else str(v) for v in values)
    elif name in ("smoker", "active"):
        column.booleans.values.extend(bool(value) for value in values)
    else:
        column.doubles.values.extend(0.0 if v is None else float(v) for v in values)
    return column


def mixed_artifact() -> ModelArtifact:
    """Return a model of the columns of `MIXED`, worked out by hand."""
    artifact = artifact_without_estimator(0, 2)
    features = artifact.input_schema.features
    for feature in MIXED.features:
        added = features.add(name=feature.name, nullable=feature.nullable)
        match feature.kind:
            case Boolean():
                added.boolean.SetInParent()
            case Date():
                added.date.format = "%d/%m/%Y"
                added.date.parts.append(DATE_PART_DAYS)
            case TextCategories(codes=codes, refuse_unknown=refuses):
                added.categorical.strings.values.extend(codes)
                added.categorical.refuse_unknown = refuses
            case IntegerCategories(codes=numbers):
                added.categorical.integers.values.extend(numbers)
            case _:
                added.numeric.SetInParent()
    regression = artifact.logistic_regression
    regression.coefficients.extend([0.01, 0.5, -1.0, 0.25, 1e-5])
    regression.centers.extend([50.0, 1.7, 0.0, 0.0, 11_000.0])
    regression.imputed_values.extend([50.0, 1.7, 0.0, 0.0, 11_000.0])
    regression.intercepts.append(0.5)
    for weights in ([0.0, 0.4], [0.0, -0.3], [0.0, 0.2, 0.7]):
        regression.category_weights.add(values=weights)
    artifact.provenance.family = "logistic_regression"
    artifact.provenance.display_name = "Logistic Regression"
    # At the centre with the first categories, the log-odds are the intercept: 1 / (1 + exp(-0.5)).
    golden = artifact.golden_examples.add(
        probabilities=[0.3775406687981454, 0.6224593312018546], label="1"
    )
    golden.record.update(
        {
            "age": 50.0,
            "height": 1.7,
            "smoker": False,
            "active": False,
            "born": "13/02/2000",  # day 11,000
            "city": "Oslo",
            "plan": "a",
            "ward": 3,
        }
    )
    return artifact
