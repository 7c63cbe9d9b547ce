"""Tensors of the Open Inference Protocol become the rows that BatchPredict makes of the data."""

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_server.errors import BatchTooLarge, CallError, InvalidInstance, NotSupported
from grpc_server.model import ModelSlot
from grpc_server.model.schema import Feature, InputSchema
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.requests import make_decoder, read_question
from grpc_server.oip.rows import Rows, read_rows
from grpc_server.oip.scan import Bounds, RequestScan
from grpc_server.oip.telling import to_column
from grpc_server.oip.tensors import Tensor, as_array, read_numbers
from grpc_server.rpc.batch import read_batch
from prediction.v1 import prediction_service_pb2 as v1

from oip_support import MIXED, add_input, matrix_request, mixed_requests

NUMERIC = InputSchema((Feature("a", False), Feature("b", True), Feature("c", False)))
X = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0]])


def read(
    request: pb.ModelInferRequest, schema: InputSchema = NUMERIC, max_rows: int = 100
) -> Rows:
    question = read_question(request)
    return read_rows(
        schema, question.tensors, max_rows, ignores_extra=question.ignores_extra
    )


def refusal(request: pb.ModelInferRequest, schema: InputSchema = NUMERIC) -> str:
    with pytest.raises(InvalidInstance) as caught:
        read(request, schema)
    return str(caught.value)


@settings(max_examples=60)
@given(mixed_requests())
def test_any_layout_and_encoding_gives_the_bits_of_batch_predict(
    requests: tuple[pb.ModelInferRequest, v1.BatchPredictRequest],
) -> None:
    request, batch = requests

    rows = read(request, MIXED)

    assert rows.X.tobytes() == read_batch(MIXED, batch, 100).tobytes()
    # What observers are told is the same again.
    columns = [to_column(f, rows.tensor_by_name[f.name]) for f in MIXED.features]
    told = read_batch(MIXED, v1.BatchPredictRequest(columns=columns), 100)
    assert told.tobytes() == rows.X.tobytes()


@pytest.mark.parametrize("is_raw", [True, False])
def test_one_tensor_holds_all_numeric_features(is_raw: bool) -> None:
    np.testing.assert_array_equal(read(matrix_request(X, is_raw=is_raw)).X, X)


def test_a_tensor_of_one_dimension_is_one_row() -> None:
    np.testing.assert_array_equal(read(matrix_request(X[1])).X, X[1:])


def test_a_raw_matrix_is_not_copied() -> None:
    """A loop over its numbers, or a copy, would cost the speed of batches."""
    assert read(matrix_request(X)).X.base is not None


@pytest.mark.parametrize(
    "datatype", "FP32 FP16 INT64 INT32 INT16 INT8 UINT64 UINT32 UINT16 UINT8".split()
)
def test_every_type_of_numbers_is_taken(datatype: str) -> None:
    request = pb.ModelInferRequest()
    add_input(request, "x", datatype, [1, 3], [1, 2, 3])

    assert read(request).X.tolist() == [[1.0, 2.0, 3.0]]


def test_numeric_features_come_by_name_as_well() -> None:
    request = pb.ModelInferRequest()
    for name, values in (("c", [3, 6]), ("a", [1, 4]), ("b", [2, 5])):
        add_input(request, name, "INT64", [2, 1], values)

    assert read(request).X.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_a_tensor_with_a_features_name_may_hold_all_features() -> None:
    request = pb.ModelInferRequest()
    add_input(request, "a", "FP64", [1, 3], [1, 2, 3])

    assert read(request).X.tolist() == [[1.0, 2.0, 3.0]]


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**62])
@pytest.mark.parametrize("is_raw", [True, False])
def test_an_integer_that_a_double_cannot_hold_is_refused(
    number: int, is_raw: bool
) -> None:
    request = pb.ModelInferRequest()
    add_input(request, "x", "INT64", [1, 3], [1, number, 3], is_raw=is_raw)

    message = refusal(request)
    assert f'inputs["x"][0,1]: {number} is not allowed' in message
    assert "takes integers of -9007199254740992 to 9007199254740992" in message


def column(
    name: str, datatype: str, values: list[Any], missing_rows: str = ""
) -> pb.ModelInferRequest:
    """Return a request of one column of `MIXED` alone."""
    request = pb.ModelInferRequest()
    tensor = add_input(request, name, datatype, [len(values)], values)
    if missing_rows:
        tensor.parameters["missing_rows"].string_param = missing_rows
    return request


def only(name: str) -> InputSchema:
    return InputSchema(tuple(f for f in MIXED.features if f.name == name))


@pytest.mark.parametrize(
    ("name", "datatype", "values", "missing_rows", "said"),
    [
        ("age", "FP64", [np.nan], "", "nan is not allowed"),
        ("age", "FP64", [np.inf], "", "inf is not allowed"),
        ("age", "FP64", [1.0], "0", "a missing value is not allowed"),
        ("age", "BOOL", [True], "", "it takes FP64, FP32"),
        ("active", "FP64", [1.0], "", "it takes BOOL"),
        ("smoker", "FP64", [0.5], "", "0.5 is not allowed"),
        ("smoker", "FP64", [np.nan, 1.0], "2", "the rows are 0 to 1"),
        ("plan", "BYTES", ["c"], "", 'the text "c" is not allowed'),
        ("plan", "INT64", [1], "", "it takes BYTES"),
        ("ward", "FP64", [3.5], "", "3.5 is not allowed"),
        ("ward", "BYTES", ["3"], "", "it takes INT64"),
        ("city", "BYTES", ["x"], "0,", "it takes row numbers"),
        ("city", "BYTES", ["x"], "-1", "it takes row numbers"),
        ("city", "BYTES", ["x"], "9" * 19, "it takes row numbers"),
        ("city", "BYTES", ["x"], "٣", "it takes row numbers"),
        ("born", "BYTES", ["yesterday"], "", 'the text "yesterday" is not allowed'),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    name: str, datatype: str, values: list[Any], missing_rows: str, said: str
) -> None:
    told = refusal(column(name, datatype, values, missing_rows), only(name))

    assert f'inputs["{name}"]' in told
    assert said in told


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([-1, 3], "is not allowed"),
        ([2**62, 2**62], "unexpected shape"),
        ([2**62, 3], "rows came"),
        ([0, 3], "has no rows"),
        ([1, 3, 1], "unexpected shape"),
        ([], "unexpected shape"),
        ([1] * 9, "is not allowed"),
        ([2, 3], "unexpected total byte size 24, expecting 48"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(shape: list[int], said: str) -> None:
    request = pb.ModelInferRequest()
    add_input(request, "x", "FP64", shape, [1, 2, 3])

    with pytest.raises((InvalidInstance, BatchTooLarge), match=said):
        read(request)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x01\x00\x00",
        b"\xff\xff\xff\xffa",
        b"\x01\x00\x00\x00aa",
        b"\x01\x00\x00\x00a\x00\x00\x00\x00",
        b"\x02\x00\x00\x00\xff\xfe",
    ],
)
def test_raw_texts_have_to_fill_their_bytes(raw: bytes) -> None:
    request = column("city", "BYTES", ["a"])
    request.raw_input_contents[0] = raw

    assert 'inputs["city"]' in refusal(request, only("city"))


def test_duplicates_strangers_and_gaps_are_listed() -> None:
    request = pb.ModelInferRequest()
    for name in ("a", "a", "d"):
        add_input(request, name, "FP64", [1], [1.0])

    told = refusal(request)

    assert "(and 3 more)" in told  # d, b and c
    request.parameters["ignore_extra"].bool_param = True
    assert "(and 2 more)" in refusal(request)


def test_extra_inputs_are_left_out_if_the_caller_says_so() -> None:
    request = pb.ModelInferRequest()
    for name in ("a", "b", "c", "d"):
        add_input(request, name, "FP64", [1], [1.0])
    request.parameters["ignore_extra"].bool_param = True

    assert read(request).X.tolist() == [[1.0, 1.0, 1.0]]


def with_contents(request: pb.ModelInferRequest) -> None:
    request.inputs[0].contents.fp64_contents.append(1.0)


def with_classification(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="label").parameters["classification"].int64_param = 1


def with_memory(request: pb.ModelInferRequest) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "x"


def with_sequence(request: pb.ModelInferRequest) -> None:
    request.parameters["sequence_id"].int64_param = 1


def with_unknown_output(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="labels")


def with_same_output(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="label")
    request.outputs.add(name="label")


def with_contributions(request: pb.ModelInferRequest) -> None:
    request.outputs.add(name="contributions")


def with_long_id(request: pb.ModelInferRequest) -> None:
    request.id = "é" * 129


def with_odd_parameter(request: pb.ModelInferRequest) -> None:
    request.parameters["timeout"].bool_param = True


def with_one_more_content(request: pb.ModelInferRequest) -> None:
    request.raw_input_contents.append(b"")


def with_negative_timeout(request: pb.ModelInferRequest) -> None:
    request.parameters["timeout"].int64_param = -1


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            with_contents,
            InvalidInstance,
            "contents field must not be specified when using raw_input_contents for 'x' for "
            "model 'model'",
        ),
        (with_classification, NotSupported, "classification"),
        (with_memory, NotSupported, "shared memory"),
        (with_sequence, InvalidInstance, "no sequences"),
        (with_unknown_output, InvalidInstance, "label, prediction, probabilities"),
        (with_same_output, InvalidInstance, "more than once"),
        (with_contributions, InvalidInstance, "explain_top_k"),
        (with_long_id, InvalidInstance, "more than 256 bytes"),
        (with_odd_parameter, InvalidInstance, "bool_param came; it takes an integer"),
        (with_one_more_content, InvalidInstance, "2 came; 1 are needed"),
        (with_negative_timeout, InvalidInstance, "it takes microseconds"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    change: Any, error: type[CallError], said: str
) -> None:
    request = matrix_request(X)
    change(request)

    with pytest.raises(error, match=said):
        read_question(request)


def test_typed_contents_come_in_the_field_of_their_type() -> None:
    request = matrix_request(X, is_raw=False)
    request.inputs[0].contents.int_contents.append(1)

    assert "takes fp64_contents alone" in refusal(request)


def test_a_typed_integer_has_to_fit_its_type() -> None:
    request = pb.ModelInferRequest()
    add_input(request, "x", "INT8", [1, 3], [1, 300, 3], is_raw=False)

    assert "300 is no INT8" in refusal(request)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("INT64", [1, 2.5, 3]),
        ("INT64", [True, False, True]),
        ("BOOL", [1, 0, 1]),
        ("FP64", ["1", "2", "3"]),
        ("FP64", [None, 2.0, 3.0]),
    ],
)
def test_typed_values_of_another_type_are_refused(
    datatype: str, values: list[Any]
) -> None:
    """A list of JSON may hold anything."""
    with pytest.raises(InvalidInstance, match="are not all"):
        read_numbers(Tensor("x", datatype, (3,), None, values))


@pytest.mark.parametrize("wrong", [2**64, -1, 10**4000])
def test_an_integer_beyond_64_bits_is_named(wrong: int) -> None:
    with pytest.raises(InvalidInstance, match="is no UINT64") as caught:
        read_numbers(Tensor("x", "UINT64", (3,), None, [2**63, wrong, 3]))
    assert len(str(caught.value)) < 500


def test_large_and_small_integers_are_of_one_type() -> None:
    tensor = Tensor("x", "UINT64", (2,), None, [2**64 - 1, 3])

    assert as_array(tensor).tolist() == [2**64 - 1, 3]


def test_missing_rows_of_millions_are_refused_unread() -> None:
    told = refusal(column("city", "BYTES", ["x"], "0," * 1_000_000), only("city"))

    assert "has 2000000 characters" in told


@settings(max_examples=150)
@given(st.data())
def test_no_request_is_an_error_of_ours(data: st.DataObject) -> None:
    """Whatever comes, the server refuses or answers; anything else would be INTERNAL."""
    schema = data.draw(st.sampled_from([NUMERIC, MIXED]))
    request = pb.ModelInferRequest()
    sizes = st.sampled_from([-1, 0, 1, 2, 3, 2**31, 2**62, -(2**63)])
    types = st.sampled_from(["FP64", "FP32", "FP16", "BYTES", "BOOL", "INT8", "", "X"])
    names = st.sampled_from(["a", "b", "c", "age", "city", "x", "\x00"])
    for _ in range(data.draw(st.integers(0, 4))):
        tensor = request.inputs.add(
            name=data.draw(names),
            datatype=data.draw(types),
            shape=data.draw(st.lists(sizes, max_size=3)),
        )
        if data.draw(st.booleans()):
            tensor.contents.fp64_contents.extend(data.draw(st.lists(st.floats())))
        if data.draw(st.booleans()):
            tensor.parameters["missing_rows"].string_param = data.draw(st.text())
    request.raw_input_contents.extend(
        data.draw(st.lists(st.binary(max_size=48), max_size=4))
    )

    try:
        read(request, schema)
    except CallError:
        pass


def bomb(n_inputs: int, kind: str) -> bytes:
    request = pb.ModelInferRequest(model_name="model")
    if kind == "inputs":
        return request.SerializeToString() + b"\x2a\x00" * n_inputs
    if kind == "raw":
        return request.SerializeToString() + b"\x3a\x00" * n_inputs
    if kind == "outputs":
        return request.SerializeToString() + b"\x32\x00" * n_inputs
    tensor = request.inputs.add(name="x", datatype="BYTES")
    if kind == "shape":
        tensor.shape.extend([1] * n_inputs)
    elif kind == "texts":
        tensor.contents.bytes_contents.extend([b""] * n_inputs)
    elif kind == "numbers":
        tensor.contents.int64_contents.extend([1] * n_inputs)
    else:
        for number in range(n_inputs // 10):
            tensor.parameters[str(number)].bool_param = True
    return request.SerializeToString()


@pytest.mark.parametrize(
    "kind", ["inputs", "raw", "outputs", "shape", "texts", "numbers", "parameters"]
)
def test_a_message_of_many_parts_is_refused_before_it_is_decoded(kind: str) -> None:
    message = bomb(1_000_000, kind)
    tracemalloc.start()
    begin = time.perf_counter()

    with pytest.raises(CallError):
        RequestScan(message, Bounds(n_features=3, max_rows=1000)).check()

    seconds = time.perf_counter() - begin
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(message) + 2**20
    assert seconds < 1.0


def test_a_full_batch_passes_the_scan() -> None:
    for is_raw in (True, False):
        message = matrix_request(np.ones((1000, 3)), is_raw=is_raw).SerializeToString()
        RequestScan(message, Bounds(n_features=3, max_rows=1000)).check()
    many = pb.ModelInferRequest()
    for name in ("a", "b", "c"):
        add_input(many, name, "BYTES", [1000], ["x" * 200] * 1000, is_raw=False)
    message = many.SerializeToString()
    RequestScan(message, Bounds(n_features=3, max_rows=1000)).check()
    with pytest.raises(BatchTooLarge, match="--max-batch-rows"):
        RequestScan(message, Bounds(n_features=3, max_rows=999)).check()


def test_what_is_no_request_is_refused() -> None:
    decode = make_decoder(ModelSlot(), 1000)

    with pytest.raises(CallError, match="inference.ModelInferRequest"):
        decode(b"\xff\xff")
