"""Models of a given size on the embedded data set, trained by the project's own code."""

import contextlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.flow import PARAMETERS
from benchmarks.serve.load import Request

from prediction.artifact import FILE_NAME
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import PredictRequest
from training.data.rows import open_rows
from training.models.families import FAMILIES
from training.models.family_search import FamilySearch
from training.plan import FileStore, TrainingRequest, make_plan
from training.trained_model import train_model

PREDICT_PATH = "/prediction.v1.PredictionService/Predict"
_GRIDS: dict[str, Any] = {
    "logistic_regression": {"C": [1.0]},
    "lightgbm": {"n_estimators": [100]},
}
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "Logistic Regression": ("logistic_regression", {}),
    "LightGBM 100": ("lightgbm", {}),
    "LightGBM 500": ("lightgbm", {"n_estimators": [500]}),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A folder that the server reads, and a call of one row."""

    folder: Path
    request: Request


def make_models(work: Path) -> dict[str, Model]:
    """Train one model of each size."""
    models = {}
    for name, (family, grid) in MODELS.items():
        folder = work / name.lower().replace(" ", "-")
        folder.mkdir()
        with contextlib.chdir(folder):
            artifact = train(family, grid, folder)
        (folder / FILE_NAME).write_bytes(artifact)
        models[name] = Model(folder, _make_request(folder, artifact))
    return models


def train(family: str, grid: dict[str, Any], work: Path) -> bytes:
    """Search a grid of one candidate, as the flow does, and return the artifact."""
    grids = {**_GRIDS, family: {**_GRIDS[family], **grid}}
    request = TrainingRequest("TrainFlow/0", PARAMETERS, grids, "")
    plan = make_plan(request, FileStore(work, str, lambda url, folder: folder))
    rows, holdout = (open_rows(ref, Path) for ref in (plan.train, plan.holdout))
    search = FamilySearch(
        FAMILIES[family], plan.schema, plan.grids[family], plan.settings
    )
    results = {family: search.run(rows, report=lambda line: None)}
    trained = train_model(plan, results, {}, train=rows, holdout=holdout)
    return bytes(trained.artifact)


def _make_request(folder: Path, artifact: bytes) -> Request:
    """Write the call of the first golden example."""
    example = ModelArtifact.FromString(artifact).golden_examples[0]
    message = PredictRequest(features=example.features).SerializeToString()
    body = folder / "body"
    body.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    return Request("grpc", PREDICT_PATH, body, example.probabilities[1])
