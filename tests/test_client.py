"""Both Python clients against real servers whose answers each test chooses."""

import array
import copy
import math
import pickle
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health, health_pb2

import prediction
from prediction import (
    Calibration,
    Contribution,
    DeadlineExceededError,
    Explanation,
    Feature,
    FeatureKind,
    FieldViolation,
    HealthStatus,
    InvalidInstanceError,
    Model,
    ModelUnavailableError,
    OverloadedError,
    Prediction,
    PredictionClient,
    PredictionError,
    ServerError,
    UnavailableError,
)
from prediction.v1 import prediction_service_pb2 as pb

from scripted_server import (
    PREDICTION,
    ScriptedServicer,
    scripted_server,
    status_of,
    unused_target,
)
from support import ROOT
from wire import bad_request

pytestmark = pytest.mark.usefixtures("each_client")
SERVICE = "prediction.v1.PredictionService"
CLIENT_ROOT = Path(prediction.__file__).parent.parent

UNAVAILABLE = status_of(grpc.StatusCode.UNAVAILABLE, "shutting down")
NO_MODEL = status_of(
    grpc.StatusCode.UNAVAILABLE,
    "no model is loaded yet",
    ErrorInfo(reason="MODEL_UNAVAILABLE", domain="prediction.v1"),
)


@pytest.fixture
def servicer() -> ScriptedServicer:
    return ScriptedServicer()


@pytest.fixture
def client(each_client: None, servicer: ScriptedServicer) -> Iterator[PredictionClient]:
    with scripted_server(servicer) as target, PredictionClient(target) as client:
        yield client


def predict_with(answer: Any, **arguments: Any) -> Prediction:
    """Predict with a client of these arguments on a server with this answer."""
    with (
        scripted_server(ScriptedServicer(answer)) as target,
        PredictionClient(target, **arguments) as client,
    ):
        return client.predict([1.0])


@pytest.mark.parametrize(
    "instance",
    [
        pytest.param([1.5, 2.0], id="list"),
        pytest.param((1.5, 2), id="tuple-with-int"),
        pytest.param(np.array([1.5, 2.0]), id="numpy-float64"),
        pytest.param(np.array([1.5, 2.0], dtype=np.float32), id="numpy-float32"),
        pytest.param(np.arange(4.0).reshape(2, 2)[1] / 2 + 0.5, id="numpy-view"),
        pytest.param(np.array([1.5, 2], dtype=object), id="numpy-object"),
        pytest.param([np.float32(1.5), np.int64(2)], id="numpy-scalars"),
        pytest.param([Decimal("1.5"), Fraction(2)], id="decimal-and-fraction"),
        pytest.param(array.array("d", [1.5, 2.0]), id="array-module"),
    ],
)
def test_predict_sends_numbers_by_position(
    client: PredictionClient, servicer: ScriptedServicer, instance: Any
) -> None:
    client.predict(instance)

    assert servicer.requests == [pb.PredictRequest(features=[1.5, 2.0])]


@pytest.mark.parametrize(
    "instance",
    [
        pytest.param([None, 2.0], id="None"),
        pytest.param([math.nan, 2.0], id="nan"),
        pytest.param(np.array([np.nan, 2.0]), id="numpy-nan"),
        pytest.param(np.ma.array([1.0, 2.0], mask=[True, False]), id="numpy-masked"),
    ],
)
def test_predict_sends_nan_for_a_missing_value_by_position(
    client: PredictionClient, servicer: ScriptedServicer, instance: Any
) -> None:
    client.predict(instance)

    first, second = servicer.requests[0].features
    assert math.isnan(first)
    assert second == 2.0


@pytest.mark.parametrize(
    "instance",
    [
        pytest.param({"mean radius": 1, "b": None}, id="dict-None"),
        pytest.param({"mean radius": np.float32(1), "b": math.nan}, id="dict-nan"),
        pytest.param(pd.Series([1.0, None], index=["mean radius", "b"]), id="Series"),
    ],
)
def test_predict_sends_names_as_a_record_with_null_for_a_missing_value(
    client: PredictionClient, servicer: ScriptedServicer, instance: Any
) -> None:
    client.predict(instance)

    (request,) = servicer.requests
    assert MessageToDict(request.record) == {"mean radius": 1.0, "b": None}
    assert not request.features


def test_predict_sends_truth_values_and_texts_of_a_record(
    client: PredictionClient, servicer: ScriptedServicer
) -> None:
    client.predict({"a": True, "b": np.False_, "c": "", "d": np.str_("x"), "e": 0})

    assert MessageToDict(servicer.requests[0].record) == {
        "a": True,
        "b": False,
        "c": "",
        "d": "x",
        "e": 0.0,
    }


def test_predict_asks_for_an_explanation() -> None:
    explained = pb.PredictResponse()
    explained.CopyFrom(PREDICTION)
    explained.explanation.label = "1"
    explained.explanation.score = 1.5
    explained.explanation.base = 0.5
    explained.explanation.contributions.add(feature="a", value=-2.0)
    servicer = ScriptedServicer(explained)

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        prediction = client.predict([1.0], explain_top_k=1)

    assert servicer.requests == [pb.PredictRequest(features=[1.0], explain_top_k=1)]
    assert prediction.explanation == Explanation(
        label="1", score=1.5, base=0.5, contributions=(Contribution("a", -2.0),)
    )


@pytest.mark.parametrize("top_k", [-1, 2**32])
def test_a_number_of_features_to_explain_by_out_of_range_is_refused(
    client: PredictionClient, top_k: int
) -> None:
    with pytest.raises(ValueError, match=f"explain_top_k is {top_k}; it must be from"):
        client.predict([1.0], explain_top_k=top_k)


def test_predict_sends_a_row_of_a_frame_by_its_names(
    client: PredictionClient, servicer: ScriptedServicer
) -> None:
    frame = pd.DataFrame({"b": [1.0, 2.0], "a": [3, 4]})

    client.predict(frame.iloc[1])

    assert MessageToDict(servicer.requests[0].record) == {"b": 2.0, "a": 4.0}


def test_predict_leaves_the_number_of_values_and_infinity_to_the_server(
    client: PredictionClient, servicer: ScriptedServicer
) -> None:
    client.predict([])
    client.predict([math.inf])
    client.predict({})

    assert servicer.requests == [
        pb.PredictRequest(),
        pb.PredictRequest(features=[math.inf]),
        pb.PredictRequest(record=Struct()),
    ]


@pytest.mark.parametrize(
    ("instance", "field", "description"),
    [
        pytest.param(
            [1.0, "abc"],
            "features[1]",
            "'abc' (str) is not allowed; a number or None is",
            id="text",
        ),
        pytest.param(
            [True],
            "features[0]",
            "True (bool) is not allowed; a number or None is",
            id="bool",
        ),
        pytest.param(
            np.array([False]),
            "features[0]",
            "False (bool) is not allowed; a number or None is",
            id="numpy-bool",
        ),
        pytest.param(
            [[1.0, 2.0]],
            "features[0]",
            "[1.0, 2.0] (list) is not allowed; a number or None is",
            id="nested",
        ),
        pytest.param(
            [1j],
            "features[0]",
            "1j (complex) is not allowed; a number or None is",
            id="complex",
        ),
        pytest.param(
            ["x" * 1000],
            "features[0]",
            f"'{'x' * 78}… (str) is not allowed; a number or None is",
            id="long-text",
        ),
        pytest.param(
            [-(10**400)],
            "features[0]",
            f"-1{'0' * 77}… is too large for a double",
            id="large-int",
        ),
        pytest.param(
            {"mean radius": "\ud800"},
            'record["mean radius"]',
            "the text cannot be encoded in UTF-8",
            id="record-text-surrogate",
        ),
        pytest.param(
            {"a": {"b": 1.0}},
            'record["a"]',
            "{'b': 1.0} (dict) is not allowed; a number, a bool, a text, a date or None is",
            id="record-nested",
        ),
        pytest.param(
            {0: 1.0},
            "record[0]",
            "0 (int) is not a name; give a text",
            id="record-key-int",
        ),
        pytest.param(
            pd.Series([1.0]),
            "record[0]",
            "0 (int) is not a name; give a text",
            id="Series-without-names",
        ),
        pytest.param(
            {"\ud800": 1.0},
            "record['\\ud800']",
            "the name cannot be encoded in UTF-8",
            id="record-key-surrogate",
        ),
    ],
)
def test_predict_refuses_what_a_request_cannot_carry(
    client: PredictionClient,
    servicer: ScriptedServicer,
    instance: Any,
    field: str,
    description: str,
) -> None:
    with pytest.raises(InvalidInstanceError) as caught:
        client.predict(instance)

    assert caught.value.violations == (FieldViolation(field, description),)
    assert str(caught.value) == f"INVALID_ARGUMENT: {field}: {description}"
    assert servicer.requests == []


def test_predict_tells_every_value_that_cannot_be_sent(
    client: PredictionClient,
) -> None:
    with pytest.raises(InvalidInstanceError) as caught:
        client.predict(["a", 1.0, "b", "c"])  # type: ignore[list-item]

    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["features[0]", "features[2]", "features[3]"]
    assert "(and 2 more)" in caught.value.message


@pytest.mark.parametrize(
    ("instance", "shape"),
    [
        pytest.param(np.ones((2, 3)), "(2, 3)", id="matrix"),
        pytest.param(np.ones((1, 3)), "(1, 3)", id="one-row-matrix"),
        pytest.param(np.array(1.0), "()", id="scalar"),
        pytest.param(pd.DataFrame({"a": [1.0]}), "(1, 1)", id="DataFrame"),
        pytest.param(memoryview(bytes(4)).cast("B", (2, 2)), "(2, 2)", id="memoryview"),
    ],
)
def test_predict_refuses_an_array_that_is_not_one_instance(
    client: PredictionClient, instance: Any, shape: str
) -> None:
    with pytest.raises(ValueError, match="predict takes one instance") as caught:
        client.predict(instance)

    assert f"shape {shape}: call it for each row" in str(caught.value)


@pytest.mark.parametrize(
    "instance",
    ["1,2", b"12", 1.0, None, {1.0, 2.0}, iter([1.0])],
    ids=lambda instance: type(instance).__name__,
)
def test_predict_refuses_what_is_no_instance(
    client: PredictionClient, instance: Any
) -> None:
    with pytest.raises(TypeError, match="takes a sequence of numbers, a mapping"):
        client.predict(instance)


def test_predict_returns_the_prediction(client: PredictionClient) -> None:
    assert client.predict([1.0]) == Prediction(
        model="LightGBM",
        prediction=1,
        label="1",
        probabilities=(0.25, 0.75),
        model_version="7",
    )


def test_get_model_describes_a_registered_model() -> None:
    response = pb.GetModelResponse(
        model="LightGBM",
        registered_model="cancer",
        model_version="7",
        run_id="abc",
        features=[
            pb.Feature(name="a", kind=pb.FEATURE_KIND_NUMERIC, nullable=True),
            pb.Feature(name="b", kind=pb.FEATURE_KIND_BOOLEAN),
            pb.Feature(
                name="c",
                kind=pb.FEATURE_KIND_CATEGORICAL_TEXT,
                nullable=True,
                categories=["x", ""],
                refuse_unknown=True,
            ),
            pb.Feature(
                name="d",
                kind=pb.FEATURE_KIND_CATEGORICAL_INTEGER,
                categories=["10", "-5"],
            ),
        ],
        calibration=pb.CALIBRATION_ISOTONIC,
        classes=["0", "1"],
        threshold=0.0,
        metrics={"holdout_roc_auc": 0.5},
    )
    response.create_time.FromSeconds(1_700_000_000)
    response.load_time.FromSeconds(1_700_000_001)

    model = get_model(response)

    assert model == Model(
        model="LightGBM",
        registered_model="cancer",
        model_version="7",
        run_id="abc",
        features=(
            Feature("a", FeatureKind.NUMERIC, True),
            Feature("b", FeatureKind.BOOLEAN, False),
            Feature("c", FeatureKind.CATEGORICAL_TEXT, True, ("x", ""), True),
            Feature("d", FeatureKind.CATEGORICAL_INTEGER, False, (10, -5)),
        ),
        classes=("0", "1"),
        threshold=0.0,
        metrics={"holdout_roc_auc": 0.5},
        create_time=datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        load_time=datetime(2023, 11, 14, 22, 13, 21, tzinfo=UTC),
        calibration=Calibration.ISOTONIC,
    )
    assert hash(model) == hash(pickle.loads(pickle.dumps(model)))


def test_get_model_tells_what_is_not_set_from_zero() -> None:
    model = get_model(pb.GetModelResponse(classes=["a", "b", "c"]))

    assert model.threshold is None
    assert model.create_time is None
    assert model.load_time is None


def test_get_model_reads_a_kind_of_a_newer_server() -> None:
    response = pb.GetModelResponse()
    response.features.add(name="a").MergeFromString(b"\x10\x63")

    model = get_model(response)

    assert model.features == (Feature("a", FeatureKind.UNSPECIFIED, False),)


def get_model(response: pb.GetModelResponse) -> Model:
    with (
        scripted_server(ScriptedServicer(response)) as target,
        PredictionClient(target) as client,
    ):
        return client.get_model()


def test_a_call_carries_the_name_that_its_caller_gives_it() -> None:
    seen = []

    def answer(_: object, context: Any) -> pb.PredictResponse:
        seen.append(dict(context.invocation_metadata()).get("x-request-id"))
        return PREDICTION

    with scripted_server(ScriptedServicer(answer)) as target:
        with PredictionClient(target) as client:
            client.predict([1.0], request_id="order-007")
            client.predict([1.0])
            for name in ("", "a b", "é", "x" * 129, "a\n"):
                with pytest.raises(ValueError, match="visible ASCII"):
                    client.predict([1.0], request_id=name)

    assert seen == ["order-007", None]


def test_every_call_has_a_deadline_by_default(
    client: PredictionClient, servicer: ScriptedServicer
) -> None:
    client.predict([1.0])

    assert servicer.seconds_left == [pytest.approx(5, rel=0.5)]


def test_the_timeout_of_a_client_and_of_a_call_are_sent(
    servicer: ScriptedServicer,
) -> None:
    with (
        scripted_server(servicer) as target,
        PredictionClient(target, timeout_seconds=1000) as client,
    ):
        client.predict([1.0])
        client.predict([1.0], timeout_seconds=9000)

    assert servicer.seconds_left == [
        pytest.approx(1000, rel=0.5),
        pytest.approx(9000, rel=0.5),
    ]


def test_a_server_that_does_not_answer_in_time_is_a_deadline_exceeded_error() -> None:
    def hang(request: pb.PredictRequest, context: grpc.ServicerContext) -> Any:
        ended = threading.Event()
        if context.add_callback(ended.set):
            ended.wait()
        return PREDICTION

    with pytest.raises(DeadlineExceededError) as caught:
        predict_with(hang, timeout_seconds=0.05)

    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("seconds", [0, -1.0, math.nan, math.inf, 86_401])
def test_a_timeout_out_of_range_is_refused(
    client: PredictionClient, seconds: float
) -> None:
    with pytest.raises(ValueError, match="at most a day"):
        PredictionClient("localhost:50051", timeout_seconds=seconds)
    with pytest.raises(ValueError, match="at most a day"):
        client.predict([1.0], timeout_seconds=seconds)


@pytest.mark.parametrize("status", [UNAVAILABLE, NO_MODEL], ids=["plain", "no-model"])
def test_unavailable_is_tried_again(status: Any) -> None:
    servicer = ScriptedServicer(status, PREDICTION)

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        client.predict([1.0])

    assert len(servicer.requests) == 2


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_attempts_end_at_the_maximum(max_attempts: int) -> None:
    servicer = ScriptedServicer(UNAVAILABLE)

    with (
        scripted_server(servicer) as target,
        PredictionClient(target, max_attempts=max_attempts) as client,
        pytest.raises(UnavailableError),
    ):
        client.get_model()

    assert len(servicer.requests) == max_attempts


@pytest.mark.parametrize(
    "code",
    [
        code
        for code in grpc.StatusCode
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
    ],
    ids=lambda code: code.name,
)
def test_no_other_error_is_tried_again(code: grpc.StatusCode) -> None:
    servicer = ScriptedServicer(status_of(code), PREDICTION)

    with (
        scripted_server(servicer) as target,
        PredictionClient(target) as client,
        pytest.raises(PredictionError) as caught,
    ):
        client.predict([1.0])

    assert caught.value.code is code
    assert len(servicer.requests) == 1


@pytest.mark.parametrize("max_attempts", [0, 6])
def test_a_number_of_attempts_that_grpc_does_not_take_is_refused(
    max_attempts: int,
) -> None:
    with pytest.raises(ValueError, match="must be from 1 to 5"):
        PredictionClient("localhost:50051", max_attempts=max_attempts)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInstanceError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, OverloadedError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineExceededError),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.UNKNOWN, ServerError),
        (grpc.StatusCode.DATA_LOSS, ServerError),
        (grpc.StatusCode.UNIMPLEMENTED, ServerError),
        (grpc.StatusCode.PERMISSION_DENIED, PredictionError),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_each_code_has_its_exception(
    code: grpc.StatusCode, expected: type[PredictionError]
) -> None:
    with pytest.raises(PredictionError) as caught:
        predict_with(status_of(code, "in the server's words"), max_attempts=1)

    assert type(caught.value) is expected
    assert str(caught.value) == f"{code.name}: in the server's words"
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_a_server_without_a_model_is_told_from_no_server() -> None:
    with pytest.raises(ModelUnavailableError, match="no model is loaded yet"):
        predict_with(NO_MODEL, max_attempts=1)


def test_an_invalid_instance_error_carries_the_violations() -> None:
    status = status_of(
        grpc.StatusCode.INVALID_ARGUMENT,
        "features[0]: nan is not allowed (and 1 more)",
        ErrorInfo(reason="INVALID_INSTANCE", domain="prediction.v1"),
        bad_request(
            ("features[0]", "nan is not allowed"), ("features[2]", "inf is not allowed")
        ),
    )

    with pytest.raises(InvalidInstanceError) as caught:
        predict_with(status)

    assert caught.value.violations == (
        FieldViolation("features[0]", "nan is not allowed"),
        FieldViolation("features[2]", "inf is not allowed"),
    )
    assert str(caught.value) == (
        "INVALID_ARGUMENT: features[0]: nan is not allowed (and 1 more); "
        "features[2]: inf is not allowed"
    )


def test_the_text_of_an_invalid_instance_error_is_bounded() -> None:
    violations = tuple(FieldViolation(f"features[{i}]", "is bad") for i in range(500))

    error = InvalidInstanceError(
        grpc.StatusCode.INVALID_ARGUMENT, "does not fit", violations
    )

    assert str(error).endswith("; features[9]: is bad; 490 more")


def test_an_overloaded_error_tells_when_to_come_back() -> None:
    retry = RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))

    with pytest.raises(OverloadedError) as caught:
        predict_with(status_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", retry))

    assert caught.value.retry_after_seconds == 1.5


def test_an_overloaded_error_without_a_time_has_none() -> None:
    with pytest.raises(OverloadedError) as caught:
        predict_with(status_of(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy"))

    assert caught.value.retry_after_seconds is None


def test_a_request_too_large_for_the_server_is_not_taken_for_overload(
    servicer: ScriptedServicer,
) -> None:
    with (
        scripted_server(
            servicer, options=[("grpc.max_receive_message_length", 100)]
        ) as target,
        PredictionClient(target) as client,
        pytest.raises(PredictionError, match="larger than max") as caught,
    ):
        client.predict([1.0] * 100)

    assert type(caught.value) is PredictionError


def test_options_replace_defaults() -> None:
    with pytest.raises(PredictionError, match="larger than max") as caught:
        predict_with(PREDICTION, options=[("grpc.max_receive_message_length", 1)])

    assert type(caught.value) is PredictionError


def test_a_request_beyond_the_default_limit_of_grpc_is_sent(
    servicer: ScriptedServicer,
) -> None:
    unlimited = [("grpc.max_receive_message_length", -1)]
    with (
        scripted_server(servicer, options=unlimited) as target,
        PredictionClient(target) as client,
    ):
        client.predict(np.ones(1_000_000))

    assert len(servicer.requests[0].features) == 1_000_000


@pytest.mark.parametrize(
    "details",
    [
        pytest.param(b"\xff", id="status"),
        pytest.param(
            Status(
                details=[
                    AnyMessage(
                        type_url="type.googleapis.com/google.rpc.BadRequest",
                        value=b"\xff",
                    )
                ]
            ).SerializeToString(),
            id="detail",
        ),
    ],
)
def test_details_that_cannot_be_read_do_not_hide_the_error(details: bytes) -> None:
    def abort(request: pb.PredictRequest, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata(
            (("request-id", "1"), ("grpc-status-details-bin", details))
        )
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "does not fit")

    with pytest.raises(InvalidInstanceError, match="does not fit") as caught:
        predict_with(abort)

    assert caught.value.violations == ()


def test_a_target_at_which_nothing_listens_is_an_unavailable_error() -> None:
    with (
        unused_target() as target,
        PredictionClient(target, max_attempts=2) as client,
        pytest.raises(UnavailableError, match=target) as caught,
    ):
        client.predict([1.0])

    assert type(caught.value) is UnavailableError


def test_a_server_that_goes_away_is_an_unavailable_error() -> None:
    with scripted_server(ScriptedServicer()) as target:
        client = PredictionClient(target, max_attempts=2)
        client.predict([1.0])

    with client, pytest.raises(UnavailableError):
        client.predict([1.0])


def test_a_client_finds_a_server_that_came_back(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/prediction.sock"
    with PredictionClient(address) as client:
        with scripted_server(ScriptedServicer(), address=address):
            client.predict([1.0])
        with pytest.raises(UnavailableError):
            client.predict([1.0])

        with scripted_server(health_of_a_ready_server(), address=address):
            client.wait_until_ready(timeout_seconds=60)


def health_of_a_ready_server() -> health.HealthServicer:
    servicer = health.HealthServicer()
    servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def test_another_kind_of_server_is_a_server_error() -> None:
    with (
        scripted_server(health.HealthServicer()) as target,
        PredictionClient(target) as client,
        pytest.raises(ServerError) as caught,
    ):
        client.predict([1.0])

    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


class BrokenServer(grpc.GenericRpcHandler):
    """Answers every call with OK and these messages, as bytes."""

    def __init__(self, *messages: bytes) -> None:
        self._messages = messages

    def service(self, handler_call_details: object) -> Any:
        return grpc.unary_stream_rpc_method_handler(
            lambda request, context: iter(self._messages)
        )


@pytest.mark.parametrize("messages", [(b"\xff",), ()], ids=["broken", "none"])
def test_an_answer_that_is_no_message_is_a_server_error(
    messages: tuple[bytes, ...],
) -> None:
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((BrokenServer(*messages),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with PredictionClient(f"127.0.0.1:{port}") as client:
            for call in (
                lambda: client.predict([1.0]),
                lambda: client.predict_frame(pd.DataFrame({"a": [1.0]})),
                client.get_model,
                client.is_ready,
            ):
                with pytest.raises(ServerError) as caught:
                    call()
                assert caught.value.code is grpc.StatusCode.INTERNAL
        server.stop(None).wait()


def exception_classes() -> list[type[PredictionError]]:
    """Return the base class and all below it."""
    classes = [PredictionError]
    for cls in classes:
        classes.extend(cls.__subclasses__())
    return classes


@pytest.mark.parametrize("cls", exception_classes())
@pytest.mark.parametrize(
    "copied",
    [copy.copy, lambda e: pickle.loads(pickle.dumps(e))],
    ids=["copy", "pickle"],
)
def test_exceptions_survive_copying(cls: type[PredictionError], copied: Any) -> None:
    error = cls(grpc.StatusCode.UNAVAILABLE, "gone")

    twin = copied(error)

    assert type(twin) is cls
    assert vars(twin) == vars(error)
    assert str(twin) == str(error) == "UNAVAILABLE: gone"


def test_pickling_keeps_what_an_exception_carries() -> None:
    code = grpc.StatusCode.INVALID_ARGUMENT
    invalid = InvalidInstanceError(code, "bad", [FieldViolation("features[0]", "is")])
    overloaded = OverloadedError(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", 0.5)

    invalid_twin = pickle.loads(pickle.dumps(invalid))
    overloaded_twin = pickle.loads(pickle.dumps(overloaded))

    assert invalid_twin.violations == (FieldViolation("features[0]", "is"),)
    assert overloaded_twin.retry_after_seconds == 0.5


def test_an_error_without_a_message_shows_its_code() -> None:
    assert str(PredictionError(grpc.StatusCode.ABORTED, "")) == "ABORTED"


@pytest.mark.parametrize(
    ("status", "expected", "ready"),
    [
        (
            health_pb2.HealthCheckResponse.SERVING,
            HealthStatus.SERVING,
            True,
        ),
        (
            health_pb2.HealthCheckResponse.NOT_SERVING,
            HealthStatus.NOT_SERVING,
            False,
        ),
        (health_pb2.HealthCheckResponse.UNKNOWN, HealthStatus.UNKNOWN, False),
        (
            health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
            HealthStatus.SERVICE_UNKNOWN,
            False,
        ),
    ],
    ids=lambda value: str(value),
)
def test_health_is_what_the_server_answers(
    status: Any, expected: HealthStatus, ready: bool
) -> None:
    servicer = health.HealthServicer()
    servicer.set(SERVICE, status)

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        assert client.health() is expected
        assert client.is_ready() is ready
        assert client.health("") is HealthStatus.SERVING


def test_health_of_a_service_that_the_server_does_not_know() -> None:
    with (
        scripted_server(health.HealthServicer()) as target,
        PredictionClient(target) as client,
    ):
        assert client.health("no.such.Service") is HealthStatus.SERVICE_UNKNOWN
        assert not client.is_ready()


def test_no_server_is_not_ready_and_has_no_health() -> None:
    with unused_target() as target, PredictionClient(target) as client:
        assert not client.is_ready()
        with pytest.raises(UnavailableError):
            client.health()


def test_a_server_without_a_health_service_is_neither_ready_nor_not(
    client: PredictionClient,
) -> None:
    with pytest.raises(ServerError) as caught:
        client.is_ready()

    assert caught.value.code is grpc.StatusCode.UNIMPLEMENTED


# The standard servicer has no types.
class CountingHealthServicer(health.HealthServicer):  # type: ignore[misc]
    """Serves from the n-th check on. Before, it fails or answers NOT_SERVING."""

    def __init__(self, serving_at: int, code: grpc.StatusCode | None = None) -> None:
        super().__init__()
        self.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._serving_at = serving_at
        self._code = code
        self.count = 0

    def Check(self, request: Any, context: Any) -> Any:
        self.count += 1
        if self.count >= self._serving_at:
            self.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        elif self._code is not None:
            context.abort(self._code, "not now")
        return super().Check(request, context)


def test_a_question_of_health_is_asked_once() -> None:
    servicer = CountingHealthServicer(2, grpc.StatusCode.UNAVAILABLE)

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        assert not client.is_ready()

    assert servicer.count == 1


@pytest.mark.parametrize(
    "code",
    [None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED],
    ids=str,
)
def test_wait_until_ready_returns_when_the_server_is(
    code: grpc.StatusCode | None,
) -> None:
    servicer = CountingHealthServicer(3, code)

    with scripted_server(servicer) as target, PredictionClient(target) as client:
        client.wait_until_ready(timeout_seconds=60)

    assert servicer.count == 3


def test_wait_until_ready_tells_what_it_waited_for() -> None:
    servicer = CountingHealthServicer(1_000_000)

    with (
        scripted_server(servicer) as target,
        PredictionClient(target) as client,
        pytest.raises(DeadlineExceededError) as caught,
    ):
        client.wait_until_ready(timeout_seconds=0.15)

    expected = f"{target} was not ready within 0.15 s: its health is NOT_SERVING"
    assert caught.value.message == expected


def test_a_closed_client_says_so(servicer: ScriptedServicer) -> None:
    with scripted_server(servicer) as target:
        with PredictionClient(target) as client:
            client.predict([1.0])
        client.close()

        with pytest.raises(RuntimeError, match="is closed"):
            client.predict([1.0])


def test_many_threads_share_a_client() -> None:
    def echo(request: pb.PredictRequest, context: grpc.ServicerContext) -> Any:
        return pb.PredictResponse(probabilities=request.features)

    with (
        scripted_server(ScriptedServicer(echo)) as target,
        PredictionClient(target, timeout_seconds=60) as client,
        ThreadPoolExecutor(16) as pool,
    ):
        answers = list(pool.map(lambda i: client.predict([i]), range(400)))

    assert [answer.probabilities for answer in answers] == [(i,) for i in range(400)]


def test_calls_go_to_all_servers_in_turn() -> None:
    servicers = [ScriptedServicer(), ScriptedServicer()]

    with (
        scripted_server(servicers[0]) as first,
        scripted_server(servicers[1]) as second,
        PredictionClient(f"ipv4:{first},{second}") as client,
    ):
        # The second connection may come after the first calls.
        for _ in range(10_000):
            client.predict([1.0])
            if all(servicer.requests for servicer in servicers):
                break

    assert all(servicer.requests for servicer in servicers)


@pytest.mark.parametrize("scheme", ["", "dns:///", "ipv4:"])
def test_a_target_has_a_scheme_or_none(servicer: ScriptedServicer, scheme: str) -> None:
    with (
        scripted_server(servicer) as target,
        PredictionClient(f"{scheme}{target}") as client,
    ):
        client.predict([1.0])

    assert len(servicer.requests) == 1


def test_a_target_may_be_a_unix_socket(
    servicer: ScriptedServicer, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/prediction.sock"

    with (
        scripted_server(servicer, address=address),
        PredictionClient(address) as client,
    ):
        client.predict([1.0])

    assert len(servicer.requests) == 1


@pytest.mark.parametrize(
    "target",
    [
        "",
        "localhost",
        ":50051",
        "localhost:0",
        "localhost:65536",
        "localhost:http",
        "http://localhost:50051",
        "user@localhost:50051",
        "local host:50051",
        "unix:",
    ],
)
def test_a_target_that_can_never_be_reached_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="give host:port, such as localhost:50051"):
        PredictionClient(target)


def test_loopback_is_reached_without_the_proxy_of_the_environment(
    servicer: ScriptedServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unused_target() as proxy, scripted_server(servicer) as target:
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        with PredictionClient(target, max_attempts=1) as client:
            client.predict([1.0])

    assert len(servicer.requests) == 1


def test_credentials_encrypt(servicer: ScriptedServicer) -> None:
    credentials = grpc.local_server_credentials()

    with scripted_server(servicer, credentials=credentials) as target:
        with PredictionClient(
            target, credentials=grpc.local_channel_credentials()
        ) as client:
            client.predict([1.0])

    assert len(servicer.requests) == 1


def test_the_repr_shows_the_target() -> None:
    with PredictionClient("localhost:50051") as client:
        assert repr(client) == "PredictionClient('localhost:50051')"


def test_the_exports_are_complete_and_sorted() -> None:
    modules = tuple(
        f"prediction.{name}"
        for name in ("_async_client", "_client", "_errors", "_models", "_tracing")
    )
    public = {
        name
        for name, value in vars(prediction).items()
        if not name.startswith("_") and getattr(value, "__module__", None) in modules
    }

    assert prediction.__all__ == sorted(prediction.__all__)
    assert set(prediction.__all__) == public


def test_an_import_is_light() -> None:
    # grpc imports its own installed extensions, which do not count.
    program = (
        f"import sys; sys.path.insert(0, {str(CLIENT_ROOT)!r})\n"
        "def packages(): return {name.split('.')[0] for name in sys.modules}\n"
        "import grpc; before = packages()\n"
        "import prediction.__main__; new = packages() - before\n"
        "print(*sorted(new - set(sys.stdlib_module_names)))"
    )

    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert run.stdout.split() == ["google", "prediction"]
    assert run.stderr == ""


def test_the_distribution_has_the_license_of_the_project() -> None:
    project = tomllib.loads((CLIENT_ROOT / "pyproject.toml").read_text())["project"]

    assert project["license-files"] == ["LICENSE"]
    assert (CLIENT_ROOT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
