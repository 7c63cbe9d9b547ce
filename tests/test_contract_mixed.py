"""A table of all kinds: the registered model and the server answer its raw rows alike."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given, settings
from hypothesis import strategies as st

from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub
from training.data.schema import Schema
from training.registry.store import prepare_store
from training.registry.tracking import register
from training.trained_model import TrainedModel

from mixed_support import Cell, make_mixed_rows, records, to_frame
from support import connect, running_server, write_artifact
from training_support import train_family

TOLERANCES = {"logistic_regression": 1e-12, "lightgbm": 0.0}
CASES = [(family, n_classes) for family in TOLERANCES for n_classes in (2, 3)]


@dataclass(frozen=True)
class Served:
    """A model in the registry and on a server.

    Parameters
    ----------
    trained : TrainedModel
        What was registered.
    uri : str
        Where the registry has it.
    pipeline : Pipeline
        What the registry gives back.
    stub : PredictionServiceStub
        Asks the server.
    raw : DataFrame
        Held-out rows as the user has them.
    """

    trained: TrainedModel
    uri: str
    pipeline: Any
    stub: PredictionServiceStub
    raw: pd.DataFrame

    @property
    def schema(self) -> Schema:
        """The columns."""
        return self.trained.plan.schema


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A new MLflow store."""
    folder = tmp_path_factory.mktemp("store")
    before = Path.cwd()
    os.chdir(folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    prepare_store("exp", "mixed")
    yield mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("")
    os.chdir(before)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def served(
    request: pytest.FixtureRequest,
    store: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """A model of each family, for two and for three classes."""
    family, n_classes = request.param
    raw, schema, train, holdout = make_mixed_rows(n_classes)
    run_id = f"TrainFlow/{family}-{n_classes}"
    trained = train_family(family, schema, train, holdout, run_id=run_id)
    name = f"mixed_{family}_{n_classes}"
    outcome = register(trained, holdout, experiment="exp", model_name=name)
    uri = f"models:/{name}/{outcome.version}"
    artifact = ModelArtifact.FromString(trained.artifact)
    folder = write_artifact(tmp_path_factory.mktemp("model"), artifact)
    with ExitStack() as stack:
        server = stack.enter_context(running_server(folder))
        stub = stack.enter_context(connect(server))
        yield Served(trained, uri, mlflow.sklearn.load_model(uri), stub, raw)


def to_records(frame: pd.DataFrame) -> list[dict[str, Cell]]:
    """Return rows with all digits of their numbers, None for gaps."""
    return [
        {str(name): None if pd.isna(cell) else cell for name, cell in row.items()}
        for row in frame.to_dict(orient="records")
    ]


def ask(served: Served, row: dict[str, Cell]) -> list[float]:
    """Return the server's probabilities for a row."""
    record = Struct()
    record.update(row)
    return list(served.stub.Predict(PredictRequest(record=record)).probabilities)


def tolerance(served: Served) -> float:
    """Return how far the server may be from the registered model."""
    return TOLERANCES[served.trained.winner.family]


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_server_answers_any_row_as_the_registered_model(
    served: Served, data: st.DataObject
) -> None:
    """Gaps and categories that no row of training had included."""
    rows = data.draw(st.lists(records(served.schema), min_size=1, max_size=10))

    expected = served.pipeline.predict_proba(to_frame(rows))
    actual = [ask(served, row) for row in rows]

    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance(served))


def test_the_server_answers_the_held_out_table_as_the_registered_model(
    served: Served,
) -> None:
    expected = served.pipeline.predict_proba(served.raw)

    actual = [ask(served, row) for row in to_records(served.raw)]

    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance(served))


def test_golden_rows_have_gaps_and_rare_categories(served: Served) -> None:
    artifact = ModelArtifact.FromString(served.trained.artifact)
    examples = [example.record.fields for example in artifact.golden_examples]
    known = {f.name: set(f.categories) for f in served.schema.features}

    for feature in served.schema.features:
        values = [fields[feature.name] for fields in examples]
        has_gap = any(value.WhichOneof("kind") == "null_value" for value in values)
        assert has_gap == feature.nullable
    shops = {fields["shop"].string_value for fields in examples}
    assert shops - known["shop"]


def test_pyfunc_takes_the_raw_table(served: Served) -> None:
    model = mlflow.pyfunc.load_model(served.uri)

    labels = model.predict(served.raw)

    assert list(labels) == list(served.pipeline.predict(served.raw))
    assert set(labels) <= set(served.schema.class_labels)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("served", "kind"),
    [(("logistic_regression", 3), "csv"), (("lightgbm", 2), "json")],
    indirect=["served"],
)
def test_the_command_of_mlflow_takes_the_raw_table(
    served: Served, store: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / f"table.{kind}"
    if kind == "csv":
        served.raw.to_csv(path, index=False)
    else:
        path.write_text(json.dumps({"dataframe_records": to_records(served.raw)}))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", served.uri]
    command += ["-i", str(path), "-t", kind, "--env-manager", "local"]

    result = subprocess.run(
        command,
        env={**os.environ, "MLFLOW_TRACKING_URI": store},
        capture_output=True,
        text=True,
        check=True,
    )

    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["predictions"] == served.pipeline.predict(served.raw).tolist()
