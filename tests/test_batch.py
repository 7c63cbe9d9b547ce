"""Batches answer like single rows, and errors name every wrong field."""

import sys
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from grpc_server.errors import InvalidInstance
from grpc_server.model.schema import InputSchema
from grpc_server.rpc.batch import read_batch
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    BoolValues,
    Column,
    PredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from support import (
    artifact_without_estimator,
    connect,
    lightgbm_artifact,
    running_server,
    wait_for,
)
from wire import count_handled, failure, read_metrics, reason, samples, violations

Serve = Callable[[ModelArtifact], PredictionServiceStub]


def doubles(name: str, values: Any, missing_rows: Any = ()) -> Column:
    column = Column(name=name, missing_rows=missing_rows)
    column.doubles.values.extend(values)
    return column


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_batch_by_position_has_the_probabilities_of_lightgbm(
    serve: Serve, n_classes: int
) -> None:
    artifact, rows, expected = lightgbm_artifact(n_classes)

    response = serve(artifact).BatchPredict(BatchPredictRequest(values=rows.ravel()))

    assert list(response.probabilities) == expected.ravel().tolist()
    assert list(response.positions) == expected.argmax(axis=1).tolist()
    assert list(response.classes) == [str(label) for label in range(n_classes)]
    assert response.model == "LightGBM"
    assert response.model_version.startswith("sha256:")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_batch_by_columns_is_the_same_in_any_order(
    serve: Serve, n_classes: int
) -> None:
    artifact, rows, expected = lightgbm_artifact(n_classes)
    missing = np.flatnonzero(np.isnan(rows[:, 0]))
    filled = np.where(np.isnan(rows), -1e9, rows)
    columns = [doubles(f"f{j}", filled[:, j]) for j in reversed(range(rows.shape[1]))]
    columns[-1].missing_rows.extend(missing)

    response = serve(artifact).BatchPredict(BatchPredictRequest(columns=columns))

    assert list(response.probabilities) == expected.ravel().tolist()


def test_a_batch_is_bit_by_bit_what_each_row_is_alone(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)
    rows = np.random.default_rng(0).normal(2, 3, size=(50, 2))

    batch = stub.BatchPredict(BatchPredictRequest(values=rows.ravel()))

    alone = [stub.Predict(PredictRequest(features=row)) for row in rows]
    assert list(batch.probabilities) == [p for a in alone for p in a.probabilities]
    assert [batch.classes[p] for p in batch.positions] == [a.label for a in alone]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            BatchPredictRequest(),
            [
                (
                    "values",
                    "0 values came; one or more rows of 2 values are needed: f0, f1",
                )
            ],
        ),
        (
            BatchPredictRequest(values=[1.0, 2.0, 3.0]),
            [
                (
                    "values",
                    "3 values came; one or more rows of 2 values are needed: f0, f1",
                )
            ],
        ),
        (
            BatchPredictRequest(values=[1.0, 2.0, nan, -inf]),
            [
                (
                    "values[2]",
                    'nan is not allowed in row 1 for "f0", which takes a finite number',
                ),
                (
                    "values[3]",
                    '-inf is not allowed in row 1 for "f1", which takes a finite number',
                ),
            ],
        ),
        (
            BatchPredictRequest(values=[1.0], columns=[doubles("f0", [1.0])]),
            [("columns", "cannot be sent with values; send one of the two")],
        ),
        (
            BatchPredictRequest(
                columns=[doubles("f0", [1.0, nan]), doubles("f1", [inf, 1.0])]
            ),
            [
                (
                    'columns["f0"].doubles.values[1]',
                    "nan is not allowed; it takes a finite number",
                ),
                (
                    'columns["f1"].doubles.values[0]',
                    "inf is not allowed; it takes a finite number",
                ),
            ],
        ),
        (
            BatchPredictRequest(
                columns=[doubles("f0", [1.0]), doubles("f0", [1.0]), doubles("x", [1])]
            ),
            [
                ('columns["f0"]', "occurs more than once"),
                ('columns["x"]', "is not a feature of the model, which has: f0, f1"),
                (
                    'columns["f1"]',
                    "is missing; it takes doubles, each a finite number",
                ),
            ],
        ),
        (
            BatchPredictRequest(
                columns=[
                    Column(name="f0"),
                    Column(name="f1", booleans=BoolValues(values=[True])),
                ]
            ),
            [
                (
                    'columns["f0"]',
                    "no values came; it takes doubles, each a finite number",
                ),
                (
                    'columns["f1"]',
                    "booleans came; it takes doubles, each a finite number",
                ),
            ],
        ),
        (
            BatchPredictRequest(
                columns=[doubles("f0", [1.0, 2.0]), doubles("f1", [1.0])]
            ),
            [
                (
                    'columns["f1"].doubles.values',
                    '1 came; 2 are needed, as many as columns["f0"] has',
                )
            ],
        ),
        (
            BatchPredictRequest(columns=[doubles("f0", []), doubles("f1", [])]),
            [
                ('columns["f0"].doubles.values', "0 came; one or more are needed"),
                ('columns["f1"].doubles.values', "0 came; one or more are needed"),
            ],
        ),
        (
            BatchPredictRequest(
                columns=[doubles("f0", [1.0], [0]), doubles("f1", [1.0], [1])]
            ),
            [
                (
                    'columns["f0"].doubles.values[0]',
                    "is missing; it takes a finite number",
                ),
                (
                    'columns["f1"].missing_rows[0]',
                    "1 is not a row number; the rows are 0 to 0",
                ),
            ],
        ),
    ],
)
def test_every_wrong_field_of_a_batch_is_named(
    serve: Serve,
    logistic_artifact: ModelArtifact,
    request_: BatchPredictRequest,
    expected: list[tuple[str, str]],
) -> None:
    stub = serve(logistic_artifact)

    assert violations(lambda: stub.BatchPredict(request_)) == expected


@pytest.mark.parametrize("by_columns", [False, True])
def test_of_many_wrong_fields_the_rest_is_counted(
    serve: Serve, logistic_artifact: ModelArtifact, by_columns: bool
) -> None:
    stub = serve(logistic_artifact)
    request = BatchPredictRequest(values=[nan] * 10_000)
    if by_columns:
        columns = [doubles(f"f{j}", [nan] * 5_000) for j in range(2)]
        request = BatchPredictRequest(columns=columns)

    found = violations(lambda: stub.BatchPredict(request))

    assert len(found) == 13
    assert found[-1] == ("*", "9988 more fields do not fit")


def test_more_missing_rows_than_rows_are_counted_and_not_read(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    for feature in logistic_artifact.input_schema.features:
        feature.nullable = True
    logistic_artifact.logistic_regression.imputed_values.extend([0.0, 0.0])
    stub = serve(logistic_artifact)
    columns = [doubles("f0", [1.0, 2.0], [1, 1]), doubles("f1", [1.0, 2.0], [7] * 50)]

    found = violations(lambda: stub.BatchPredict(BatchPredictRequest(columns=columns)))

    assert found == [
        ('columns["f1"].missing_rows', "50 came; at most 2 are allowed, one per row")
    ]


def calls_during(read: Callable[[], object]) -> int:
    """Return how many calls of functions `read` makes until it raises InvalidInstance."""
    n_calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal n_calls
        n_calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        read()
    except InvalidInstance:
        return n_calls
    finally:
        sys.setprofile(before)
    raise AssertionError("nothing was refused")


N_ROWS = 10_000
REFUSED = {
    "values": BatchPredictRequest(values=[nan] * 2 * N_ROWS),
    "columns": BatchPredictRequest(
        columns=[doubles(f"f{j}", [nan] * N_ROWS) for j in range(2)]
    ),
    "missing rows": BatchPredictRequest(
        columns=[doubles(f"f{j}", [1.0] * N_ROWS, range(N_ROWS)) for j in range(2)]
    ),
    "no rows": BatchPredictRequest(
        columns=[doubles(f"f{j}", [1.0] * N_ROWS, [N_ROWS] * N_ROWS) for j in range(2)]
    ),
    "unknown columns": BatchPredictRequest(
        columns=[Column(name=str(j)) for j in range(N_ROWS)]
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_not_told_is_not_looked_at(
    name: str, logistic_artifact: ModelArtifact
) -> None:
    schema = InputSchema.from_message(logistic_artifact.input_schema)

    assert calls_during(lambda: read_batch(schema, REFUSED[name], N_ROWS)) < 2_000


def test_unknown_members_that_are_not_told_are_not_looked_at(
    logistic_artifact: ModelArtifact,
) -> None:
    schema = InputSchema.from_message(logistic_artifact.input_schema)
    request = PredictRequest()
    for number in range(N_ROWS):
        request.record.fields[str(number)].number_value = 1.0

    def read() -> object:
        return schema.row_from_record(request.record.fields)

    assert calls_during(read) < 2_000
    with pytest.raises(InvalidInstance, match=rf"\(and {N_ROWS + 1} more\)"):
        read()


SCRIPTS = {
    "ASCII": "k",
    "2 bytes": "é",
    "4 bytes": "\N{GRINNING FACE}",
    "control": "\1",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_errors_in_any_script_reach_their_callers(serve: Serve, script: str) -> None:
    """Beyond 8 KiB of headers, gRPC turns some errors into RESOURCE_EXHAUSTED, at random."""
    text = SCRIPTS[script] * 100
    artifact = artifact_without_estimator(10, 2)
    for number, feature in enumerate(artifact.input_schema.features):
        feature.name = f"{number}é{text}"
    artifact.logistic_regression.coefficients.extend([0.0] * 10)
    artifact.logistic_regression.intercepts.append(0.0)
    artifact.golden_examples.add(
        features=[0.0] * 10, probabilities=[0.5, 0.5], label="0"
    )
    stub = serve(artifact)
    unknown, wrong = PredictRequest(), PredictRequest()
    batch = BatchPredictRequest()
    for number in range(40):
        unknown.record.fields[f"{number}{text}"].string_value = text
        batch.columns.add(name=f"{number}{text}").doubles.values.append(1.0)
    for feature in artifact.input_schema.features:
        wrong.record.fields[feature.name].string_value = text

    for _ in range(25):
        for call in (
            lambda: stub.Predict(unknown),
            lambda: stub.Predict(wrong),
            lambda: stub.BatchPredict(batch),
        ):
            found = violations(call)
            assert all(
                shown.isprintable() for violation in found for shown in violation
            )


@pytest.mark.parametrize("by_columns", [False, True])
def test_more_rows_than_the_server_takes_are_refused(
    model_dir: Path, lane: str, by_columns: bool
) -> None:
    def request(n_rows: int) -> BatchPredictRequest:
        if not by_columns:
            return BatchPredictRequest(values=[1.0] * 2 * n_rows)
        columns = [doubles(f"f{j}", [1.0] * n_rows) for j in range(2)]
        return BatchPredictRequest(columns=columns)

    with running_server(model_dir, lane, max_batch_rows=5) as server:
        with connect(server) as stub:
            assert len(stub.BatchPredict(request(5)).positions) == 5
            error = failure(lambda: stub.BatchPredict(request(6)))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "BATCH_TOO_LARGE"
    assert error.details() == (
        "6 rows came; at most 5 are allowed per call; send fewer, or raise the server's flag "
        "--max-batch-rows"
    )


def test_a_batch_of_as_many_rows_as_the_defaults_allow_is_answered(
    serve: Serve,
) -> None:
    """The help of --max-batch-rows promises 200 numbers a row."""
    artifact = artifact_without_estimator(200, 2)
    artifact.logistic_regression.coefficients.extend([0.0] * 200)
    artifact.logistic_regression.intercepts.append(0.0)
    artifact.golden_examples.add(
        features=[0.0] * 200, probabilities=[0.5, 0.5], label="0"
    )

    response = serve(artifact).BatchPredict(
        BatchPredictRequest(values=np.ones(10_000 * 200))
    )

    assert list(response.positions) == [0] * 10_000


def test_the_metrics_count_each_row_of_a_batch(model_dir: Path, lane: str) -> None:
    with running_server(model_dir, lane) as server, connect(server) as stub:
        stub.BatchPredict(BatchPredictRequest(values=[1.0, 3.0, -9.0, 3.0, 1.0, 3.0]))
        stub.Predict(PredictRequest(features=[1.0, 3.0]))
        failure(lambda: stub.BatchPredict(BatchPredictRequest(values=[1.0])))
        # A call is counted once it is over, a moment after its answer.
        refused = 'grpc_code="INVALID_ARGUMENT",grpc_method="BatchPredict"'
        wait_for(lambda: refused in read_metrics(server))
        page = read_metrics(server)

    instances = samples(page, "prediction_instances_total")
    assert {s.labels["label"]: s.value for s in instances} == {"0": 1, "1": 3}
    assert [s.value for s in samples(page, "prediction_batch_rows_sum")] == [3]
    assert [s.value for s in samples(page, "prediction_batch_rows_count")] == [1]
    assert count_handled(page, "BatchPredict") == {"OK": 1, "INVALID_ARGUMENT": 1}
