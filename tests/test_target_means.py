"""Columns of many categories: their kind, the artifact, and every way to ask the server."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model import load_model
from prediction import PredictionClient
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact, TargetMeans
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub
from training.data.dataset import LoadOptions, load_dataset
from training.data.roles import RoleNames
from training.data.rows import Rows
from training.data.schema import Feature, Kind, Schema
from training.data.schema_file import Override
from training.data.served_limits import check_columns
from training.errors import DataError
from training.models.champion_policy import find_segment
from training.registry.tracking import register
from training.trained_model import TrainedModel

from support import connect, running_server, write_artifact
from training_support import train_family

N_SHOPS = 150
LABELS = {2: ["no", "yes"], 3: ["a", "b", "c"]}
TOLERANCES = {"logistic_regression": 1e-12, "lightgbm": 0.0}


def make_table(n_classes: int = 2, n_rows: int = 900) -> pd.DataFrame:
    """Return a table whose label depends on which of many shops a row is of."""
    rng = np.random.default_rng(0)
    shop = rng.permutation(np.arange(n_rows) % N_SHOPS)
    pull = rng.normal(scale=2, size=N_SHOPS)
    x = rng.normal(size=n_rows)
    score = pull[shop] + x + rng.logistic(size=n_rows)
    cuts = np.quantile(score, np.arange(1, n_classes) / n_classes)
    frame = pd.DataFrame(
        {
            "shop": [f"shop {number}" for number in shop],
            "zip": 10_000 + rng.integers(0, N_SHOPS, n_rows),
            "size": rng.choice(["S", "M", "L"], n_rows),
            "x": x,
            "target": np.array(LABELS[n_classes])[np.digitize(score, cuts)],
        }
    )
    frame.loc[rng.random(n_rows) < 0.05, "shop"] = None
    return frame


def load(
    frame: pd.DataFrame, folder: Path, overrides: dict[str, Override] | None = None
) -> tuple[Schema, Rows, Rows, tuple[str, ...]]:
    path = folder / "table.csv"
    frame.to_csv(path, index=False)
    kinds = {"zip": Override(kind="means"), **(overrides or {})}
    dataset = load_dataset(str(path), "target", LoadOptions(kinds))
    train, holdout = (
        Rows(dataset.X[part], dataset.y[part])
        for part in (slice(700), slice(700, None))
    )
    return dataset.schema, train, holdout, dataset.notes


def test_few_rows_a_category_give_means_and_a_line_says_so(tmp_path: Path) -> None:
    schema, _, _, notes = load(make_table(), tmp_path)

    kinds = {feature.name: feature.kind for feature in schema.features}
    assert kinds == {
        "x": Kind.NUMERIC,
        "shop": Kind.MEANS,
        "zip": Kind.MEANS,
        "size": Kind.CATEGORICAL,
    }
    assert any(
        note.startswith("column 'shop' has 150 categories with 5.7 rows each")
        for note in notes
    )


@pytest.mark.parametrize(
    ("frame", "shop"),
    [
        (make_table(n_rows=1700), "categorical"),  # more than ten rows a category
        (make_table().query("shop < 'shop 2'"), "categorical"),  # few categories
    ],
    ids=["many rows", "few categories"],
)
def test_other_columns_stay_categorical(
    frame: pd.DataFrame, shop: str, tmp_path: Path
) -> None:
    frame.to_csv(tmp_path / "table.csv", index=False)

    schema = load_dataset(str(tmp_path / "table.csv"), "target").schema

    assert {f.name: f.kind for f in schema.features}["shop"] == shop


def test_the_schema_file_overrules_both_ways(tmp_path: Path) -> None:
    overrides = {"shop": Override(kind="categorical"), "size": Override(kind="means")}

    schema, *_ = load(make_table(), tmp_path, overrides)

    kinds = {feature.name: feature.kind for feature in schema.features}
    assert (kinds["shop"], kinds["size"]) == (Kind.CATEGORICAL, Kind.MEANS)


@pytest.mark.parametrize("role", ["weight", "group", "time"])
def test_rows_that_do_not_count_alike_rule_means_out(role: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    make_table().to_csv(path, index=False)
    roles = RoleNames(**{role: "zip"})

    schema = load_dataset(str(path), "target", LoadOptions(roles=roles)).schema

    assert not schema.of_kind(Kind.MEANS)
    stated = LoadOptions({"shop": Override(kind="means")}, roles)
    with pytest.raises(DataError, match="'shop' cannot be of kind \"means\" with"):
        load_dataset(str(path), "target", stated)


@dataclass(frozen=True)
class Served:
    """A model of many categories that a server has.

    Parameters
    ----------
    trained : TrainedModel
        The model.
    stub, client : PredictionServiceStub, PredictionClient
        They ask the server.
    """

    trained: TrainedModel
    stub: PredictionServiceStub
    client: PredictionClient

    def expect(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return what scikit-learn answers."""
        return np.asarray(self.trained.estimator.predict_proba(frame))


@pytest.fixture(
    scope="module",
    params=[(family, n) for family in TOLERANCES for n in LABELS],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A model of each family, of two classes and of three."""
    family, n_classes = request.param
    folder = tmp_path_factory.mktemp("model")
    schema, train, holdout, _ = load(make_table(n_classes), folder)
    trained = train_family(family, schema, train, holdout)
    model_dir = write_artifact(folder, ModelArtifact.FromString(trained.artifact))
    with ExitStack() as stack:
        server = stack.enter_context(running_server(model_dir))
        stub = stack.enter_context(connect(server))
        client = PredictionClient(f"127.0.0.1:{server.port}")
        yield Served(trained, stub, stack.enter_context(client))


shops = st.sampled_from(["shop 1", "shop 77", "shop 149", "shop 150", "", "?"])
zips = st.integers(9_998, 10_152)
drawn_rows = st.lists(
    st.tuples(
        shops | st.none(), zips, st.sampled_from(["S", "L", "XL"]), st.floats(-9, 9)
    ),
    min_size=1,
    max_size=6,
)


@given(drawn_rows)
@settings(max_examples=25, deadline=None)
def test_every_way_to_send_a_category_gives_the_same_bits(
    served: Served, drawn: list[tuple[str | None, int, str, float]]
) -> None:
    names = ("shop", "zip", "size", "x")
    records = [dict(zip(names, row, strict=True)) for row in drawn]
    frame = pd.DataFrame(records).astype({"shop": object})
    alone = [list(served.client.predict(record).probabilities) for record in records]

    batch = pb.BatchPredictRequest(columns=to_columns(frame))
    whole = served.stub.BatchPredict(batch)
    (chunk,) = served.stub.StreamPredict(iter([pb.StreamPredictRequest(chunk=batch)]))
    of_frame = served.client.predict_frame(frame)

    expected = np.array(alone).ravel().tolist()
    assert list(whole.probabilities) == list(chunk.chunk.probabilities) == expected
    labels = served.trained.plan.schema.class_labels
    columns = [of_frame[f"probability_{label}"] for label in labels]
    assert np.column_stack(columns).tolist() == alone
    for record, answer in zip(records, alone, strict=True):
        request = json_format.Parse(json.dumps({"record": record}), pb.PredictRequest())
        assert list(served.stub.Predict(request).probabilities) == answer
    tolerance = TOLERANCES[served.trained.winner.family]
    np.testing.assert_allclose(alone, served.expect(frame), rtol=0, atol=tolerance)


def to_columns(frame: pd.DataFrame) -> list[pb.Column]:
    """Return a table as a batch has it."""
    columns = []
    for name in map(str, frame):
        column = pb.Column(name=name)
        gaps = [row for row, cell in enumerate(frame[name]) if pd.isna(cell)]
        column.missing_rows.extend(gaps)
        if frame[name].dtype == object or name == "size":
            column.strings.values.extend("" if pd.isna(c) else c for c in frame[name])
        else:
            column.doubles.values.extend(map(float, frame[name]))
        columns.append(column)
    return columns


def test_the_categories_are_described_as_others_are(served: Served) -> None:
    features = {f.name: f for f in served.client.get_model().features}

    assert features["shop"].kind == "categorical_text" and features["shop"].nullable
    assert features["zip"].kind == "categorical_integer"
    assert len(features["shop"].categories) == N_SHOPS


def test_contributions_are_those_of_columns_and_add_up(served: Served) -> None:
    record: dict[str, Any] = {"shop": "shop 3", "zip": 10_003, "size": "S", "x": 0.5}

    answer = served.client.predict(record, explain_top_k=99)

    assert answer.explanation is not None
    parts = {c.feature: c.value for c in answer.explanation.contributions}
    assert sorted(parts) == ["shop", "size", "x", "zip"]
    total = answer.explanation.base + sum(parts.values())
    assert total == pytest.approx(answer.explanation.score, abs=1e-9)


def test_the_model_learns_what_a_shop_means(served: Served) -> None:
    table = make_table(len(served.trained.plan.schema.class_labels))[700:]
    labels = served.trained.plan.schema.class_labels
    twin = served.trained.twin.estimator

    loss = log_loss(table["target"], twin.predict_proba(table), labels=labels)

    shares = np.tile(
        table["target"].value_counts(normalize=True).loc[[*map(str, labels)]], 200
    )
    without = log_loss(table["target"], shares.reshape(200, -1), labels=labels)
    assert loss < 0.9 * without


def too_few(means: TargetMeans) -> None:
    del means.values[-1]


def not_finite(means: TargetMeans) -> None:
    means.values[0] = float("nan")


def infinite_gap(means: TargetMeans) -> None:
    means.missing[0] = float("inf")


def without_gap(means: TargetMeans) -> None:
    del means.missing[:]


def too_many_outputs(means: TargetMeans) -> None:
    means.values.extend(list(means.values))
    means.missing.extend(list(means.missing))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (too_few, "149 target means and 1 for missing values; its 150 cat"),
        (not_finite, "a target mean that is not finite"),
        (infinite_gap, "a target mean that is not finite"),
        (without_gap, "150 target means and 0 for missing values"),
        (
            too_many_outputs,
            'feature "shop" has 2 target means for a category; 2 classes need 1',
        ),
    ],
)
@pytest.mark.parametrize("family", TOLERANCES)
def test_an_altered_artifact_is_refused(
    family: str, change: Callable[[TargetMeans], None], message: str, tmp_path: Path
) -> None:
    schema, train, holdout, _ = load(make_table(), tmp_path)
    trained = train_family(family, schema, train, holdout)
    artifact = ModelArtifact.FromString(trained.artifact)
    shop = next(f for f in artifact.input_schema.features if f.name == "shop")
    change(shop.categorical.means)

    with pytest.raises(ArtifactCorrupt, match=message):
        load_model(write_artifact(tmp_path / "altered", artifact))


# Reads the table and the model as anybody does who has MLflow, and nothing of the project.
PROGRAM = """
import importlib.util, json, sys
sys.meta_path = [f for f in sys.meta_path if "_EditableFinder" not in repr(f)]
assert importlib.util.find_spec("training") is None
import mlflow, pandas
table = pandas.read_csv("raw.csv")
labels = mlflow.pyfunc.load_model(sys.argv[1]).predict(table)
model = mlflow.sklearn.load_model(sys.argv[1])
print(json.dumps([list(labels), model.predict_proba(table).tolist()]))
"""


@pytest.mark.slow
def test_mlflow_loads_the_model_without_the_project(
    store: MlflowClient, tmp_path: Path
) -> None:
    frame = make_table()
    schema, train, holdout, _ = load(frame, tmp_path)
    frame[700:].drop(columns="target").to_csv("raw.csv", index=False)
    trained = train_family("lightgbm", schema, train, holdout)
    outcome = register(trained, holdout, experiment="exp", model_name="shops")
    Path("program.py").write_text(PROGRAM)

    result = subprocess.run(
        [sys.executable, "-P", "program.py", f"models:/shops/{outcome.version}"],
        env={
            **{name: os.environ[name] for name in ("PATH", "HOME")},
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    labels, probabilities = json.loads(result.stdout.splitlines()[-1])
    raw = pd.read_csv("raw.csv")
    assert labels == trained.estimator.predict(raw).tolist()
    assert probabilities == trained.estimator.predict_proba(raw).tolist()


def test_such_a_column_may_be_the_segment_and_counts_against_the_limit(
    tmp_path: Path,
) -> None:
    schema, *_ = load(make_table(), tmp_path)
    long = tuple(f"{number:05}{'x' * 1000}" for number in range(4000))
    wide = Schema((Feature("shop", Kind.MEANS, categories=long),), ("no", "yes"))

    assert find_segment("shop", schema)[1].kind == Kind.MEANS
    with pytest.raises(DataError, match="all categories have 4,020,000 bytes"):
        check_columns(wide)
