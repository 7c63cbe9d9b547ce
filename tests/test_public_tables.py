"""Real tables from end to end: the flow, the registry, the server and the client."""

import os
import subprocess
import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from prediction import PredictionClient
from training.data.dataset import LoadOptions, load_dataset
from training.data.schema_file import parse_overrides
from training.data.splitting import split_holdout

from public_tables import PUBLIC_TABLES, fit_by_hand, is_within_noise, losses
from support import ROOT, running_server

GRIDS = """
[logistic_regression]
C = [0.01, 0.1, 1.0, 10.0]
[lightgbm]
learning_rate = [0.1]
num_leaves = [7, 31]
min_child_samples = [5, 20]
n_estimators = [10, 20, 30, 40, 60, 80]
"""
N_FOLDS, TEST_FRACTION, SEED = 3, 0.2, 0
TOLERANCES = {"Logistic Regression": 1e-12, "LightGBM": 0.0}


@dataclass(frozen=True)
class Trained:
    """A table after the flow.

    Parameters
    ----------
    folder : Path
        Where the flow ran.
    train, holdout : DataFrame
        The rows as published, with their labels.
    """

    folder: Path
    train: pd.DataFrame
    holdout: pd.DataFrame


def write_schema(folder: Path, schema: Mapping[str, Mapping[str, str]]) -> None:
    """Write a schema file."""
    tables = [
        "\n".join(
            [f'["{name}"]', *(f'{key} = "{word}"' for key, word in table.items())]
        )
        for name, table in schema.items()
    ]
    (folder / "schema.toml").write_text("\n".join(tables))


def train(folder: Path, name: str) -> Trained:
    """Run the flow on a table, and return it with the hold-out that the flow locked away."""
    table = PUBLIC_TABLES[name]
    frame = table.load()
    path = folder / ("table.parquet" if name == "cars" else "table.csv")
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    write_schema(folder, table.schema)
    (folder / "grids.toml").write_text(GRIDS)
    command = [sys.executable, str(ROOT / "flows" / "train_flow.py")]
    command += ["--config", "search", "grids.toml", "--config", "schema", "schema.toml"]
    command += ["run", "--data", path.name, "--target", table.target]
    command += ["--folds", str(N_FOLDS), "--scoring", "neg_log_loss"]
    command += ["--test_fraction", str(TEST_FRACTION), "--seed", str(SEED)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    options = LoadOptions(parse_overrides(table.schema))
    dataset = load_dataset(str(path), table.target, options)
    split = split_holdout(dataset, TEST_FRACTION, N_FOLDS, SEED)
    labelled = frame[frame[table.target].notna()]
    return Trained(folder, labelled.iloc[split.train], labelled.iloc[split.holdout])


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """The store that a flow in the folder makes."""
    before = Path.cwd()
    os.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield
    mlflow.set_tracking_uri("")
    os.chdir(before)


def fetch(folder: Path) -> Path:
    """Fetch the champion as the server does; return the folder to serve."""
    command = [sys.executable, "-m", "grpc_server.model_sync"]
    command += ["models:/tabular_classifier@champion", "--model-dir", "model/current"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder / "model" / "current"


def to_record(row: Mapping[Hashable, Any], names: set[str]) -> dict[str, Any]:
    """Return a row of a table as a caller sends it."""
    return {
        str(name): None if pd.isna(cell) else cell
        for name, cell in row.items()
        if name in names
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC_TABLES)
def test_a_real_table_goes_from_end_to_end(
    name: str, tmp_path: Path, store: None
) -> None:
    table = PUBLIC_TABLES[name]
    trained = train(tmp_path, name)
    raw = trained.holdout.drop(columns=table.target)
    uri = "models:/tabular_classifier@champion"
    model, plain = mlflow.sklearn.load_model(uri), mlflow.pyfunc.load_model(uri)
    expected = model.predict_proba(raw)

    with running_server(fetch(tmp_path)) as server:
        with PredictionClient(f"localhost:{server.port}") as client:
            served = client.get_model()
            names = {feature.name for feature in served.features}
            rows = [to_record(row, names) for row in raw.to_dict(orient="records")]
            answers = [client.predict(row) for row in rows]

    actual = np.array([list(answer.probabilities) for answer in answers])
    assert np.abs(actual - expected).max() <= TOLERANCES[served.model]
    labels = [str(label) for label in model.predict(raw)]
    assert [answer.label for answer in answers] == labels
    assert [
        str(label) for label in plain.predict(raw[list(model.feature_names_in_)])
    ] == labels

    reference = fit_by_hand(
        table, trained.train.drop(columns=table.target), trained.train[table.target]
    )
    assert [str(label) for label in reference.classes_] == list(served.classes)
    codes = np.searchsorted(model.classes_, trained.holdout[table.target])
    by_hand = reference.predict_proba(raw.drop(columns=list(table.unused)))
    assert is_within_noise(losses(expected, codes), losses(by_hand, codes))


def test_a_model_that_is_clearly_worse_is_not_within_noise() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2, 100)
    good = np.where(codes[:, None] == [0, 1], 0.9, 0.1)
    noisy = np.clip(good + rng.normal(0, 0.02, good.shape), 0.01, 0.99)
    poor = np.full((100, 2), 0.5)

    assert is_within_noise(losses(good, codes), losses(good, codes))
    assert is_within_noise(losses(noisy, codes), losses(good, codes))
    assert not is_within_noise(losses(poor, codes), losses(good, codes))
