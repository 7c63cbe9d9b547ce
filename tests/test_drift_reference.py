"""The reference of an artifact: written from the rows of a model, and refused if it is hostile."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model import load_model
from grpc_server.model.reference import MAX_REFERENCE_BYTES
from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.bins import Column, bin_numbers, find_edges
from training.artifact.reference import describe_reference, describe_scores
from training.data.rows import Rows
from training.data.schema import Feature, Kind, Schema
from training.report.vega import summarize

from drift_support import (
    load,
    make_numbers,
    mixed_artifact,
    number_artifact,
    numeric_schema,
)
from support import write_artifact
from training_support import make_rows, train_family

Edit = Callable[[pb.Reference], object]
EDITS: dict[str, Edit] = {
    "n_rows is 0.0": lambda r: setattr(r, "n_rows", 0.0),
    "n_rows is nan": lambda r: setattr(r, "n_rows", nan),
    "n_rows is inf": lambda r: setattr(r, "n_rows", inf),
    "error is nan": lambda r: setattr(r, "expected_calibration_error", nan),
    "error is -0.1": lambda r: setattr(r, "expected_calibration_error", -0.1),
    '"ghost", which is no feature': lambda r: setattr(r.features[0], "name", "ghost"),
    '"f1" twice': lambda r: setattr(r.features[0], "name", "f1"),
    "has part 3": lambda r: setattr(r.features[0], "part", 3),
    "edges that do not ascend": lambda r: r.features[1].edges.__setitem__(0, 9.0),
    "or are not finite": lambda r: r.features[1].edges.__setitem__(0, nan),
    '"f1" has edges': lambda r: r.features[1].edges.__setitem__(-1, inf),
    "has 13 edges": lambda r: r.features[1].edges.extend([7.0, 8.0, 9.0, 10.0]),
    "needs 11": lambda r: r.features[1].shares.append(0.0),
    "needs 12": lambda r: r.features[1].edges.append(9.0),
    "outside of [0, 1]": lambda r: r.features[1].shares.__setitem__(0, -0.1),
    "do not sum to 1": lambda r: r.features[1].shares.__setitem__(0, 0.5),
    '"f1" has shares': lambda r: r.features[1].shares.__setitem__(0, nan),
    "has categories": lambda r: r.features[1].categories.append(0),
    "reference.scores has 0 shares": lambda r: r.ClearField("scores"),
    "scores has an edge": lambda r: r.scores.fine_edges.__setitem__(-1, 1.5),
    "fine_edges has 999": lambda r: r.scores.fine_edges.extend([0.5] * 950),
    "bytes of reference": lambda r: r.features[0].edges.extend([0.0] * 20_000),
    "reference.features: 501": lambda r: [r.features.add() for _ in range(495)],
}
OF_CATEGORIES: dict[str, Edit] = {
    "category twice": lambda r: r.features[3].categories.__setitem__(0, 1),
    "position of 3": lambda r: r.features[3].categories.__setitem__(0, 2**32 - 1),
    "21 categories": lambda r: r.features[3].categories.extend(range(18)),
    "has edges, but": lambda r: r.features[3].edges.append(0.0),
    "it is a boolean": lambda r: r.features[2].edges.__setitem__(0, 1.0),
}


@pytest.mark.parametrize("reason", EDITS)
def test_a_hostile_reference_is_refused_with_a_reason(
    tmp_path: Path, reason: str
) -> None:
    artifact = number_artifact()
    EDITS[reason](artifact.reference)
    with pytest.raises(ArtifactCorrupt) as caught:
        load(tmp_path, artifact)
    assert reason in str(caught.value)


@pytest.mark.parametrize("reason", OF_CATEGORIES)
def test_hostile_bins_of_categories_are_refused(tmp_path: Path, reason: str) -> None:
    artifact, _ = mixed_artifact()
    OF_CATEGORIES[reason](artifact.reference)
    with pytest.raises(ArtifactCorrupt) as caught:
        load(tmp_path, artifact)
    assert reason in str(caught.value)


def test_fine_edges_are_of_two_classes_only(tmp_path: Path) -> None:
    artifact = number_artifact(3)
    assert not artifact.reference.scores.fine_edges
    artifact.reference.scores.fine_edges.append(0.5)
    with pytest.raises(ArtifactCorrupt, match="3 classes has none"):
        load(tmp_path, artifact)


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_training_writes_a_reference_that_the_server_reads(
    tmp_path: Path, family: str, n_classes: int, sparse: bool
) -> None:
    schema, train, holdout = make_rows(n_classes, missing=not sparse, sparse=sparse)
    trained = train_family(family, schema, train, holdout)
    artifact = pb.ModelArtifact.FromString(trained.artifact)
    reference = load_model(write_artifact(tmp_path, artifact)).reference
    assert reference is not None
    assert reference.n_rows == 300
    names = [bins.feature.name for bins in reference.features]
    assert sorted(names) == list(schema.feature_names)
    error = trained.metrics["holdout_expected_calibration_error"]
    assert reference.calibration_error == error
    if not sparse:
        (gaps,) = (b.shares[-1] for b in reference.features if b.feature.nullable)
        X = np.vstack([train.X, holdout.X])
        assert gaps == pytest.approx(np.isnan(X[:, 1]).mean())


@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_the_most_important_feature_comes_first(family: str) -> None:
    schema, *parts = make_rows()

    def mark(rows: Rows) -> Rows:
        """Make one column decide, and one useless for all its huge numbers."""
        random, X = np.random.default_rng(len(rows.y)), np.array(rows.X)
        X[:, 0] = random.normal(size=len(X)) * 1e9
        X[:, 3] = rows.y + random.normal(size=len(X)) / 4
        return Rows(X, rows.y)

    trained = train_family(family, schema, *map(mark, parts))
    artifact = pb.ModelArtifact.FromString(trained.artifact)
    assert artifact.reference.features[0].name == "column 3"


def test_a_row_counts_as_often_as_its_weight() -> None:
    values = np.arange(2_000.0)
    weight = np.where(values < 1_000, 3.0, 1.0)
    column = Column(values, weight)
    edges = find_edges(column, 1_600.0)
    twin = find_edges(Column(np.repeat(values, weight.astype(int)), None), 4_000.0)
    assert edges.tolist() == twin.tolist()
    assert bin_numbers(column, edges)[:-1] == pytest.approx([0.1] * 10, abs=1e-3)


def test_rows_of_weight_0_do_not_count() -> None:
    random = np.random.default_rng(0)
    values, weight = random.normal(size=1_000), np.ones(1_000)
    values[:400], weight[:400] = 1e6, 0.0
    rows = Rows(values[:, None], np.zeros(1_000, dtype=np.int64), weight)
    scores = describe_scores(np.full((10, 2), 0.5), None)
    schema = numeric_schema(1)
    message = describe_reference(rows, schema, np.ones(1), scores, 0.0)
    assert message.n_rows == 600
    assert max(message.features[0].edges) < 10


@pytest.mark.parametrize(
    "values, n_edges",
    [
        ([nan] * 600, 0),
        ([5.0] * 600, 2),
        ([0.0, 1.0] * 300, 3),
        ([0.0] * 590 + list(range(10)), 0),
        ([1e308, -1e308] * 300, 3),
        (list(range(600)), 9),
        (list(range(120)), 1),
        ([1.0, 2.0], 0),
    ],
)
def test_equal_edges_are_merged(values: list[float], n_edges: int) -> None:
    column = Column(np.array(values, dtype=float), None)
    edges = find_edges(column, len(values))
    if values[:1] == [0.0] and len(set(values)) == 10:
        # Nine in ten values are the smallest: one edge.
        assert edges.tolist() == [0.0]
        return
    assert len(edges) == n_edges
    shares = bin_numbers(column, edges)
    assert sum(shares) == pytest.approx(1.0)
    assert shares[-1] == np.isnan(column.values).mean()


def test_dates_are_watched_by_what_the_model_takes_of_them() -> None:
    features = (
        Feature("x"),
        Feature(
            "day", Kind.DATE, format="%Y-%m-%d", parts=("days", "month"), nullable=True
        ),
        Feature("place", Kind.MEANS, categories=("a", "b", "c")),
    )
    schema = Schema(features, (0, 1))
    random = np.random.default_rng(0)
    seconds = random.integers(0, 365, 1_000) * 86_400.0
    X = np.column_stack(
        [random.normal(size=1_000), seconds, random.integers(0, 3, 1_000)]
    )
    scores = describe_scores(np.full((10, 2), 0.5), None)
    importance = np.array([0.1, 0.2, 0.3, 0.4])
    rows = Rows(X, np.zeros(1_000, dtype=np.int64))
    found = describe_reference(rows, schema, importance, scores, 0.0).features
    assert [(f.name, f.part) for f in found] == [
        ("place", 0),
        ("day", pb.DATE_PART_MONTH),
        ("day", pb.DATE_PART_DAYS),
        ("x", 0),
    ]
    assert max(found[1].edges) < 12
    assert max(found[2].edges) < 365


def test_a_wide_table_stays_below_100_kib(tmp_path: Path) -> None:
    X = csr_matrix(make_numbers(600)[:, [1] * 3_000])
    names = tuple(Feature(f"{n:04d}" + "x" * 200) for n in range(3_000))
    schema = Schema(names, (0, 1), is_sparse=True)
    rows = Rows(X, np.zeros(600, dtype=np.int64))
    scores = describe_scores(np.random.default_rng(0).dirichlet([1, 1], 2_000), None)
    importance = np.arange(3_000.0)
    message = describe_reference(rows, schema, importance, scores, 0.0)
    assert 200 < len(message.features) < 500
    assert message.ByteSize() < MAX_REFERENCE_BYTES
    assert message.features[0].name.startswith("2999")


def test_the_log_suggests_a_calibration() -> None:
    schema, train, holdout = make_rows()
    trained = train_family("lightgbm", schema, train, holdout)
    name = "holdout_expected_calibration_error"
    cure = "try --calibration sigmoid"
    for error, is_told in ((0.051, True), (0.05, False)):
        metrics = {**trained.metrics, name: error}
        assert (cure in summarize(replace(trained, metrics=metrics))) is is_told
