"""A hostile but well-formed model delays neither its loading nor other calls."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from grpc_server.errors import ArtifactCorrupt, GoldenMismatch
from grpc_server.model import load_model
from prediction.artifact.v1 import model_artifact_pb2 as pb
from prediction.v1.prediction_service_pb2 import BatchPredictRequest, PredictRequest

from support import (
    artifact_without_estimator,
    connect,
    lightgbm_artifact,
    running_server,
    write_artifact,
)
from wire import failure

Edit = Callable[[pb.ModelArtifact], object]


def tree_of(children: list[tuple[int, int]]) -> pb.BoostedTree:
    """Return a tree of these nodes, whose leaves are all 0."""
    n_nodes = len(children)
    return pb.BoostedTree(
        leaf_values=[0.0] * (n_nodes + 1),
        leaf_counts=[1] * (n_nodes + 1),
        left_children=[left for left, _ in children],
        right_children=[right for _, right in children],
        split_features=[0] * n_nodes,
        decision_types=[2] * n_nodes,
        thresholds=[0.5] * n_nodes,
        node_counts=[2] * n_nodes,
    )


def chain(n_nodes: int, n_features: int) -> pb.BoostedTree:
    """Return a tree in which each node has one leaf and the next node."""
    children = [(node + 1, -node - 1) for node in range(n_nodes - 1)]
    children.append((-n_nodes - 1, -n_nodes))
    tree = tree_of(children)
    tree.split_features[:] = [node % n_features for node in range(n_nodes)]
    return tree


def bush(n_nodes: int) -> pb.BoostedTree:
    """Return a tree that is as flat as it can be, with a set of categories for each node."""
    leaves = iter(range(1, n_nodes + 2))

    def child(number: int) -> int:
        return number if number < n_nodes else -next(leaves)

    tree = tree_of([(child(2 * n + 1), child(2 * n + 2)) for n in range(n_nodes)])
    tree.decision_types[:] = [1] * n_nodes
    tree.thresholds[:] = range(n_nodes)
    tree.category_bounds.extend(range(n_nodes + 1))
    tree.category_words.extend([1] * n_nodes)
    return tree


def artifact_of(trees: list[pb.BoostedTree], n_features: int) -> pb.ModelArtifact:
    """Return an artifact of trees whose leaves are all 0."""
    artifact = artifact_without_estimator(n_features, 2)
    artifact.boosted_trees.objective = pb.OBJECTIVE_BINARY
    artifact.boosted_trees.sigmoid = 1.0
    artifact.boosted_trees.trees.extend(trees)
    artifact.golden_examples.add(
        features=[0.0] * n_features, probabilities=[0.5, 0.5], label="0"
    )
    return artifact


def test_checks_take_time_in_proportion_to_the_size(tmp_path: Path) -> None:
    """100,000 nodes, each with a set of categories: within a second or two, not minutes."""
    folder = write_artifact(tmp_path, artifact_of([bush(100_000)], 1))
    program = f"""
from pathlib import Path
from grpc_server.model import load_model
load_model(Path({str(folder)!r}))
"""

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("threshold", [0.5, -1.0, 3.0, np.inf])
def test_a_set_of_categories_that_is_not_there_is_refused(
    threshold: float, tmp_path: Path
) -> None:
    artifact = artifact_of([bush(3)], 1)
    artifact.boosted_trees.trees[0].thresholds[1] = threshold

    with pytest.raises(ArtifactCorrupt, match="of categories; there are 3"):
        load_model(write_artifact(tmp_path, artifact))


def test_an_explanation_that_would_hold_up_all_calls_is_refused(tmp_path: Path) -> None:
    """LightGBM would need seconds for each of these trees; the answer alone takes none."""
    model = artifact_of([chain(1000, 1000)] * 100, 1000)

    with running_server(write_artifact(tmp_path, model)) as server:
        with connect(server) as stub:
            request = PredictRequest(features=[0.0] * 1000)
            assert list(stub.Predict(request, timeout=30).probabilities) == [0.5, 0.5]
            request.explain_top_k = 1
            error = failure(lambda: stub.Predict(request, timeout=30))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "explain_top_k: only 0 is allowed" in error.details()


def test_a_deep_tree_of_few_features_is_explained(tmp_path: Path) -> None:
    """The work grows with the features on the way to a leaf, not with its nodes."""
    model = load_model(write_artifact(tmp_path, artifact_of([chain(1000, 5)] * 50, 5)))

    explanation = model.estimator.explain([0.0] * 5, 1)

    assert explanation.contributions == [0.0] * 5


def test_an_explanation_that_would_take_all_memory_is_refused(tmp_path: Path) -> None:
    """One number for each feature and class: 200 million here."""
    artifact = artifact_without_estimator(20_000, 10_000)
    artifact.boosted_trees.objective = pb.OBJECTIVE_MULTICLASS
    artifact.boosted_trees.sigmoid = 1.0
    for _ in range(10_000):
        artifact.boosted_trees.trees.add(leaf_values=[0.0])
    artifact.golden_examples.add(
        features=[0.0] * 20_000, probabilities=[1e-4] * 10_000, label="0"
    )

    with running_server(write_artifact(tmp_path, artifact)) as server:
        with connect(server) as stub:
            request = PredictRequest(features=[0.0] * 20_000, explain_top_k=1)
            error = failure(lambda: stub.Predict(request, timeout=30))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "explain_top_k: only 0 is allowed" in error.details()


def test_a_batch_of_many_classes_has_fewer_rows(tmp_path: Path) -> None:
    """Its answer has a number for each row and class: 10,000 rows would take 5 GB here."""
    artifact = artifact_without_estimator(1, 10_000)
    artifact.logistic_regression.coefficients.extend([0.0] * 10_000)
    artifact.logistic_regression.intercepts.extend([0.0] * 10_000)
    artifact.golden_examples.add(
        features=[0.0], probabilities=[1e-4] * 10_000, label="0"
    )

    with running_server(write_artifact(tmp_path, artifact)) as server:
        with connect(server) as stub:
            answer = stub.BatchPredict(BatchPredictRequest(values=[0.0] * 10))
            large = BatchPredictRequest(values=[0.0] * 101)
            error = failure(lambda: stub.BatchPredict(large, timeout=30))

    assert len(answer.probabilities) == 100_000
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 100 are allowed per call" in error.details()


def add_categories(artifact: pb.ModelArtifact) -> None:
    feature = artifact.input_schema.features[5]
    feature.categorical.strings.values.extend(
        f"{number:01000}" for number in range(17_000)
    )


REFUSED: dict[str, tuple[Edit, str]] = {
    "threshold above 1": (lambda a: setattr(a, "threshold", 2.0), "threshold is 2.0"),
    "threshold below 0": (lambda a: setattr(a, "threshold", -1.0), "threshold is -1.0"),
    "threshold that is no number": (
        lambda a: setattr(a, "threshold", np.nan),
        "threshold is nan",
    ),
    "a time beyond all years": (
        lambda a: setattr(a.provenance.create_time, "seconds", 2**62),
        "provenance.create_time",
    ),
    "a long family": (
        lambda a: setattr(a.provenance, "family", "f" * 20_000),
        "longest name: 20000; the limit is 10000",
    ),
    "a large provenance": (
        lambda a: a.provenance.library_versions.update({"l" * 300_000: ""}),
        "bytes of provenance",
    ),
    "a schema that no client could receive": (add_categories, "bytes of input_schema"),
    "more coefficients than a row has time for": (
        lambda a: a.logistic_regression.coefficients.extend([0.0] * 1_000_001),
        "coefficients: 1000001; the limit is 1000000",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_beyond_a_limit_is_refused(name: str, tmp_path: Path) -> None:
    artifact, _, _ = lightgbm_artifact(2)
    edit, problem = REFUSED[name]
    edit(artifact)

    with pytest.raises(ArtifactCorrupt, match=problem):
        load_model(write_artifact(tmp_path, artifact))


def test_what_is_told_of_a_refused_file_is_short(tmp_path: Path) -> None:
    """It becomes a line of the log."""
    labels, _, _ = lightgbm_artifact(2)
    labels.class_labels.strings.values.extend(["l" * 10_000] * 1000)
    answer, _, _ = lightgbm_artifact(2)
    answer.golden_examples[0].label = "l" * 1_000_000

    with pytest.raises(ArtifactCorrupt) as of_labels:
        load_model(write_artifact(tmp_path / "a", labels))
    with pytest.raises(GoldenMismatch) as of_answer:
        load_model(write_artifact(tmp_path / "b", answer))

    assert len(str(of_labels.value)) < 1000
    assert len(str(of_answer.value)) < 1000


def test_a_category_does_not_become_millions_of_numbers(tmp_path: Path) -> None:
    """Each call would compute all of them, on the thread that answers all calls."""
    artifact = artifact_of([chain(1, 1)], 1)
    means = artifact.input_schema.features[0].categorical.means
    artifact.input_schema.features[0].categorical.strings.values.append("a")
    means.values.extend([0.5] * 100_001)
    means.missing.extend([0.5] * 100_001)

    with pytest.raises(
        ArtifactCorrupt, match="target means of a row: 100001; the limit is 100000"
    ):
        load_model(write_artifact(tmp_path, artifact))
