"""Writes a booster of LightGBM as the numbers of the artifact, and evaluates their formula.

The numbers are read off LightGBM's own text, whose format is that of ``Tree::ToString`` in its
``src/io/tree.cpp``.
"""

import re
from collections.abc import Callable, Mapping
from math import exp, inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prediction.artifact.v1 import model_artifact_pb2 as pb

if TYPE_CHECKING:
    from lightgbm import Booster

_OBJECTIVES: Mapping[str, "pb.Objective.ValueType"] = {
    "binary": pb.OBJECTIVE_BINARY,
    "multiclass": pb.OBJECTIVE_MULTICLASS,
}
# What LightGBM takes for zero: kZeroThreshold, a float.
_ZERO = float(np.float32(1e-35))
_CATEGORICAL, _DEFAULT_LEFT, _ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2, 4, 8


def encode_booster(booster: "Booster") -> pb.BoostedTrees:
    """Write a booster as numbers.

    Raises
    ------
    ValueError
        If it has an objective or leaves that the artifact cannot hold.
    """
    body = booster.model_to_string().partition("\nend of trees\n")[0]
    header, *blocks = re.split(r"^Tree=", body, flags=re.MULTILINE)
    name, *parts = _value(header, "objective").split(" ")
    if name not in _OBJECTIVES:
        raise ValueError(f"the artifact has no objective {name!r}")
    parameters = dict(part.split(":") for part in parts)
    return pb.BoostedTrees(
        objective=_OBJECTIVES[name],
        sigmoid=float(parameters.get("sigmoid", "1")),
        is_average="average_output" in header.splitlines(),
        trees=map(_encode_tree, blocks),
    )


def _encode_tree(block: str) -> pb.BoostedTree:
    if _value(block, "is_linear") not in ("", "0"):
        raise ValueError("the artifact has no linear leaves")

    def integers(key: str) -> list[int]:
        return list(map(int, _value(block, key).split()))

    def doubles(key: str) -> list[float]:
        return list(map(float, _value(block, key).split()))

    return pb.BoostedTree(
        leaf_values=doubles("leaf_value"),
        leaf_counts=integers("leaf_count"),
        split_features=integers("split_feature"),
        decision_types=integers("decision_type"),
        left_children=integers("left_child"),
        right_children=integers("right_child"),
        thresholds=doubles("threshold"),
        node_counts=integers("internal_count"),
        category_bounds=integers("cat_boundaries"),
        category_words=integers("cat_threshold"),
    )


def _value(block: str, key: str) -> str:
    found = re.search(rf"^{key}=(.*)$", block, flags=re.MULTILINE)
    return "" if found is None else found[1]


def evaluate_trees(
    message: pb.BoostedTrees, X: NDArray[np.float64], n_outputs: int
) -> NDArray[np.float64]:
    """Return the raw scores.

    Parameters
    ----------
    message : BoostedTrees
        The trees.
    X : ndarray of float64, shape (n_rows, n_features)
        Rows, NaN where missing.
    n_outputs : int
        1 for two classes, else the number of classes.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_outputs)
        Scores, added up in LightGBM's order.
    """
    scores = np.zeros((len(X), n_outputs))
    for number, tree in enumerate(message.trees):
        scores[:, number % n_outputs] += np.array(tree.leaf_values)[_leaves(tree, X)]
    return scores


def to_probabilities(
    message: pb.BoostedTrees, scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the probabilities of raw scores, of the same shape; with two classes the second's."""
    exponentials: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    exponentials = np.vectorize(_exp, otypes=[np.float64])
    if message.is_average:
        scores = scores / (len(message.trees) // scores.shape[1])
    if message.objective == pb.OBJECTIVE_MULTICLASS:
        weights = exponentials(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(weights / np.cumsum(weights, axis=1)[:, -1:])
    probabilities = 1 / (1 + exponentials(-message.sigmoid * scores))
    return np.asarray(probabilities)


def _exp(value: float) -> float:
    """Return the exp of C, from which numpy's differs in the last bit."""
    try:
        return exp(value)
    except OverflowError:
        return inf


def _leaves(tree: pb.BoostedTree, X: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the leaf of each row, shape (n_rows,)."""
    places = np.zeros(len(X), dtype=np.int64)
    if len(tree.leaf_values) == 1:
        return places
    children = np.array([tree.right_children, tree.left_children])
    while (inner := (places >= 0).nonzero()[0]).size:
        nodes = places[inner]
        goes_left = [
            _goes_left(tree, node, X[row, tree.split_features[node]])
            for row, node in zip(inner.tolist(), nodes.tolist(), strict=True)
        ]
        places[inner] = children[np.array(goes_left, dtype=np.intp), nodes]
    return -places - 1


def _goes_left(tree: pb.BoostedTree, node: int, value: float) -> bool:
    decision = tree.decision_types[node]
    if decision & _CATEGORICAL:
        return _is_in_set(tree, int(tree.thresholds[node]), value)
    is_missing = bool(np.isnan(value))
    if is_missing and not decision & _NAN_IS_MISSING:
        value, is_missing = 0.0, False
    # The library drops such values from a row before any tree sees it.
    if abs(value) <= _ZERO:
        value, is_missing = 0.0, bool(decision & _ZERO_IS_MISSING)
    if is_missing:
        return bool(decision & _DEFAULT_LEFT)
    return bool(value <= tree.thresholds[node])


def _is_in_set(tree: pb.BoostedTree, number: int, value: float) -> bool:
    # Truncated, so that -0.5 is the first category.
    if np.isnan(value) or value <= -1:
        return False
    begin, end = tree.category_bounds[number : number + 2]
    word, bit = divmod(int(value), 32)
    return word < end - begin and bool(tree.category_words[begin + word] >> bit & 1)
