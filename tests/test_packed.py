"""Packed rows give the bits of the other forms of a batch, and errors name what does not fit."""

import re
import struct
from collections.abc import Callable
from math import exp, inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from grpc_server.doubles import read_probabilities
from grpc_server.errors import BatchTooLarge, CallError, InvalidInstance
from grpc_server.metrics import Metrics
from grpc_server.model import ModelSlot, arrays, load_model
from grpc_server.model.arrays import add_down, add_up, exp_of
from grpc_server.model.kinds import Boolean, IntegerCategories, TextCategories
from grpc_server.model.logistic_regression import LogisticRegression
from grpc_server.model.schema import Feature, InputSchema
from grpc_server.rpc.batch import read_batch
from grpc_server.rpc.requests import decode
from grpc_server.rpc.servicer import PredictionServicer
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    BoolValues,
    Column,
    DoubleValues,
    PackedRows,
    PredictRequest,
    StreamPredictRequest,
    StringValues,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from support import (
    ROOT,
    artifact_without_estimator,
    lightgbm_artifact,
    running_server,
    write_artifact,
)
from wire import violations

Serve = Callable[[ModelArtifact], PredictionServiceStub]
MAX_ROWS = 100
PAGE = ROOT / "docs" / "batches.md"
NUMERIC = InputSchema((Feature("a", nullable=True), Feature("b", nullable=False)))
MIXED = InputSchema(
    (
        Feature("a", nullable=True),
        Feature("yes", True, Boolean()),
        Feature("level", True, IntegerCategories({7: 0.0, -3: 1.0}, False)),
        Feature("city", False, TextCategories({"Oslo": 0.0, "Rome": 1.0}, True)),
    )
)


def pack(rows: Any, *names: str, columns: Any = ()) -> BatchPredictRequest:
    """Return a request with packed rows."""
    values = np.asarray(rows, "<f8").tobytes()
    packed = PackedRows(values=values, names=names)
    return BatchPredictRequest(packed_rows=packed, columns=columns)


def cities(*names: str) -> Column:
    return Column(name="city", strings=StringValues(values=names))


def problems(schema: InputSchema, request: BatchPredictRequest) -> list[Any]:
    with pytest.raises(InvalidInstance) as caught:
        read_batch(schema, request, MAX_ROWS)
    return [(v.field, v.description) for v in caught.value.violations]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_packed_rows_have_the_probabilities_of_lightgbm(
    serve: Serve, n_classes: int
) -> None:
    artifact, rows, expected = lightgbm_artifact(n_classes)
    request = pack(rows)
    request.pack_probabilities = True

    response = serve(artifact).BatchPredict(request)

    assert list(read_probabilities(response)) == expected.ravel().tolist()
    assert not response.probabilities
    assert list(response.positions) == expected.argmax(axis=1).tolist()


def test_only_who_asks_gets_packed_probabilities(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)
    plain = stub.BatchPredict(pack([[1.0, 2.0]]))
    request = BatchPredictRequest(values=[1.0, 2.0], pack_probabilities=True)
    packed = stub.BatchPredict(request)

    assert list(plain.probabilities) == list(
        struct.unpack("<2d", packed.packed_probabilities)
    )
    assert not plain.packed_probabilities and not packed.probabilities


NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 5e-324, 1e300, nan])


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(NUMBERS, NUMBERS.filter(lambda x: x == x)), min_size=1))
def test_the_forms_of_a_batch_are_the_same_matrix(
    rows: list[tuple[float, float]],
) -> None:
    n_rows = len(rows)
    columns = [
        Column(name=name, doubles=DoubleValues(values=values))
        for name, values in zip("ab", zip(*rows, strict=True), strict=True)
    ]
    turned = [(b, a) for a, b in rows]
    requests = [
        BatchPredictRequest(values=[cell for row in rows for cell in row]),
        BatchPredictRequest(columns=columns),
        pack(rows),
        pack(rows, "a", "b"),
        pack(turned, "b", "a"),
        pack([row[:1] for row in rows], "a", columns=columns[1:]),
        pack([row[1:] for row in rows], columns=columns[:1]),
    ]

    matrices = [read_batch(NUMERIC, request, n_rows) for request in requests]

    assert {X.tobytes() for X in matrices} == {np.array(rows).tobytes()}
    assert all(X.flags.c_contiguous and X.flags.aligned for X in matrices)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            NUMBERS,
            st.sampled_from([0.0, 1.0, nan]),
            st.sampled_from([7.0, -3.0, 4.0, nan]),
            st.sampled_from(["Oslo", "Rome"]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_packed_kinds_are_encoded_as_columns_are(rows: list[Any]) -> None:
    a, yes, level, city = map(list, zip(*rows, strict=True))
    gaps = [row for row, value in enumerate(yes) if value != value]
    truths = BoolValues(values=[value == 1 for value in yes])
    columns = [
        Column(name="a", doubles=DoubleValues(values=a)),
        Column(name="yes", booleans=truths, missing_rows=gaps),
        Column(name="level", doubles=DoubleValues(values=level)),
        cities(*city),
    ]

    packed = pack(np.column_stack([a, yes, level]), columns=columns[3:])
    named = pack(np.column_stack([level, yes]), "level", "yes")
    named.columns.extend([columns[3], columns[0]])

    expected = read_batch(MIXED, BatchPredictRequest(columns=columns), MAX_ROWS)
    assert read_batch(MIXED, packed, MAX_ROWS).tobytes() == expected.tobytes()
    assert read_batch(MIXED, named, MAX_ROWS).tobytes() == expected.tobytes()


@pytest.mark.parametrize("n_bytes", [0, 1, 8, 15, 17, 24])
def test_bytes_that_are_no_whole_rows_are_refused(n_bytes: int) -> None:
    request = BatchPredictRequest(packed_rows=PackedRows(values=bytes(n_bytes)))

    assert problems(NUMERIC, request) == [
        (
            "packed_rows.values",
            f"{n_bytes} bytes came; one or more rows of 2 doubles of 8 bytes are needed: a, b",
        )
    ]


@pytest.mark.parametrize(
    ("schema", "request_", "expected"),
    [
        (
            NUMERIC,
            pack([[1.0, nan], [-inf, 1.0]]),
            [
                (
                    "packed_rows.values[1]",
                    'nan is not allowed in row 0 for "b", which takes a finite number',
                ),
                (
                    "packed_rows.values[2]",
                    '-inf is not allowed in row 1 for "a", which takes a finite number or NaN',
                ),
            ],
        ),
        (
            MIXED,
            pack([[1.0, 0.5, 7.5]], columns=[cities("Oslo")]),
            [
                (
                    "packed_rows.values[1]",
                    '0.5 is not allowed in row 0 for "yes", which takes 0 or 1 or NaN',
                ),
                (
                    "packed_rows.values[2]",
                    '7.5 is not allowed in row 0 for "level", which takes a whole number such as '
                    "7, -3 or NaN",
                ),
            ],
        ),
        (
            NUMERIC,
            BatchPredictRequest(values=[1.0, 2.0], packed_rows=PackedRows()),
            [("packed_rows", "cannot be sent with values; send one of the two")],
        ),
        (
            NUMERIC,
            pack([[1.0, 2.0, 3.0]], "a", "a", "c"),
            [
                ("packed_rows.names[1]", '"a" occurs more than once'),
                (
                    "packed_rows.names[2]",
                    '"c" is not a feature of the model, which has: a, b',
                ),
            ],
        ),
        (
            MIXED,
            pack([[1.0] * 4]),
            [
                (
                    "packed_rows.names[3]",
                    '"city" has texts, which cannot be packed; send it in columns',
                )
            ],
        ),
        (
            MIXED,
            pack([[1.0]], "a", columns=[cities("Oslo", "Rome")]),
            [
                (
                    'columns["yes"]',
                    "is missing; it takes booleans, each true or false or null",
                ),
                (
                    'columns["level"]',
                    "is missing; it takes doubles, each a whole number such as 7, -3 or null",
                ),
                (
                    'columns["city"].strings.values',
                    "2 came; 1 are needed, as many as packed_rows has",
                ),
            ],
        ),
        (
            NUMERIC,
            pack(
                [[1.0, 2.0]],
                "b",
                "a",
                columns=[Column(name="a", doubles=DoubleValues(values=[1.0]))],
            ),
            [('columns["a"]', "is in packed_rows, too; send it in one of the two")],
        ),
        (
            InputSchema((Feature("a", False),)),
            pack(
                [[1.0]], columns=[Column(name="a", doubles=DoubleValues(values=[1.0]))]
            ),
            [("packed_rows", "has no column: `columns` holds all features")],
        ),
    ],
    ids=[
        "infinity and a gap",
        "kinds",
        "values too",
        "names",
        "texts",
        "ragged",
        "twice",
        "nothing left",
    ],
)
def test_packed_rows_that_do_not_fit_are_refused_by_name(
    schema: InputSchema, request_: BatchPredictRequest, expected: list[Any]
) -> None:
    assert problems(schema, request_) == expected


def test_too_many_packed_rows_are_refused() -> None:
    with pytest.raises(BatchTooLarge, match="101 rows"):
        read_batch(NUMERIC, pack(np.zeros((101, 2))), MAX_ROWS)


def test_a_million_wrong_values_are_counted() -> None:
    with pytest.raises(InvalidInstance) as caught:
        read_batch(NUMERIC, pack(np.full((500_000, 2), inf)), 500_000)

    assert caught.value.metadata["n_violations"] == "1000000"


def test_an_overflow_is_named_by_its_row(serve: Serve) -> None:
    artifact = artifact_without_estimator(2, 2)
    artifact.logistic_regression.coefficients.extend([3.0, -3.0])
    artifact.logistic_regression.intercepts.append(0.0)
    half = [0.5, 0.5]
    artifact.golden_examples.add(features=[0.0, 0.0], probabilities=half, label="0")
    stub = serve(artifact)
    request = pack([[1.0, 1.0], [1.7e308, 1.7e308]], "f1", "f0")

    found = violations(lambda: stub.BatchPredict(request))

    assert found[0][0] == "packed_rows.values[2]"


def test_a_batch_has_the_bits_of_each_row_alone(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)
    rows = np.random.default_rng(0).normal(2, 300, size=(50, 2))

    batch = stub.BatchPredict(pack(rows))

    alone = [stub.Predict(PredictRequest(features=row)) for row in rows]
    assert list(batch.probabilities) == [p for a in alone for p in a.probabilities]
    assert [batch.classes[p] for p in batch.positions] == [a.label for a in alone]


def test_the_example_of_the_page_runs(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)

    with running_server(write_artifact(tmp_path, logistic_artifact)) as server:
        names: dict[str, Any] = {}
        exec(example.replace("localhost:50051", f"127.0.0.1:{server.port}"), names)

    probabilities = names["probabilities"]
    assert len(probabilities) == 4
    assert sum(probabilities[:2]) == pytest.approx(1) == sum(probabilities[2:])


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (2, 300), (3, 64), (7, 3), (262, 500), (20_000, 11)]
)
def test_linear_models_have_the_same_bits_in_blocks_and_alone(
    shape: tuple[int, int],
) -> None:
    rng = np.random.default_rng(0)
    X = np.where(rng.random(shape) < 0.1, nan, rng.normal(size=shape) * 10)
    for n_outputs in (1, 3):
        estimator = LogisticRegression(
            tuple(map(tuple, rng.normal(size=(n_outputs, shape[1])).tolist())),
            tuple(rng.normal(size=n_outputs).tolist()),
            tuple(rng.normal(size=shape[1]).tolist()),
            tuple(rng.normal(size=shape[1]).tolist()),
        )

        found = estimator.predict_batch(X)

        rows = range(0, shape[0], max(1, shape[0] // 100))
        alone = [estimator.predict_probabilities(X[row].tolist()) for row in rows]
        assert found[list(rows)].tolist() == [list(one) for one in alone]


def test_the_exponential_of_a_batch_is_that_of_a_row() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            -rng.exponential(10, 200_000),
            -np.logspace(-320, 308, 20_000),
            [0.0, -0.0, -5e-324, -745.13, -745.14, -inf],
        ]
    )

    found = exp_of(values)

    assert found.tolist() == list(map(exp, values.tolist()))
    assert np.isnan(exp_of(np.array([nan]))).all()


def test_a_library_whose_complex_exponential_differs_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrays, "_complex_exp_agrees", lambda: False)
    values = -np.random.default_rng(0).exponential(10, 1000)

    assert exp_of(values).tolist() == list(map(exp, values.tolist()))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_sums_of_columns_have_the_bits_of_sums_one_by_one(
    n_terms: int, n_rows: int, seed: int
) -> None:
    terms = np.random.default_rng(seed).normal(size=(n_terms, n_rows)) * 1e10

    found = add_down(terms)

    assert found.tolist() == [add_up(column.tolist()) for column in terms.T]


def test_positions_beyond_a_byte_are_whole(tmp_path: Path) -> None:
    """A varint of more than seven bits has two bytes."""
    n_classes = 300
    artifact = artifact_without_estimator(1, n_classes)
    linear = artifact.logistic_regression
    linear.coefficients.extend(np.arange(float(n_classes)) * 2)
    linear.intercepts.extend(-(np.arange(float(n_classes)) ** 2))
    share = np.exp(linear.intercepts - np.max(linear.intercepts))
    share /= share.sum()
    artifact.golden_examples.add(features=[0.0], probabilities=share, label="0")
    slot = ModelSlot()
    slot.put(load_model(write_artifact(tmp_path, artifact)))
    servicer = PredictionServicer(slot, Metrics(CollectorRegistry()), MAX_ROWS)
    wanted = [0, 5, 127, 128, 129, 255, 256, 299]

    nobody: Any = None
    reply = servicer.BatchPredict(pack([[float(row)] for row in wanted]), nobody)

    assert list(reply.positions) == wanted
    assert len(reply.probabilities) == n_classes * len(wanted)


NAMES = st.lists(st.sampled_from(["a", "b", "c", "city", "", "ü" * 200]), max_size=5)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=100), NAMES, NAMES, st.binary(max_size=30))
def test_hostile_packed_rows_are_a_matrix_or_an_error_of_the_caller(
    values: bytes, names: list[str], beside: list[str], garbage: bytes
) -> None:
    request = BatchPredictRequest(
        packed_rows=PackedRows(values=values, names=names),
        columns=[Column(name=n, doubles=DoubleValues(values=[1.0])) for n in beside],
    )
    for schema in (NUMERIC, MIXED):
        try:
            sent = decode(BatchPredictRequest, request.SerializeToString() + garbage)
            X = read_batch(schema, sent, MAX_ROWS)
        except CallError as error:
            assert len(str(error)) < 4000
        else:
            assert X.shape[1] == len(schema.features) and not np.isinf(X).any()


def test_a_chunk_of_packed_rows_is_answered_and_refused_by_its_number(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)
    chunks = [
        StreamPredictRequest(chunk=pack(rows)) for rows in ([[1.0, 2.0]], [[1.0, inf]])
    ]
    answers = stub.StreamPredict(iter(chunks))

    first = next(answers).chunk

    assert first == stub.BatchPredict(chunks[0].chunk)
    found = violations(lambda: next(answers))
    assert found[0][0] == "chunks[1].packed_rows.values[1]"
