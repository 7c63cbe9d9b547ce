"""Fixtures of all tests."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from grpc_server.server import PredictionServer
from grpc_server.settings import LANES
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from client_support import DrivenClient, LoopThread
from support import artifact_without_estimator, connect, running_server, write_artifact

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST = (
    "test_train_flow.py",
    "test_readme.py",
    "test_public_tables.py",
    "test_tracking.py",
    "test_scored_twin.py",
    "test_s3.py",
    "test_registry_faults.py",
    "test_cycle.py",
)
"""Files of tests that take minutes, the longest first."""


def pytest_configure() -> None:
    """Give each example of Hypothesis the time that it needs on a busy machine."""
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Begin with the longest files where files run side by side, so that none ends alone.

    Needs `--no-loadscope-reorder`: pytest-xdist would begin with the files of most tests.
    """
    if hasattr(config, "workerinput"):
        ranks = {name: rank for rank, name in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """Keep the machine's own settings, proxies and telemetry out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if (
                name.startswith(("PREDICTION_", "MLFLOW_", "METAFLOW_"))
                or "proxy" in name.lower()
            ):
                patch.delenv(name)
        # A program under test starts as its users' does: with its modules compiled once.
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("DO_NOT_TRACK", "true")
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread_for_algebra(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep BLAS and OpenMP to one thread where files of tests run side by side.

    Threads beyond the cores wait for each other by spinning, which takes several times as long as
    the work. What tests start has its own threads, as with its users.
    """
    if hasattr(request.config, "workerinput"):
        with threadpool_limits(1):
            yield
    else:
        yield


@pytest.fixture(scope="module", params=["blocking", "async"])
def each_client(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a module's tests once more, with the asynchronous client as its PredictionClient.

    Neither a pending task nor a word of its event loop may be left over.
    """
    if request.param == "blocking":
        yield
        return
    with LoopThread() as loop, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            request.module,
            "PredictionClient",
            partial(DrivenClient, loop),
            raising=True,
        )
        yield
        assert loop.tasks() == set()
        assert loop.problems == []


@pytest.fixture
def logistic_artifact() -> ModelArtifact:
    """Two features, two classes; coefficients and answers worked out by hand."""
    artifact = artifact_without_estimator(2, 2)
    artifact.logistic_regression.coefficients.extend([2.0, -1.0])
    artifact.logistic_regression.intercepts.append(0.5)
    artifact.logistic_regression.centers.extend([1.0, 3.0])
    artifact.provenance.family = "logistic_regression"
    artifact.provenance.display_name = "Logistic Regression"
    # At the centre the log-odds are the intercept: 1 / (1 + exp(-0.5)).
    artifact.golden_examples.add(
        features=[1.0, 3.0],
        probabilities=[0.3775406687981454, 0.6224593312018546],
        label="1",
    )
    return artifact


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest) -> str:
    """The lane of Predict: tests that use it run on each."""
    return str(request.param)


@pytest.fixture
def model_dir(logistic_artifact: ModelArtifact, tmp_path: Path) -> Path:
    """Return a folder with the logistic regression worked out by hand."""
    return write_artifact(tmp_path / "model", logistic_artifact)


@pytest.fixture
def server(model_dir: Path, lane: str) -> Iterator[PredictionServer]:
    """Return a server of that model in this process."""
    with running_server(model_dir, lane) as server:
        yield server


@pytest.fixture
def serve(
    tmp_path: Path, lane: str
) -> Iterator[Callable[[ModelArtifact], PredictionServiceStub]]:
    """Return a function that serves an artifact and gives a stub; all stops after the test."""
    with ExitStack() as stack:

        def start(artifact: ModelArtifact) -> PredictionServiceStub:
            folder = write_artifact(tmp_path / "model", artifact)
            return stack.enter_context(
                connect(stack.enter_context(running_server(folder, lane)))
            )

        yield start


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An MLflow store with its tables made, which takes seconds."""
    import mlflow

    folder = tmp_path_factory.mktemp("store")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.search_experiments()
    mlflow.set_tracking_uri("")
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def store(
    tmp_path: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[MlflowClient]":
    """An empty store in a folder with a space in its name, which is the working folder."""
    import mlflow

    folder = tmp_path / "a store"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "mlflow.db").write_bytes(empty_store)
    # The URI has the whole path, because MLflow keeps one store for each name and process.
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri("")
