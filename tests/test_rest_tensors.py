"""REST v2: what JSON may say, and the rows that the protocol's service reads in it."""

import json
import threading
import time
from contextlib import suppress
from math import nan
from typing import Any

import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from date_columns.forms import DateForm
from grpc_server.errors import CallError
from grpc_server.model import LoadedModel, load_model
from grpc_server.model.kinds import Boolean, Date, IntegerCategories, TextCategories
from grpc_server.model.schema import Feature, InputSchema
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.facts import describe
from grpc_server.oip.refusals import datatypes
from grpc_server.oip.requests import OUTPUTS, read_question
from grpc_server.oip.rows import read_rows
from grpc_server.oip.tensors import write_texts
from grpc_server.rest.answers import write_answer, write_metadata
from grpc_server.rest.binary import BinaryData, split_body
from grpc_server.rest.infer_request import InferRequest, read_request
from grpc_server.rest.json_text import read_json
from grpc_server.rest.places import Place
from grpc_server.rest.refusals import Refusal
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.data.schema import Schema

from mixed_support import make_mixed_rows, records
from oip_support import to_raw
from support import write_artifact
from training_support import train_family

NUMBERS = InputSchema((Feature("a", True), Feature("b", True)))
MIXED = InputSchema(
    (
        Feature("age", True),
        Feature("smoker", True, Boolean()),
        Feature("active", False, Boolean()),
        Feature("city", True, TextCategories({"Oslo": 0.0, "Köln": 1.0}, False)),
        Feature("ward", True, IntegerCategories({3: 0.0, 7: 1.0}, True)),
        Feature("born", False, Date(DateForm("date", "%d/%m/%Y"), ("days",))),
    )
)
POSITIONS = {feature.name: n for n, feature in enumerate(MIXED.features)}
PLACE = Place("wine", "", "infer")
GOOD = {
    "age": ("FP64", [41.5, None]),
    "smoker": ("BOOL", [None, True]),
    "active": ("BOOL", [True, False]),
    "city": ("BYTES", ["Köln", None]),
    "ward": ("INT64", [7, 3]),
    "born": ("BYTES", ["24/12/1961", "01/02/1999"]),
}
VALUES = 10_000


def tensor(
    name: str, datatype: str, data: Any, shape: Any = None, **more: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": [len(data)] if shape is None else shape,
        "data": data,
        **more,
    }


def mixed(**changes: tuple[str, Any]) -> list[dict[str, Any]]:
    """Return the inputs of two good rows but for some of them."""
    return [tensor(name, *typed) for name, typed in {**GOOD, **changes}.items()]


def to_request(
    members: Any, data: bytes = b"", schema: InputSchema = NUMBERS
) -> InferRequest:
    return read_request(members, PLACE, schema, BinaryData(data))


def read(
    body: Any, schema: InputSchema = NUMBERS, data: bytes = b""
) -> "np.ndarray[Any, Any]":
    """Return the rows that a body means; a value that is not bytes is written as JSON."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = to_request(read_json(text, VALUES), data, schema)
    question = read_question(request.message)
    assert question.is_raw
    extra = question.ignores_extra
    return read_rows(schema, question.tensors, 10_000, ignores_extra=extra).X


def refusal(body: Any, schema: InputSchema = NUMBERS, data: bytes = b"") -> str:
    with pytest.raises((Refusal, CallError)) as caught:
        read(body, schema, data)
    message = str(caught.value)
    assert len(message) < 500
    message.encode()
    return message


@pytest.mark.parametrize("name", ["input", "any name", "a"])
@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2, 2], [1, 2.5, 3, 4]),
        ([2, 2], [[1, 2.5], [3, 4]]),
    ],
)
def test_one_tensor_is_rows_of_an_all_numeric_model(
    name: str, shape: list[int], data: list[Any]
) -> None:
    rows = read({"inputs": [tensor(name, "FP64", data, shape)]})

    assert rows.tolist() == [[1.0, 2.5], [3.0, 4.0]]


def test_a_flat_tensor_is_one_row() -> None:
    assert read({"inputs": [tensor("x", "INT32", [5, 6])]}).tolist() == [[5.0, 6.0]]


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "FP16", "INT64", "UINT8"])
@pytest.mark.parametrize("shape", [[1, 2], [2]])
def test_null_is_a_gap_of_a_matrix(datatype: str, shape: list[int]) -> None:
    rows = read({"inputs": [tensor("x", datatype, [None, 6], shape)]})

    np.testing.assert_array_equal(rows, [[nan, 6.0]])


def test_an_integer_beside_a_gap_is_not_rounded() -> None:
    data = [None, 2**53 + 1]

    assert refusal({"inputs": [tensor("x", "INT64", data, [1, 2])]})


@pytest.mark.parametrize(("shape", "nest"), [([2], False), ([2, 1], True)])
def test_columns_are_taken_by_name_in_any_order(shape: list[int], nest: bool) -> None:
    inputs = [
        {**t, "shape": shape, "data": [[v] for v in t["data"]] if nest else t["data"]}
        for t in reversed(mixed())
    ]

    rows = read({"inputs": inputs}, MIXED)

    seconds = [-2930 * 86_400.0, 10_623 * 86_400.0]
    expected = [[41.5, nan, 1.0, 1.0, 1.0], [nan, 1.0, 0.0, nan, 0.0]]
    np.testing.assert_array_equal(rows[:, :5], expected)
    np.testing.assert_array_equal(rows[:, 5], seconds)


def column(name: str, **changes: tuple[str, Any]) -> list[float]:
    """Return one column of two rows that are good but for the changes."""
    rows = read({"inputs": mixed(**changes)}, MIXED)
    return list(rows[:, POSITIONS[name]])


def test_an_empty_text_and_a_zero_are_values() -> None:
    request = to_request({"inputs": mixed(city=("BYTES", ["", "0"]))}, schema=MIXED)

    assert not request.message.inputs[POSITIONS["city"]].parameters
    raw = request.message.raw_input_contents[POSITIONS["city"]]
    assert raw == to_raw("BYTES", ["", "0"])


@pytest.mark.parametrize("datatype", ["INT64", "INT8", "UINT16", "FP64"])
def test_null_is_a_gap_of_a_column_of_whole_numbers(datatype: str) -> None:
    found = column("ward", ward=(datatype, [None, 7]))

    np.testing.assert_array_equal(found, [nan, 1.0])


@pytest.mark.parametrize("stated", ["0", " 0", "0,1", "1,0", "1"])
def test_gaps_may_be_stated_as_grpc_needs_them(stated: str) -> None:
    inputs = mixed()
    inputs[3]["parameters"] = {"missing_rows": stated}

    found = read({"inputs": inputs}, MIXED)[:, 3]

    assert np.isnan(found).tolist() == ["0" in stated, True]


@pytest.mark.parametrize(
    ("datatype", "value", "expected"),
    [
        ("FP64", 0.1, 0.1),
        ("FP32", 0.1, float(np.float32(0.1))),
        ("FP16", 0.1, float(np.float16(0.1))),
        ("UINT8", 255, 255.0),
        ("INT64", 2**53, 2.0**53),
        ("INT8", -128, -128.0),
        ("INT16", 3.0, 3.0),
        ("FP64", 10**20, 1e20),
    ],
)
def test_numbers_have_the_precision_of_their_datatype(
    datatype: str, value: float, expected: float
) -> None:
    rows = read({"inputs": [tensor("x", datatype, [value, value], [1, 2])]})

    assert rows.tolist() == [[expected] * 2]


@pytest.mark.parametrize("datatype", ["FP64", "FP32", "FP16"])
def test_a_boolean_with_gaps_may_be_a_float(datatype: str) -> None:
    found = column("smoker", smoker=(datatype, [1.0, None]))

    np.testing.assert_array_equal(found, [1.0, nan])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"age": ("BYTES", ["a", "b"])}, ['inputs["age"]', '"BYTES"', "FP64"]),
        ({"age": ("FP64", [True, 1])}, ['inputs["age"].data[0]', "true", "a number"]),
        ({"age": ("FP64", ["1", 1])}, ['inputs["age"].data[0]', '"1"']),
        ({"age": ("FP64", [{}, 1])}, ["an object", "a number or null"]),
        ({"age": ("INT8", [1, 200])}, ['inputs["age"]', "200", "[-128, 127]"]),
        ({"age": ("INT8", [None, 200])}, ['inputs["age"]', "200", "[-128, 127]"]),
        (
            {"age": ("INT64", [1, 2**53 + 1])},
            ['inputs["age"][1]', "9007199254740993 is"],
        ),
        ({"age": ("UINT64", [1, 10**400])}, ["0000000", "… is no UINT64"]),
        ({"age": ("UINT64", [1, -1])}, ["-1 is no UINT64"]),
        ({"age": ("INT64", [2**63, -1])}, ["9223372036854775808 is no INT64"]),
        (
            {"age": ("UINT64", [2**64 - 1, 1])},
            ['inputs["age"][0]', "18446744073709551615"],
        ),
        ({"age": ("FP64", [1, 10**400])}, ['inputs["age"].data[1]', "double"]),
        ({"age": ("FP16", [1, 1e9])}, ['inputs["age"][1]', "inf"]),
        ({"age": ("FP32", [1, 1e300])}, ['inputs["age"][1]', "inf"]),
        ({"age": ("INT32", [1, 0.5])}, ["0.5", "an integer"]),
        ({"age": ("INT32", [None, 0.5])}, ['inputs["age"].data[1]', "an integer"]),
        ({"age": ("INT32", [1, 1e300])}, ["… is no INT32"]),
        ({"age": ("FP128", [1, 2])}, ["FP128"]),
        ({"smoker": ("FP64", [1, 2])}, ['inputs["smoker"][1]', "2.0", "true or false"]),
        ({"smoker": ("BOOL", [1, 0])}, ["true or false"]),
        ({"smoker": ("INT64", [1, None])}, ['inputs["smoker"]', "INT64"]),
        ({"active": ("FP64", [1, 0])}, ['inputs["active"]', "FP64", "BOOL"]),
        ({"active": ("BOOL", [None, True])}, ['inputs["active"][0]', "missing"]),
        ({"city": ("BYTES", ["a", 1])}, ['inputs["city"].data[1]', "a text"]),
        ({"city": ("BYTES", ["a", "\ud800"])}, ['inputs["city"].data[1]', "Unicode"]),
        ({"ward": ("BOOL", [True, False])}, ["BOOL", "INT64"]),
        ({"none": ("FP64", [1, 2])}, ["none", "unexpected", "ignore_extra"]),
        ({"no\ud800ne": ("FP64", [1, 2])}, ["surrogates"]),
    ],
)
def test_what_does_not_fit_is_named(changes: Any, words: list[str]) -> None:
    message = refusal({"inputs": mixed(**changes)}, MIXED)

    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "one or more tensors"),
        ({}, "one or more tensors"),
        ([[]], "inputs[0] must be an object"),
        ([{"name": 1}], "inputs[0].name must be a text"),
        ([{"name": "a", "datatype": "FP64", "shape": [1]}], "data is missing"),
        ([{"name": "a", "shape": [1], "data": [1]}], "datatype must be a text"),
        ([tensor("x", "FP64", [1.0], [])], "unexpected shape []"),
        ([tensor("x", "FP64", [1.0], [1, 1, 1])], "unexpected shape [1,1,1]"),
        ([tensor("x", "FP64", [1.0], [-1])], "of 0 or more"),
        ([tensor("x", "FP64", [1.0], [True])], "a list of sizes"),
        ([tensor("x", "FP64", [1.0], [1.0])], "a list of sizes"),
        ([tensor("x", "FP64", [1.0], "1")], "a list of sizes"),
        ([tensor("x", "FP64", [1.0], [2**62, 2**62])], "got 1"),
        ([tensor("x", "FP64", [1.0, 2.0], [1, 1])], "got 2"),
        ([tensor("x", "FP64", [], [0, 2])], "has no rows"),
        ([tensor("x", "FP64", [], [2**62, 0])], "expecting [-1,2]"),
        ([tensor("x", "FP64", [1.0, 2.0, 3.0])], "expecting [-1,2]: a, b"),
        ([tensor("x", "FP64", [[1.0, 2.0], [3.0]], [2, 2])], "data[1] must be a list"),
        ([tensor("x", "FP64", [[1.0, 2.0], 3.0], [2, 2])], "data[1] must be a list"),
        ([tensor("x", "FP64", [[1, [2]]], [1, 2])], "a list is not allowed"),
        ([tensor("x", "FP64", [[1.0, 2.0]], [2])], "nested"),
        ([tensor("x", "FP64", "1,2", [1, 2])], "must be a list"),
        ([tensor("a", "FP64", [1.0])], 'inputs["b"]: is missing'),
        ([tensor("a", "FP64", [1.0]), tensor("a", "FP64", [1.0])], "more than once"),
        ([tensor("a", "FP64", [1.0, 2], [1, 2]), tensor("b", "FP64", [1])], "[-1,1]"),
        ([tensor(str(n), "FP64", [1]) for n in range(99)], "99 came"),
        (
            [tensor("x", "FP64", [1, 2], parameters={"binary_data_size": 16})],
            "send one of the two",
        ),
        (
            [tensor("x", "FP64", [1, 2], parameters={"shared_memory_region": "r"})],
            "not supported",
        ),
        (
            [tensor("x", "FP64", [1, 2], parameters={"missing_rows": "0"})],
            "NaN is missing",
        ),
        (
            [
                tensor("a", "FP64", [1], parameters={"missing_rows": "0,-1"}),
                tensor("b", "FP64", [1]),
            ],
            "such as 0,17",
        ),
        ([tensor("x", "FP64", [1, 2], parameters=[1])], "must be an object"),
    ],
)
def test_what_is_no_tensor_is_named(inputs: Any, words: str) -> None:
    assert words in refusal({"inputs": inputs})


GOOD_INPUTS = [tensor("x", "FP64", [1.0, 2.0], [1, 2])]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"id": 5}, "id must be a text"),
        ({"id": "x" * 257}, "more than 256"),
        ({"instances": []}, '"instances" is no member'),
        ({"outputs": [{"name": "output-0"}]}, "label, prediction, probabilities"),
        ({"outputs": [{"name": "label"}] * 2}, "more than once"),
        ({"outputs": [{"name": "label"}] * 9}, "more than once"),
        ({"outputs": "label"}, "must be a list"),
        (
            {"outputs": [{"name": "label", "parameters": {"classification": 1}}]},
            "classification is not supported",
        ),
        ({"parameters": {"sequence_id": 1}}, "no sequences"),
        ({"parameters": {"explain_top_k": -3}}, "it takes 1 or more"),
        ({"parameters": {"explain_top_k": "3"}}, "it takes an integer"),
        ({"parameters": {"ignore_extra": 1}}, "it takes a boolean"),
        ({"parameters": {"timeout": -1}}, "it takes microseconds"),
        ({"parameters": {"timeout": "1"}}, "it takes an integer"),
        ({"parameters": {"timeout": True}}, "it takes an integer"),
        ({"parameters": {"timeout": 10**99}}, "beyond 64 bits"),
        ({"parameters": {"x": {}}}, "a number or a text"),
        ({"parameters": {"x": [1]}}, "a number or a text"),
        ({"parameters": {"x": "\ud800"}}, "surrogates"),
        ({"parameters": {"\ud800": 1}}, "surrogates"),
        ({"parameters": {"binary_data_output": 1}}, "must be true or false"),
        ({"outputs": [{"name": "\ud800"}]}, "surrogates"),
        (
            {"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]},
            "must be true or false",
        ),
        ({"parameters": 3}, "must be an object"),
    ],
)
def test_what_is_no_request_is_named(members: Any, words: str) -> None:
    assert words in refusal({"inputs": GOOD_INPUTS, **members})


def test_parameters_of_other_servers_are_ignored() -> None:
    parameters = {
        "content_type": "pd",
        "priority": 1,
        "binary_data_output": False,
        "x": 1,
        "y": None,
    }

    assert read({"inputs": GOOD_INPUTS, "parameters": parameters}).size


def test_parameters_keep_their_types() -> None:
    parameters = {"a": True, "b": 1, "c": "ö", "d": 0.5, "e": -(2**62)}

    message = to_request({"inputs": GOOD_INPUTS, "parameters": parameters}).message

    assert message.parameters["a"].bool_param is True
    assert message.parameters["b"].int64_param == 1
    assert message.parameters["c"].string_param == "ö"
    assert message.parameters["d"].double_param == 0.5
    assert message.parameters["e"].int64_param == -(2**62)


def test_extra_inputs_may_be_allowed() -> None:
    inputs = mixed(none=("FP64", [1, 2]))

    rows = read({"inputs": inputs, "parameters": {"ignore_extra": True}}, MIXED)

    assert rows.shape == (2, 6)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [(250_000, 0.25), (0, None), (None, None), (2**62, 2**62 / 1e6)],
)
def test_a_timeout_is_in_microseconds(timeout: Any, seconds: float | None) -> None:
    request = to_request({"inputs": GOOD_INPUTS, "parameters": {"timeout": timeout}})

    assert request.seconds == seconds


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "must be an object"),
        (b"null", "must be an object"),
        (b'{"inputs": [NaN]}', "NaN is not JSON; null is a gap"),
        (b'{"inputs": [-Infinity]}', "-Infinity is not JSON"),
        (b'{"id": "1", "id": "2"}', "'id' occurs twice"),
        (b'{"id": ' + b"1" * 5000 + b"}", "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 at byte 0"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a\\ud800": 1}', "no member"),
        (b'{"a\\ud800": 1, "a\\ud800": 2}', "occurs twice"),
        (b"[" * 5000, "nests too deep"),
        (b'{"a":' * 1500, "nests too deep"),
        (b"[" * 100_000, "more than 10000 values"),
        (b"1," * 100_000, "more than 10000 values"),
        (b'"' + b"\\" * 100_001, "not JSON"),
    ],
)
def test_what_is_no_json_is_named(body: bytes, words: str) -> None:
    assert words in refusal(body)


def test_separators_in_texts_are_no_values() -> None:
    inputs = mixed(city=("BYTES", ["{[," * 9000, '\\"' * 9000]))

    assert read({"inputs": inputs}, MIXED).size


@pytest.mark.parametrize("unit", [b'"\\', b'\\"', b'"', b"\\", b'",', b',"'])
def test_a_hostile_text_is_read_in_linear_time(unit: bytes) -> None:
    body = b"," * 20_000 + b'"' + unit * 1_000_000

    start = time.monotonic()
    refusal(body)

    assert time.monotonic() - start < 5.0


def test_a_name_that_occurs_twice_is_found_among_many() -> None:
    """Each name was compared with each other, which takes ten minutes here."""
    body = b"{" + b",".join(b'"%d":0' % n for n in range(200_000)) + b',"199999":0}'

    with pytest.raises(Refusal, match="'199999' occurs twice"):
        read_json(body, 400_000)


def test_a_number_beyond_doubles_is_refused() -> None:
    body = json.dumps({"inputs": GOOD_INPUTS}).replace("1.0", "1e400").encode()

    assert 'inputs["x"][0,0]: inf is not allowed for "a"' in refusal(body)


def reply(
    labels: list[str],
    predictions: list[int],
    probabilities: Any,
    names: tuple[str, ...] = OUTPUTS,
) -> pb.ModelInferResponse:
    """Return a reply of the service."""
    answer = pb.ModelInferResponse(model_name="wine", model_version="7", id="q")
    array = np.array(probabilities)
    outputs: dict[str, tuple[str, Any]] = {
        "label": ("BYTES", labels),
        "prediction": ("INT32", predictions),
        "probabilities": ("FP64", array.ravel()),
    }
    for name in names:
        datatype, values = outputs[name]
        shape = array.shape if name == "probabilities" else array.shape[:1]
        answer.outputs.add(name=name, datatype=datatype, shape=shape)
        answer.raw_output_contents.append(to_raw(datatype, values))
    return answer


def test_an_answer_has_the_outputs_in_the_order_of_the_reply() -> None:
    names = ("probabilities", "label")
    outputs = [{"name": name} for name in names]
    request = to_request({"inputs": GOOD_INPUTS, "id": "q", "outputs": outputs})
    came = reply(["20", "10"], [20, 10], [[0.25, 0.75], [0.9, 0.1]], names)

    text, data = write_answer(request, came)

    assert tuple(output.name for output in request.message.outputs) == names
    assert request.message.id == "q"
    assert data is None
    assert json.loads(text) == {
        "model_name": "wine",
        "model_version": "7",
        "id": "q",
        "outputs": [
            tensor("probabilities", "FP64", [0.25, 0.75, 0.9, 0.1], [2, 2]),
            tensor("label", "BYTES", ["20", "10"]),
        ],
    }


def test_a_prediction_is_an_integer_and_no_id_is_left_out() -> None:
    came = reply(["20", "10"], [20, 10], [[0.25, 0.75], [0.9, 0.1]])
    came.ClearField("id")

    text, _ = write_answer(to_request({"inputs": GOOD_INPUTS}), came)

    assert '"data": [20, 10]' in text.decode()
    assert "id" not in json.loads(text)


def test_a_long_answer_is_whole() -> None:
    values = np.random.default_rng(0).random((20_000, 2))
    labels, request = ["\"'ö\n", "a"] * 10_000, to_request({"inputs": GOOD_INPUTS})

    text, _ = write_answer(request, reply(labels, [1, 0] * 10_000, values))

    outputs = {output["name"]: output for output in json.loads(text)["outputs"]}
    assert outputs["probabilities"]["data"] == values.ravel().tolist()
    assert outputs["label"]["data"] == labels


def test_other_threads_run_while_a_large_body_is_read() -> None:
    body = json.dumps([0.123456789] * 300_000).encode()
    longest = [0.0]
    is_over = threading.Event()

    def watch() -> None:
        seen = time.monotonic()
        while not is_over.wait(0.001):
            now = time.monotonic()
            longest[0], seen = max(longest[0], now - seen), now

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.monotonic()
    read_json(body, 2_000_000)
    seconds = time.monotonic() - start
    is_over.set()
    watcher.join()

    assert longest[0] < seconds / 2


def test_the_metadata_name_what_is_taken(
    mixed_model: tuple[LoadedModel, Schema],
) -> None:
    model, _ = mixed_model

    metadata = json.loads(write_metadata(describe(model, "wine")))

    assert metadata["name"] == "wine"
    assert metadata["versions"] == [model.source.version]
    assert [(i["name"], i["datatype"], i["shape"]) for i in metadata["inputs"]] == [
        (f.name, datatypes(f.kind, f.nullable)[0], [-1, 1])
        for f in model.input_schema.features
    ]
    assert metadata["outputs"][2]["shape"] == [-1, len(model.classes.labels)]
    classes = json.loads(metadata["properties"]["classes"])
    assert classes == list(model.classes.labels)


def binary(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": size},
    }


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("FP64", [0.1, nan]),
        ("FP32", [0.5, -1.25]),
        ("FP16", [0.5, -1.25]),
        ("INT64", [-(2**53), 2**53]),
        ("INT32", [-1, 2**31 - 1]),
        ("INT16", [-1, 300]),
        ("INT8", [-128, 127]),
        ("UINT64", [0, 2**53]),
        ("UINT32", [0, 2**32 - 1]),
        ("UINT16", [0, 65535]),
        ("UINT8", [0, 255]),
    ],
)
def test_binary_data_are_the_numbers_of_numpy(
    datatype: str, values: list[float]
) -> None:
    name = datatype.replace("FP", "float").replace("INT", "int").replace("U", "u")
    data = np.array(values, name).tobytes()

    request = {"inputs": [binary("x", datatype, [1, 2], len(data))]}

    np.testing.assert_array_equal(read(request, data=data), [values])
    assert list(to_request(request, data).message.raw_input_contents) == [data]


def test_a_number_that_is_none_is_a_gap_of_a_binary_float() -> None:
    data = np.array([nan, 7.5, nan, 1.0])
    inputs = mixed()
    inputs[0] = binary("age", "FP64", [2, 1], 16)
    inputs[1] = binary("smoker", "FP64", [2], 16)

    rows = read({"inputs": inputs}, MIXED, data.tobytes())

    np.testing.assert_array_equal(rows[:, :2], [[nan, nan], [7.5, 1.0]])
    inputs[1] = binary("smoker", "FP64", [2], 16)
    wrong = np.array([nan, 7.5, 0.5, 1.0]).tobytes()
    message = refusal({"inputs": inputs}, MIXED, wrong)
    assert 'inputs["smoker"][0]: 0.5' in message


def test_binary_and_listed_columns_may_be_mixed() -> None:
    texts = write_texts(["Köln".encode(), b"Oslo"])
    inputs = mixed()
    inputs[2] = binary("active", "BOOL", [2, 1], 2)
    inputs[3] = binary("city", "BYTES", [2], len(texts))

    rows = read({"inputs": inputs}, MIXED, b"\x01\x00" + texts)

    assert rows[:, 2:4].tolist() == [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("inputs", "data", "words"),
    [
        ([binary("x", "FP64", [1, 2], 16)], b"", "0 are left"),
        (
            [binary("x", "FP64", [1, 2], 8)],
            b"0" * 8,
            "expecting 16: 2 elements of FP64",
        ),
        ([binary("x", "FP64", [1, 2], 16)], b"0" * 17, "1 bytes of binary data belong"),
        ([binary("x", "FP64", [2**62, 2**62], 16)], b"0" * 16, "expecting [-1,2]"),
        ([binary("x", "UINT8", [20_000, 2], 40_000)], b"0" * 40_000, "20000 rows"),
        ([binary("x", "FP65", [1, 2], 16)], b"0" * 16, '"FP65"'),
        ([binary("x", "BOOL", [1, 2], 2)], b"\x01\x02", "BOOL"),
        ([binary("x", "BYTES", [1, 2], 4)], b"\xff\xff\xff\xff", "BYTES"),
        ([binary("x", "INT64", [1, 2], 16)], b"\x7f" * 16, 'inputs["x"][0,0]'),
        ([binary("x", "FP64", [1, 2], -1)], b"", "a number of bytes"),
        ([{**binary("x", "FP64", [1, 2], 16), "data": []}], b"0" * 16, "one of the"),
    ],
)
def test_binary_data_that_do_not_fit_are_named(
    inputs: Any, data: bytes, words: str
) -> None:
    assert words in refusal({"inputs": inputs}, data=data)


@pytest.mark.parametrize(
    ("datatype", "name", "data", "words"),
    [
        ("BYTES", "city", b"\xff\xff\xff\xff", "4294967295 bytes by its length"),
        ("BYTES", "city", b"\x00" * 3, "expected 2 elements"),
        ("BYTES", "city", b"\x00" * 5, "expected 2 elements"),
        ("BYTES", "city", b"\x00" * 9, "1 bytes more"),
        ("BYTES", "city", b"", "expected 2 elements"),
        ("BYTES", "city", b"\x01\x00\x00\x00\xff" + b"\x00" * 4, "not UTF-8"),
        ("BOOL", "active", b"\x01\x02", 'inputs["active"][1]'),
    ],
)
def test_binary_columns_that_do_not_fit_are_named(
    datatype: str, name: str, data: bytes, words: str
) -> None:
    inputs = mixed()
    inputs[POSITIONS[name]] = binary(name, datatype, [2], len(data))

    assert words in refusal({"inputs": inputs}, MIXED, data)


@pytest.mark.parametrize("header", ["-1", "x", "", "²", "9" * 30, "4"])
def test_a_wrong_length_of_the_json_is_named(header: str) -> None:
    with pytest.raises(Refusal, match="inference-header-content-length"):
        split_body(header, b"{}!")


def test_outputs_are_binary_as_the_request_wants_them() -> None:
    outputs = [{"name": "label", "parameters": {"binary_data": False}}]
    members = {
        "inputs": GOOD_INPUTS,
        "outputs": [*outputs, {"name": "prediction"}, {"name": "probabilities"}],
        "parameters": {"binary_data_output": True},
    }
    came = reply(["ö", "a"], [1, 0], [[0.25, 0.75], [0.9, 0.1]])

    text, data = write_answer(to_request(members), came)

    label, prediction, probabilities = json.loads(text)["outputs"]
    assert label["data"] == ["ö", "a"]
    assert prediction["parameters"] == {"binary_data_size": 8}
    assert "data" not in probabilities
    assert data is not None
    assert np.frombuffer(data[:8], "<i4").tolist() == [1, 0]
    assert np.frombuffer(data[8:], "<f8").tolist() == [0.25, 0.75, 0.9, 0.1]


@pytest.fixture(scope="module")
def mixed_model(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[LoadedModel, Schema]:
    """Return a model of a table with columns of all kinds, and the table's schema."""
    _, schema, train, holdout = make_mixed_rows()
    trained = train_family("logistic_regression", schema, train, holdout, run_id="F/1")
    artifact = ModelArtifact.FromString(trained.artifact)
    return load_model(write_artifact(tmp_path_factory.mktemp("m"), artifact)), schema


@given(st.data())
@settings(max_examples=60)
def test_columns_are_encoded_as_the_records_of_predict(
    mixed_model: tuple[LoadedModel, Schema], data: st.DataObject
) -> None:
    model, table = mixed_model
    rows = data.draw(st.lists(records(table), min_size=1, max_size=5))
    schema = model.input_schema
    inputs = [
        tensor(f.name, datatypes(f.kind, f.nullable)[0], [row[f.name] for row in rows])
        for f in data.draw(st.permutations(schema.features))
    ]

    found = read({"inputs": inputs}, schema)

    expected = []
    for row in rows:
        record = Struct()
        record.update(row)
        expected.append(list(schema.row_from_record(record.fields)))
    np.testing.assert_array_equal(found, expected)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["name", "datatype", "shape", "data", "parameters", "x"]),
        inner,
        max_size=5,
    ),
    max_leaves=20,
)


@given(
    st.fixed_dictionaries(
        {"inputs": JSON_VALUES | st.lists(JSON_VALUES, max_size=3)},
        optional={"id": JSON_VALUES, "outputs": JSON_VALUES, "parameters": JSON_VALUES},
    )
)
@settings(max_examples=100)
def test_any_json_is_rows_or_a_refusal(body: Any) -> None:
    with suppress(Refusal, CallError):
        read(json.dumps(body).encode(), MIXED)


@given(
    st.sampled_from(["FP64", "FP16", "INT8", "UINT64", "BOOL", "BYTES"]),
    st.lists(JSON_VALUES, min_size=2, max_size=2),
    st.sampled_from(sorted(GOOD)),
)
@settings(max_examples=100)
def test_any_values_are_a_column_or_a_refusal(
    datatype: str, data: list[Any], name: str
) -> None:
    with suppress(Refusal, CallError):
        read(json.dumps({"inputs": mixed(**{name: (datatype, data)})}).encode(), MIXED)
