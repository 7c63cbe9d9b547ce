"""Real models, real artifacts and a real server, for tests to build on."""

import hashlib
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import lightgbm
import numpy as np
from sklearn.datasets import make_classification

from grpc_server.model import load_model
from grpc_server.model.source import ModelSource
from grpc_server.rpc.desks import DEFAULT_LANE_POLICY, LanePolicy
from grpc_server.rpc.pulse import MAX_SILENCE_SECONDS
from grpc_server.server import PredictionServer
from grpc_server.settings import Settings
from prediction.artifact import FILE_NAME, seal
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub
from training.artifact.boosted_trees import encode_booster

ROOT = Path(__file__).resolve().parent.parent


def artifact_without_estimator(n_features: int, n_classes: int) -> ModelArtifact:
    """Return an artifact of numeric features f0, f1, ... and classes 0, 1, ..."""
    artifact = ModelArtifact()
    for number in range(n_features):
        feature = artifact.input_schema.features.add(name=f"f{number}")
        feature.numeric.SetInParent()
    artifact.class_labels.integers.values.extend(range(n_classes))
    if n_classes == 2:
        artifact.threshold = 0.5
    artifact.provenance.metrics["holdout_roc_auc"] = 0.75
    artifact.provenance.create_time.FromSeconds(1_700_000_000)
    return artifact


def train_lightgbm(
    n_classes: int, n_features: int = 6
) -> tuple[lightgbm.Booster, np.ndarray]:
    """Train a small booster; return it with rows to predict, some values missing."""
    X, y = make_classification(
        n_samples=300,
        n_features=n_features,
        n_informative=n_features - 1,
        n_redundant=0,
        n_classes=n_classes,
        random_state=0,
    )
    X[::7, 0] = np.nan
    objective = (
        {"objective": "binary"} if n_classes == 2 else {"objective": "multiclass"}
    )
    if n_classes > 2:
        objective["num_class"] = str(n_classes)
    parameters = {
        **objective,
        "num_threads": 1,
        "verbose": -1,
        "seed": 0,
        "num_leaves": 7,
    }
    return lightgbm.train(parameters, lightgbm.Dataset(X, y), num_boost_round=20), X


def lightgbm_artifact(n_classes: int) -> tuple[ModelArtifact, np.ndarray, np.ndarray]:
    """Return an artifact, rows, and the probabilities that LightGBM's Python package gives them."""
    booster, rows = train_lightgbm(n_classes)
    outputs = np.asarray(booster.predict(rows, num_threads=1))
    expected = np.column_stack([1 - outputs, outputs]) if n_classes == 2 else outputs
    artifact = artifact_without_estimator(rows.shape[1], n_classes)
    artifact.input_schema.features[0].nullable = True
    artifact.boosted_trees.CopyFrom(encode_booster(booster))
    artifact.provenance.family = "lightgbm"
    artifact.provenance.display_name = "LightGBM"
    for row, probabilities in zip(rows[:8], expected[:8], strict=True):
        artifact.golden_examples.add(
            features=row, probabilities=probabilities, label=str(probabilities.argmax())
        )
    return artifact, rows, expected


def write_artifact(folder: Path, artifact: ModelArtifact) -> Path:
    """Write `artifact` into the folder as the server expects it, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(seal(artifact.SerializeToString()))
    return folder


def write_version(folder: Path, artifact: ModelArtifact, version: str) -> Path:
    """Write one version of a registered model, as model_sync lays it out."""
    path = write_artifact(folder / "versions" / version, artifact) / "model.binpb"
    ModelSource(
        "iris", version, "", hashlib.sha256(path.read_bytes()).hexdigest()
    ).write(path.parent)
    return path.parent


def settings_of(lane: str, **changes: Any) -> Settings:
    """Return settings of a server on free ports of the loopback address."""
    return Settings(
        host="127.0.0.1",
        port=0,
        http_port=0,
        drain_seconds=0.0,
        lane=lane,
        **changes,
    )


@contextmanager
def running_server(
    model_dir: Path | None,
    lane: str = "fast",
    *,
    lane_policy: LanePolicy = DEFAULT_LANE_POLICY,
    max_silence_seconds: float = MAX_SILENCE_SECONDS,
    **changes: Any,
) -> Iterator[PredictionServer]:
    """Run a server on free ports of the loopback address, with the model in `model_dir` if any."""
    server = PredictionServer(
        settings_of(lane, **changes),
        lane_policy=lane_policy,
        max_silence_seconds=max_silence_seconds,
    )
    server.start()
    try:
        if model_dir is not None:
            server.serve(load_model(model_dir))
        yield server
    finally:
        server.stop()


@contextmanager
def connect(server: PredictionServer) -> Iterator[PredictionServiceStub]:
    """Return a stub that talks to `server`."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield PredictionServiceStub(channel)


def copy_project(folder: Path) -> Path:
    """Copy the tracked files and the new ones that are not ignored, and return the folder."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(listing, cwd=ROOT, text=True).splitlines()
    for name in names:
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            # With its time, because make compares times: installed files must look newer.
            shutil.copy2(ROOT / name, folder / name)
    return folder


def wait_for(condition: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
    """Return once `condition` holds, for changes by other threads that offer nothing to wait on."""
    end = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come to hold"
        time.sleep(0.01)


def read_page(page: str) -> str:
    """Return the text of an HTTP page."""
    with urllib.request.urlopen(page) as response:
        return str(response.read().decode())


def answers(page: str) -> bool:
    """Tell whether an HTTP page answers with 200."""
    try:
        with urllib.request.urlopen(page) as response:
            return bool(response.status == 200)
    except OSError:
        return False
