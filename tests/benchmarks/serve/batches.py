"""Rows per second of batches over gRPC, beside the same model in the benchmark's own process."""

import re
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmarks.serve.load import GRPC_OPTIONS, Request
from benchmarks.serve.models import Model
from benchmarks.serve.servers import IMAGE_ENVIRON, serving
from lightgbm import Booster
from scipy.special import expit

from grpc_server.model import load_model
from prediction.artifact import FILE_NAME
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    PackedRows,
    PredictRequest,
)

from support import artifact_without_estimator, write_artifact

PATH = "/prediction.v1.PredictionService/BatchPredict"
WIDTHS = (30, 500)
N_ROWS = (1_000, 10_000)
N_ROUNDS = 5
_ROUND_ROWS = 200_000
_SEED = 0
_N_TREES = 100


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Rows per second of one model, width and size of batch, by form and by calls in flight."""

    family: str
    n_features: int
    n_rows: int
    in_process: float
    served: dict[str, dict[int, float]]


def measure_batches(h2load: str, work: Path) -> Iterator[BatchResult]:
    """Measure both families."""
    for n_features in WIDTHS:
        for family, make in (("Logistic Regression", _linear), ("LightGBM", _boosted)):
            folder = work / f"batch-{family}-{n_features}".replace(" ", "-")
            folder.mkdir()
            predict = make(folder, n_features)
            with _serving_batches(folder, n_features, work) as port:
                for n_rows in N_ROWS:
                    yield _measure(
                        h2load, family, folder, predict, port, n_features, n_rows
                    )


def _measure(
    h2load: str,
    family: str,
    folder: Path,
    predict: Callable[[Any], Any],
    port: int,
    n_features: int,
    n_rows: int,
) -> BatchResult:
    X = np.random.default_rng(_SEED).normal(size=(n_rows, n_features))
    bodies = {}
    for form, request in _forms(X).items():
        bodies[form] = folder / f"body-{form}-{n_rows}"
        _frame(bodies[form], request)
    n_calls = max(8, _ROUND_ROWS * WIDTHS[0] // (n_rows * n_features))
    in_process: list[float] = []
    served: dict[str, dict[int, list[float]]] = {
        form: {1: [], 2: []} for form in bodies
    }
    for _ in range(N_ROUNDS):
        begin = time.perf_counter()
        for _ in range(max(1, n_calls // 4)):
            predict(X)
        seconds = time.perf_counter() - begin
        in_process.append(max(1, n_calls // 4) * n_rows / seconds)
        for form, rates in served.items():
            for in_flight, rate in rates.items():
                calls = _call(h2load, port, bodies[form], in_flight, n_calls)
                rate.append(calls * n_rows)
    return BatchResult(
        family,
        n_features,
        n_rows,
        median(in_process),
        {
            form: {in_flight: median(rate) for in_flight, rate in rates.items()}
            for form, rates in served.items()
        },
    )


def _forms(X: Any) -> dict[str, BatchPredictRequest]:
    """Return the same rows in each form."""
    packed = PackedRows(values=X.astype("<f8").tobytes())
    return {
        "values": BatchPredictRequest(values=X.ravel()),
        "packed": BatchPredictRequest(packed_rows=packed, pack_probabilities=True),
    }


def _call(h2load: str, port: int, body: Path, in_flight: int, n_calls: int) -> float:
    """Return the calls per second."""
    command = [h2load, "-c", str(in_flight), "-m", "1", "-n", str(n_calls)]
    command += ["-w", "24", "-W", "24", "-d", str(body)]
    command += GRPC_OPTIONS
    command.append(f"http://127.0.0.1:{port}{PATH}")
    output = subprocess.check_output(command, text=True)
    found = re.search(r"([\d.]+) req/s[\s\S]*\((\d+)\) data", output)
    # An error is an answer without data.
    assert found is not None and int(found[2]) > 1000 * n_calls, output
    return float(found[1])


@contextmanager
def _serving_batches(folder: Path, n_features: int, work: Path) -> Iterator[int]:
    artifact = ModelArtifact.FromString((folder / FILE_NAME).read_bytes())
    example = artifact.golden_examples[0]
    _frame(folder / "body", PredictRequest(features=example.features))
    path = PATH.replace("BatchPredict", "Predict")
    request = Request("grpc", path, folder / "body", example.probabilities[1])
    options = ["--max-message-bytes", "100000000"]
    with serving(
        folder.name, Model(folder, request), work, options, IMAGE_ENVIRON
    ) as target:
        yield target.port


def _frame(path: Path, message: BatchPredictRequest | PredictRequest) -> None:
    body = message.SerializeToString()
    path.write_bytes(struct.pack(">BI", 0, len(body)) + body)


def _linear(folder: Path, n_features: int) -> Callable[[Any], Any]:
    """Write a logistic regression; return what NumPy makes of it."""
    rng = np.random.default_rng(_SEED)
    weights, X = rng.normal(size=n_features), rng.normal(size=(4, n_features))
    artifact = artifact_without_estimator(n_features, 2)
    artifact.logistic_regression.coefficients.extend(weights)
    artifact.logistic_regression.intercepts.append(0.0)
    _finish(artifact, "logistic_regression", X, expit(X @ weights), folder)
    return lambda rows: expit(rows @ weights)


def _boosted(folder: Path, n_features: int) -> Callable[[Any], Any]:
    """Write a booster of LightGBM; return what its own package makes of it, on one thread."""
    from lightgbm import Dataset, train

    rng = np.random.default_rng(_SEED)
    X = rng.normal(size=(3000, n_features))
    y = X[:, 0] + rng.normal(size=len(X)) > 0
    params = {"objective": "binary", "verbose": -1, "seed": _SEED}
    booster: Booster = train(params, Dataset(X, y), _N_TREES)
    artifact = artifact_without_estimator(n_features, 2)
    artifact.lightgbm.model_text = booster.model_to_string()
    _finish(artifact, "lightgbm", X[:4], booster.predict(X[:4], num_threads=1), folder)
    return lambda rows: booster.predict(rows, num_threads=1)


def _finish(
    artifact: ModelArtifact, family: str, X: Any, second: Any, folder: Path
) -> None:
    artifact.provenance.family = family
    artifact.provenance.display_name = family
    for row, p in zip(X, second, strict=True):
        probabilities, label = [1 - p, p], str(int(p > 0.5))
        artifact.golden_examples.add(
            features=row, probabilities=probabilities, label=label
        )
    write_artifact(folder, artifact)
    load_model(folder)  # it is one that the server takes
