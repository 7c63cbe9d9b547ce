"""The artifact's formula of trees is LightGBM's for every tree that the checks let pass."""

import random
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from grpc_server.model import load_model
from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.tree_formula import evaluate_trees, trees_to_probabilities

from support import artifact_without_estimator, write_artifact

N_FEATURES = 3
N_ROWS = 40
ZERO = float(np.float32(1e-35))
# At these values a comparison, a cast or a set of categories changes its result.
EDGES = [
    *(0.0, -0.0, 5e-324, -5e-324, 1e-36, ZERO, -ZERO, np.nextafter(ZERO, 1), 1e-34),
    *(-1.0, -0.99, -0.5, 0.5, 1.0, 31.0, 31.9, 32.0, 63.0, 64.0),
    *(2.0**31 - 1, 2.0**31, -(2.0**31), 2.0**32, 2.0**53, 1e19, -1e19),
    *(1e308, -1e308, 1.7976931348623157e308, -1.7976931348623157e308),
]


def draw_number(rng: random.Random) -> float:
    if rng.random() < 0.5:
        return float(rng.choice(EDGES))
    return rng.gauss(0, 1) * 10.0 ** rng.choice([0, 0, 3, -3, 300, -300, -310])


def draw_children(rng: random.Random, n_nodes: int) -> tuple[list[int], list[int]]:
    """Return the children of a tree of any shape, whose leaves come in any order."""
    left, right = [0] * n_nodes, [0] * n_nodes
    is_open = [(left, 0), (right, 0)]
    for node in range(1, n_nodes):
        side, parent = is_open.pop(rng.randrange(len(is_open)))
        side[parent] = node
        is_open += [(left, node), (right, node)]
    rng.shuffle(is_open)
    for leaf, (side, parent) in enumerate(is_open):
        side[parent] = -leaf - 1
    return left, right


def draw_tree(rng: random.Random) -> pb.BoostedTree:
    n_nodes = rng.choice([1, 2, 5, 15, 30])
    left, right = draw_children(rng, n_nodes)
    tree = pb.BoostedTree(
        leaf_values=[rng.gauss(0, 1) for _ in range(n_nodes + 1)],
        left_children=left,
        right_children=right,
        category_bounds=[0, 1, 3],
        category_words=[rng.getrandbits(32) for _ in range(3)],
    )
    if n_nodes == 1:
        del tree.category_bounds[:], tree.category_words[:]
    for _ in range(n_nodes):
        has_categories = n_nodes > 1 and rng.random() < 0.4
        way = rng.choice([0, 2]) | rng.choice([0, 4, 8])
        tree.decision_types.append(way | has_categories)
        tree.split_features.append(rng.randrange(N_FEATURES))
        threshold = rng.choice([inf, -inf]) if rng.random() < 0.1 else draw_number(rng)
        tree.thresholds.append(rng.randrange(2) if has_categories else threshold)
    return tree


def draw_model(rng: random.Random, n_classes: int) -> pb.ModelArtifact:
    artifact = artifact_without_estimator(N_FEATURES, n_classes)
    for feature in artifact.input_schema.features:
        feature.nullable = True
    trees = artifact.boosted_trees
    trees.objective = pb.OBJECTIVE_BINARY if n_classes == 2 else pb.OBJECTIVE_MULTICLASS
    trees.sigmoid = rng.choice([1.0, 2.5]) if n_classes == 2 else 1.0
    trees.is_average = rng.random() < 0.3
    trees.trees.extend(draw_tree(rng) for _ in range(6))
    return artifact


def evaluate(artifact: pb.ModelArtifact, X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the formula's probabilities, shape (n_rows, n_classes)."""
    n_classes = len(artifact.class_labels.integers.values)
    n_raw_scores = 1 if n_classes == 2 else n_classes
    trees = artifact.boosted_trees
    probabilities = trees_to_probabilities(
        trees, evaluate_trees(trees, X, n_raw_scores)
    )
    if n_raw_scores > 1:
        return probabilities
    return np.hstack([1 - probabilities, probabilities])


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("seed", range(40))
def test_the_formula_equals_the_library_to_the_last_bit(
    n_classes: int, seed: int, tmp_path: Path
) -> None:
    """The trees have any threshold, shape, set and number, also those that no training gives."""
    rng = random.Random(seed)
    artifact = draw_model(rng, n_classes)
    X = np.array(
        [
            [nan if rng.random() < 0.1 else draw_number(rng) for _ in range(N_FEATURES)]
            for _ in range(N_ROWS)
        ]
    )
    expected = evaluate(artifact, X)
    is_second = expected[0, 1] > artifact.threshold
    position = int(is_second) if n_classes == 2 else int(expected[0].argmax())
    artifact.golden_examples.add(
        features=X[0],
        probabilities=expected[0],
        label=str(artifact.class_labels.integers.values[position]),
    )

    model = load_model(write_artifact(tmp_path, artifact))

    rows = [model.estimator.predict_probabilities(row) for row in X.tolist()]
    assert np.array_equal(rows, expected)
    assert np.array_equal(model.estimator.predict_batch(X), expected)
