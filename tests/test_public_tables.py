"""Real tables from end to end: the steps of the flow, the registry, the server and the client."""

import os
import subprocess
import sys
import tomllib
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
from training.data.rows import open_rows
from training.data.schema_file import parse_overrides
from training.data.splitting import split_holdout
from training.parameters import FlowParameters
from training.registry.store import prepare_store
from training.registry.tracking import register
from training.trained_model import train_model

from public_tables import PUBLIC_TABLES, fit_by_hand, is_within_noise, losses
from support import ROOT, running_server
from training_support import plan_here, search_here

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
    """A table whose model is registered.

    Parameters
    ----------
    train, holdout : DataFrame
        The rows as published, with their labels.
    """

    train: pd.DataFrame
    holdout: pd.DataFrame


def train(folder: Path, name: str) -> Trained:
    """Do the steps of the flow in this process, and register the model.

    The model does not learn from the hold-out, so that its answers there can be judged.
    """
    table = PUBLIC_TABLES[name]
    frame = table.load()
    path = folder / ("table.parquet" if name == "cars" else "table.csv")
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    parameters = FlowParameters(
        data=str(path),
        target=table.target,
        folds=N_FOLDS,
        test_fraction=TEST_FRACTION,
        seed=SEED,
        final_fit="train",
    )
    plan = plan_here(folder, parameters, tomllib.loads(GRIDS), table.schema)
    rows, holdout = (open_rows(ref, Path) for ref in (plan.train, plan.holdout))
    results = {family: search_here(plan, family) for family in plan.grids}
    trained = train_model(plan, results, {}, train=rows, holdout=holdout)
    prepare_store(parameters.experiment, parameters.model_name)
    register(
        trained,
        holdout,
        experiment=parameters.experiment,
        model_name=parameters.model_name,
    )
    dataset = load_dataset(
        str(path), table.target, LoadOptions(parse_overrides(table.schema))
    )
    split = split_holdout(dataset, TEST_FRACTION, N_FOLDS, SEED)
    labelled = frame[frame[table.target].notna()]
    return Trained(labelled.iloc[split.train], labelled.iloc[split.holdout])


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """The store of the folder."""
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
