"""Models with a reference, and rows to offer to a monitor of drift."""

from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from grpc_server.drift.collector import DriftCollector
from grpc_server.drift.monitor import DriftMonitor
from grpc_server.model import LoadedModel, load_model
from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.reference import describe_reference, describe_scores
from training.data.rows import Rows
from training.data.schema import Feature, Kind, Schema

from support import lightgbm_artifact, write_artifact
from table_support import CITIES, GRADES, add_golden_examples, table_lightgbm

TABLE = Schema(
    (
        Feature("age", nullable=True),
        Feature("hours"),
        Feature("smoker", Kind.BOOLEAN),
        Feature("city", Kind.CATEGORICAL, nullable=True, categories=CITIES),
        Feature("grade", Kind.CATEGORICAL, categories=GRADES),
    ),
    (0, 1),
)


def numeric_schema(n_features: int, n_classes: int = 2) -> Schema:
    """Return a schema of numbers f0, f1, ..."""
    features = tuple(Feature(f"f{n}", nullable=n == 0) for n in range(n_features))
    return Schema(features, tuple(range(n_classes)))


def refer(
    artifact: pb.ModelArtifact,
    schema: Schema,
    X: np.ndarray,
    probabilities: np.ndarray,
    calibration_error: float = 0.01,
) -> pb.ModelArtifact:
    """Give an artifact the reference of some rows; the first feature is the most important."""
    n_columns = schema.n_numeric + len(schema.categorical)
    importance = np.arange(n_columns, 0, -1.0)
    scores = describe_scores(probabilities, None)
    rows = Rows(X, np.zeros(len(X), dtype=np.int64))
    artifact.reference.CopyFrom(
        describe_reference(rows, schema, importance, scores, calibration_error)
    )
    return artifact


def number_artifact(n_classes: int = 2, n_rows: int = 2_000) -> pb.ModelArtifact:
    """Return a model of six numbers with a reference of `make_numbers`."""
    artifact, _, _ = lightgbm_artifact(n_classes)
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.ones(n_classes), n_rows)
    X = make_numbers(n_rows)
    return refer(artifact, numeric_schema(6, n_classes), X, probabilities)


def make_numbers(n_rows: int, seed: int = 0) -> np.ndarray:
    """Return rows of six numbers, some of the first missing."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 6))
    X[random.random(n_rows) < 0.1, 0] = np.nan
    return X


def load(folder: Path, artifact: pb.ModelArtifact) -> LoadedModel:
    """Return the model of an artifact, as a server loads it."""
    return load_model(write_artifact(folder, artifact))


def offer(monitor: DriftMonitor, model: LoadedModel, X: np.ndarray) -> np.ndarray:
    """Offer rows as the servicer does, half of them as a batch; return the probabilities."""
    probabilities = model.estimator.predict_batch(np.ascontiguousarray(X))
    positions = model.classes.decide_batch(probabilities)
    half = len(X) // 2
    for row, own, position in zip(X[:half], probabilities, positions, strict=False):
        monitor.offer(model, row.tolist(), own.tolist(), position)
    monitor.offer_batch(model, X[half:], probabilities[half:], positions[half:])
    return probabilities


def page_of(monitor: DriftMonitor) -> str:
    """Return the page of a monitor's metrics."""
    registry = CollectorRegistry()
    registry.register(DriftCollector(monitor.read))
    return generate_latest(registry).decode()


def read_samples(page: str, name: str, *labels: str) -> dict[Any, float]:
    """Return the samples of a name by the values of some labels."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


def mixed_artifact(n_rows: int = 4_000) -> tuple[pb.ModelArtifact, np.ndarray]:
    """Return a model of a table of every kind, and the rows of its reference."""
    artifact, estimator, rows = table_lightgbm(2)
    X = np.resize(rows, (n_rows, rows.shape[1]))
    probabilities = np.asarray(estimator.predict_proba(X))
    add_golden_examples(artifact, X[:20], probabilities[:20])
    return refer(artifact, TABLE, X, probabilities), X
