"""`make bench-ensemble`: how long an ensemble of five takes for one row, beside its members."""

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from benchmarks.serve.models import train
from benchmarks.serving import read_port
from benchmarks.tables import print_table

from grpc_server.model import load_model
from prediction import PredictionClient
from prediction.artifact import FILE_NAME, seal
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

MEMBERS: Mapping[str, tuple[str, dict[str, list[object]]]] = {
    "Logistic Regression": ("logistic_regression", {}),
    "LightGBM, 100 trees": ("lightgbm", {"n_estimators": [100]}),
    "LightGBM, 200 trees": ("lightgbm", {"n_estimators": [200]}),
    "LightGBM, 300 trees": ("lightgbm", {"n_estimators": [300]}),
    "LightGBM, 500 trees": ("lightgbm", {"n_estimators": [500]}),
}
ENSEMBLE = "Ensemble of these five"
N_ROUNDS, N_CALLS = 20, 200


def main() -> None:
    """Train the members on the embedded data set, and print a row for each model."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        folders = make_models(Path(folder))
        alone = measure_alone(folders)
        called = measure_calls(folders)
    rows = [(name, f"{alone[name]:.1f}", f"{called[name]:.0f}") for name in folders]
    print_table(
        f"One row, median of {N_ROUNDS} x {N_CALLS}, taking turns",
        ("model", "model alone, µs", "call over gRPC, µs"),
        rows,
    )


def make_models(work: Path) -> dict[str, Path]:
    """Return the folder of each member and of the ensemble."""
    artifacts = {}
    for number, (name, (family, grid)) in enumerate(MEMBERS.items()):
        scratch = work / str(number)
        scratch.mkdir()
        artifacts[name] = ModelArtifact.FromString(train(family, grid, scratch))
    artifacts[ENSEMBLE] = average(list(artifacts.values()))
    folders = {}
    for number, (name, artifact) in enumerate(artifacts.items()):
        folders[name] = work / f"model-{number}"
        folders[name].mkdir()
        artifact.ClearField("sha256")
        (folders[name] / FILE_NAME).write_bytes(seal(artifact.SerializeToString()))
    return folders


def average(artifacts: Sequence[ModelArtifact]) -> ModelArtifact:
    """Return the mean of models of one table; each counts once."""
    ensemble = ModelArtifact()
    ensemble.CopyFrom(artifacts[0])
    for artifact in artifacts:
        member = ensemble.ensemble.members.add(count=1)
        if artifact.HasField("logistic_regression"):
            member.logistic_regression.CopyFrom(artifact.logistic_regression)
        else:
            member.boosted_trees.CopyFrom(artifact.boosted_trees)
    golden = [artifact.golden_examples for artifact in artifacts]
    for example, *others in zip(ensemble.golden_examples, *golden, strict=True):
        mean = np.mean([other.probabilities for other in others], axis=0)
        example.probabilities[:] = mean
        example.label = "1" if mean[1] > ensemble.threshold else "0"
    return ensemble


def measure_alone(folders: Mapping[str, Path]) -> dict[str, float]:
    """Return the median microseconds of one row in this process."""
    models = {name: load_model(folder) for name, folder in folders.items()}
    row = read_row(folders[ENSEMBLE])
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(N_ROUNDS):
        for name, model in models.items():
            for _ in range(N_CALLS):
                begin = time.perf_counter()
                model.estimator.predict_probabilities(row)
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(taken) * 1e6 for name, taken in times.items()}


def measure_calls(folders: Mapping[str, Path]) -> dict[str, float]:
    """Return the median microseconds of one call, each model in a server of its own."""
    row = read_row(folders[ENSEMBLE])
    times: dict[str, list[float]] = {name: [] for name in folders}
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(PredictionClient(serve(stack, folder)))
            for name, folder in folders.items()
        }
        for _ in range(N_ROUNDS):
            for name, client in clients.items():
                for _ in range(N_CALLS):
                    begin = time.perf_counter()
                    client.predict(row)
                    times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(taken) * 1e6 for name, taken in times.items()}


def serve(stack: ExitStack, folder: Path) -> str:
    """Start a server, which the stack stops, and return its target."""
    command = [sys.executable, "-m", "grpc_server", "--model-dir", str(folder)]
    command += ["--host", "127.0.0.1", "--port", "0", "--http-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    stack.callback(process.wait)
    stack.callback(process.send_signal, signal.SIGTERM)
    return f"127.0.0.1:{read_port(process)}"


def read_row(folder: Path) -> list[float]:
    """Return the first golden example."""
    artifact = ModelArtifact.FromString((folder / FILE_NAME).read_bytes())
    return list(artifact.golden_examples[0].features)


if __name__ == "__main__":
    main()
