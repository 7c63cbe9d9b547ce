"""A model of dates, served: every way to send a date, and every program that reads the model."""

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from numpy.typing import NDArray

from grpc_server.server import PredictionServer
from prediction import InvalidInstanceError, PredictionClient
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub
from training.data.dataset import LoadOptions, load_dataset
from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.schema import Schema
from training.registry.tracking import register
from training.trained_model import TrainedModel

from rest_support import post, running_envoy
from support import connect, running_server, write_artifact
from training_support import train_family
from wire import failure, violations

# How far the server may be from scikit-learn.
TOLERANCES = {"logistic_regression": 1e-12, "lightgbm": 0.0}
ZONED = "%Y-%m-%dT%H:%M:%S%z"
# What the client says of a column, and what the server says.
NO_DATE = '"31/02/2024" is not allowed; it takes a date such as "31/01/2024" (%d/%m/%Y)'

Row = tuple[dt.datetime | None, dt.datetime, dt.time | None, float]
moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2199, 12, 31))
rows = st.lists(
    st.tuples(
        moments | st.none(),
        moments.map(lambda moment: moment.replace(tzinfo=dt.UTC)),
        st.times() | st.none(),
        st.floats(-1e6, 1e6),
    ),
    min_size=1,
    max_size=8,
)


@dataclass(frozen=True)
class Served:
    """A model of dates that a server has.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    server : PredictionServer
        Serves it.
    stub : PredictionServiceStub
        Asks it.
    client : PredictionClient
        Asks it too.
    """

    trained: TrainedModel
    server: PredictionServer
    stub: PredictionServiceStub
    client: PredictionClient

    @property
    def tolerance(self) -> float:
        """How far the server may be from scikit-learn."""
        return TOLERANCES[self.trained.winner.family]

    def expect(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return what scikit-learn answers."""
        return np.asarray(self.trained.estimator.predict_proba(frame))


def make_table(n_rows: int = 300) -> pd.DataFrame:
    """Return dates, dates with a zone, times of day, a number, and a label that depends on all."""
    rng = np.random.default_rng(0)
    born = pd.Timestamp("1950-01-01") + pd.to_timedelta(
        rng.integers(0, 20_000, n_rows), "D"
    )
    seen = pd.Timestamp("2020-01-01") + pd.to_timedelta(
        rng.integers(0, 10**14, n_rows), "us"
    )
    hour = rng.integers(0, 24, n_rows)
    score = (born.month > 6) * 1.0 + (seen.day_of_week > 4) * 2.0 + (hour > 12)
    frame = pd.DataFrame(
        {
            "born": pd.Series(born).dt.strftime("%d/%m/%Y"),
            "seen": pd.Series(seen).dt.strftime("%Y-%m-%dT%H:%M:%S.%f+02:00"),
            "opens": [f"{each:02d}:30" for each in hour],
            "x": rng.normal(size=n_rows),
            "target": np.where(score + rng.normal(size=n_rows) > 2, "yes", "no"),
        }
    )
    is_gap = rng.random(n_rows) < 0.1
    # The first row of the hold-out is the first of the example that MLflow keeps.
    is_gap[240] = True
    frame.loc[is_gap, ["born", "opens"]] = None
    return frame


def load_table(folder: Path) -> tuple[pd.DataFrame, Schema, Rows, Rows]:
    """Return the held-out table, the schema, rows to learn from and rows to hold out."""
    frame, path = make_table(), folder / "table.csv"
    frame.to_csv(path, index=False)
    dataset = load_dataset(str(path), "target", LoadOptions())
    parts = [
        Rows(dataset.X[part], dataset.y[part])
        for part in (slice(240), slice(240, None))
    ]
    return frame[240:].drop(columns="target"), dataset.schema, parts[0], parts[1]


@pytest.fixture(scope="module", params=TOLERANCES)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A model of each family."""
    folder = tmp_path_factory.mktemp("model")
    _, schema, train, holdout = load_table(folder)
    trained = train_family(request.param, schema, train, holdout)
    model_dir = write_artifact(folder, ModelArtifact.FromString(trained.artifact))
    with ExitStack() as stack:
        server = stack.enter_context(running_server(model_dir))
        stub = stack.enter_context(connect(server))
        client = PredictionClient(f"127.0.0.1:{server.port}")
        yield Served(trained, server, stub, stack.enter_context(client))


def write(cell: dt.datetime | dt.time | float | None) -> str | float | None:
    return cell.isoformat() if isinstance(cell, dt.datetime | dt.time) else cell


def to_records(drawn: list[Row]) -> list[dict[str, Any]]:
    """Return rows as a caller of JSON has them."""
    return [
        dict(zip(("born", "seen", "opens", "x"), map(write, row), strict=True))
        for row in drawn
    ]


def to_frames(drawn: list[Row]) -> dict[str, Any]:
    """Return the same table with text, Python's objects, pandas' types, and of polars."""
    columns = dict(
        zip(("born", "seen", "opens", "x"), zip(*drawn, strict=True), strict=True)
    )
    objects = pd.DataFrame(
        {name: pd.Series(cells, dtype=object) for name, cells in columns.items()}
    )
    objects["x"] = objects["x"].astype(float)
    typed = objects.assign(
        born=objects["born"].astype("datetime64[us]"),
        seen=objects["seen"].astype("datetime64[us, UTC]"),
    )
    text = pd.DataFrame(to_records(drawn)).astype({"x": float})
    of_polars = pl.DataFrame(
        {name: list(cells) for name, cells in columns.items()},
        schema_overrides={"born": pl.Datetime("us"), "opens": pl.Time},
    )
    return {"text": text, "objects": objects, "typed": typed, "polars": of_polars}


def to_probabilities(frame: Any) -> list[list[float]]:
    """Return the probabilities of an answer of `predict_frame`."""
    columns = [frame[f"probability_{label}"].to_list() for label in ("no", "yes")]
    return [list(pair) for pair in zip(*columns, strict=True)]


def to_columns(table: pd.DataFrame) -> list[pb.Column]:
    """Return a table of text as a batch has it."""
    columns = []
    for name in table:
        cells = [None if pd.isna(cell) else cell for cell in table[name].tolist()]
        column = pb.Column(name=str(name))
        column.missing_rows.extend(
            row for row, cell in enumerate(cells) if cell is None
        )
        if name == "x":
            column.doubles.values.extend(table[name])
        else:
            column.strings.values.extend(cell or "" for cell in cells)
        columns.append(column)
    return columns


def test_the_columns_are_dates(served: Served) -> None:
    features = {f.name: f for f in served.client.get_model().features}

    assert {name: f.kind for name, f in features.items()} == {
        "x": "numeric",
        "born": "date",
        "seen": "date",
        "opens": "time",
    }
    assert features["born"].format == "%d/%m/%Y" and features["seen"].format == ZONED


@given(rows)
@settings(max_examples=30, deadline=None)
def test_every_way_to_send_a_date_gives_the_same_bits(
    served: Served, drawn: list[Row]
) -> None:
    records, frames = to_records(drawn), to_frames(drawn)

    alone = [list(served.client.predict(record).probabilities) for record in records]
    batch = pb.BatchPredictRequest(columns=to_columns(frames["text"]))
    whole = served.stub.BatchPredict(batch)
    (chunk,) = served.stub.StreamPredict(iter([pb.StreamPredictRequest(chunk=batch)]))

    expected = np.array(alone).ravel().tolist()
    assert list(whole.probabilities) == list(chunk.chunk.probabilities) == expected
    for frame in frames.values():
        assert to_probabilities(served.client.predict_frame(frame)) == alone
    for record, answer in zip(records, alone, strict=True):
        request = json_format.Parse(json.dumps({"record": record}), pb.PredictRequest())
        assert list(served.stub.Predict(request).probabilities) == answer
    for name in ("text", "objects", "typed"):
        np.testing.assert_allclose(
            alone, served.expect(frames[name]), rtol=0, atol=served.tolerance
        )


def test_texts_in_the_form_of_the_column_give_the_same_bits(served: Served) -> None:
    cells = ["31/01/2024", " 31/1/2024 ", "31/01/2024 00:00", "2024-01-31"]
    cells += ["2024-01-31T00:00:00Z", "2024-01-31t00:00:00.000000000+00:00"]
    table = pd.DataFrame(
        {"born": cells, "seen": "2024-01-31T10:00+02:00", "opens": "10:00", "x": 0.5}
    )
    records = [
        {str(name): cell for name, cell in row.items()}
        for row in table.to_dict(orient="records")
    ]

    answers = {served.client.predict(record).probabilities for record in records}

    assert len(answers) == 1
    np.testing.assert_allclose(
        [list(*answers)] * len(cells),
        served.expect(table),
        rtol=0,
        atol=served.tolerance,
    )


def test_a_period_of_pandas_is_its_first_moment(served: Served) -> None:
    months = pd.period_range("2024-01", periods=3, freq="M")
    table = pd.DataFrame(
        {"born": months, "seen": "2024-01-31T10:00Z", "opens": "10:00", "x": 0.5}
    )
    starts = table.assign(born=months.to_timestamp())

    answers = [served.client.predict_frame(each) for each in (table, starts)]

    assert to_probabilities(answers[0]) == to_probabilities(answers[1])


GOOD: dict[str, Any] = {
    "born": "31/01/2024",
    "seen": "2024-01-31T10:00:00Z",
    "opens": "10:00",
    "x": 0.5,
}
REFUSED = {
    "no such day": ("born", "31/02/2024", NO_DATE),
    "month first": ("born", "01/31/2024", '"01/31/2024" is not allowed'),
    "a zone": ("born", "2024-01-31T10:00:00+02:00", "is not allowed"),
    "no zone": ("seen", "2024-01-31T10:00:00", 'such as "2024-01-31T10:30:00+0000"'),
    "the end of a day": ("born", "31/01/2024 24:00", "is not allowed"),
    "a leap second": ("seen", "2016-12-31T23:59:60Z", "is not allowed"),
    "the year 0": ("born", "01/01/0000", "is not allowed"),
    "the year 10000": ("born", "01/01/10000", "is not allowed"),
    "too early": ("seen", "0001-01-01T00:00:00+01:00", "is not allowed"),
    "other digits": ("born", "٣١/٠١/٢٠٢٤", "is not allowed"),
    "NUL": ("born", "31/01/2024\0", "is not allowed"),
    "nothing": ("born", "", "is not allowed"),
    "a gap in words": ("born", "NA", "is not allowed"),
    "a date for a time": ("opens", "31/01/2024", 'a time of day such as "10:30:00"'),
    "a text of 90 characters": ("born", "1" * 90, "is not allowed"),
}


@pytest.mark.parametrize(("name", "cell", "why"), REFUSED.values(), ids=REFUSED)
def test_a_cell_that_is_no_date_is_named_by_every_way(
    served: Served, name: str, cell: str, why: str
) -> None:
    record = {**GOOD, name: cell}
    request = json_format.ParseDict({"record": record}, pb.PredictRequest())
    table = pd.DataFrame([GOOD, record, GOOD])

    (alone,) = violations(lambda: served.stub.Predict(request))
    batch = pb.BatchPredictRequest(columns=to_columns(table))
    (of_batch,) = violations(lambda: served.stub.BatchPredict(batch))
    with pytest.raises(InvalidInstanceError) as of_client:
        served.client.predict_frame(table)
    with pytest.raises(ValueError, match=f"column {name!r} has 1 cells that are not"):
        served.expect(table)

    assert alone[0] == f'record["{name}"]' and why in alone[1]
    assert name in of_batch[0] and "1" in of_batch[0] and why in of_batch[1]
    assert name in str(of_client.value) and why in str(of_client.value)


@pytest.mark.parametrize("cell", [20240131.0, True])
def test_another_type_is_no_date(served: Served, cell: Any) -> None:
    request = json_format.ParseDict(
        {"record": {**GOOD, "born": cell}}, pb.PredictRequest()
    )

    ((field, description),) = violations(lambda: served.stub.Predict(request))

    assert field == 'record["born"]' and "(%d/%m/%Y)" in description


def test_a_huge_text_is_refused(served: Served) -> None:
    request = pb.PredictRequest()
    request.record.update({**GOOD, "born": "2" * 100_000})

    error = failure(lambda: served.stub.Predict(request))

    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_contributions_are_those_of_columns_and_add_up(served: Served) -> None:
    answer = served.client.predict(GOOD, explain_top_k=99)

    assert answer.explanation is not None
    parts = {c.feature: c.value for c in answer.explanation.contributions}
    assert sorted(parts) == ["born", "opens", "seen", "x"]
    total = answer.explanation.base + sum(parts.values())
    assert total == pytest.approx(answer.explanation.score, abs=1e-9)


def test_json_over_http_takes_dates(served: Served, tmp_path: Path) -> None:
    expected = served.client.predict(GOOD)
    with running_envoy(tmp_path, served.server.port, served.server.http_port) as url:
        answer = post(url, json.dumps({"record": GOOD}))
        refused = post(url, json.dumps({"record": {**GOOD, "born": "31/02/2024"}}))

    assert tuple(answer.json["probabilities"]) == expected.probabilities
    assert refused.status == 400 and NO_DATE in str(refused.json)


# Reads the table and the model as anybody does who has MLflow, and nothing of the project.
PROGRAM = """
import importlib.util, json, sys
sys.meta_path = [f for f in sys.meta_path if "_EditableFinder" not in repr(f)]
for name in ("date_columns", "training", "prediction", "grpc_server"):
    assert importlib.util.find_spec(name) is None, name
import mlflow, pandas
table = pandas.read_csv("raw.csv")
labels = mlflow.pyfunc.load_model(sys.argv[1]).predict(table)
models = [mlflow.sklearn.load_model(uri) for uri in sys.argv[1:]]
print(json.dumps([list(labels), *(m.predict_proba(table).tolist() for m in models)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", TOLERANCES)
def test_mlflow_loads_the_model_and_its_twin_without_the_project(
    family: str, store: MlflowClient, tmp_path: Path
) -> None:
    raw, schema, train, holdout = load_table(tmp_path)
    raw.to_csv("raw.csv", index=False)
    trained = train_family(family, schema, train, holdout)
    outcome = register(trained, holdout, experiment="exp", model_name="dates")
    # The next version loads the twin of the first.
    again = train_family(family, schema, train, holdout, run_id="TrainFlow/2")
    second = register(again, holdout, experiment="exp", model_name="dates")
    uri = f"models:/dates/{outcome.version}"
    files = mlflow.artifacts.download_artifacts(f"{uri}/extra_files/scored_twin")
    Path("program.py").write_text(PROGRAM)

    result = subprocess.run(
        [sys.executable, "-P", "program.py", uri, files],
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME")},
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    labels, probabilities, of_twin = json.loads(result.stdout.splitlines()[-1])
    assert labels == trained.estimator.predict(raw).tolist()
    assert probabilities == trained.estimator.predict_proba(raw).tolist()
    assert of_twin == trained.twin.estimator.predict_proba(raw).tolist()
    assert "version 1 has" in second.reason


@pytest.mark.slow
def test_the_example_in_mlflow_can_be_sent_to_its_server(
    store: MlflowClient, tmp_path: Path
) -> None:
    _, schema, train, holdout = load_table(tmp_path)
    trained = train_family("lightgbm", schema, train, holdout)
    outcome = register(trained, holdout, experiment="exp", model_name="dates")
    uri = f"models:/dates/{outcome.version}"
    path = mlflow.artifacts.download_artifacts(f"{uri}/serving_input_example.json")
    example = json.loads(Path(path).read_text())["dataframe_split"]
    table = pd.DataFrame(example["data"], columns=example["columns"])

    answer = mlflow.pyfunc.load_model(uri).predict(table)

    assert table["born"].isna()[0] and table["seen"][0].endswith("Z")
    expected = trained.estimator.predict(to_table(holdout.X[:3], schema))
    assert list(answer) == list(expected)
