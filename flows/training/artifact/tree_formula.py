"""Evaluates the formula of the artifact's boosted trees, as any reader has to.

The message `BoostedTrees` states the formula. It follows `Tree::NumericalDecision` and
`Tree::CategoricalDecision` in LightGBM's `include/LightGBM/tree.h`.
"""

from collections.abc import Callable
from math import exp, inf

import numpy as np
from numpy.typing import NDArray

from prediction.artifact.v1 import model_artifact_pb2 as pb

# LightGBM takes values up to this one for zero: kZeroThreshold, a float.
_ZERO = float(np.float32(1e-35))
# Bits of a decision type.
_CATEGORICAL, _DEFAULT_LEFT, _ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2, 4, 8


def evaluate_trees(
    message: pb.BoostedTrees, X: NDArray[np.float64], n_raw_scores: int
) -> NDArray[np.float64]:
    """Compute raw scores.

    Parameters
    ----------
    message : BoostedTrees
        The trees.
    X : ndarray of float64, shape (n_rows, n_features)
        Rows, NaN where missing.
    n_raw_scores : int
        Raw scores of a row: 1 for two classes, else the number of classes.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_raw_scores)
        Raw scores, with leaf values added in LightGBM's order.
    """
    raw_scores = np.zeros((len(X), n_raw_scores))
    for number, tree in enumerate(message.trees):
        leaf_values = np.array(tree.leaf_values)
        raw_scores[:, number % n_raw_scores] += leaf_values[_find_leaves(tree, X)]
    return raw_scores


def trees_to_probabilities(
    message: pb.BoostedTrees, raw_scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Turn raw scores of trees into probabilities.

    Parameters
    ----------
    message : BoostedTrees
        The trees, with their objective.
    raw_scores : ndarray of float64, shape (n_rows, n_raw_scores)
        Return value of `evaluate_trees`.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_raw_scores)
        Probability of each class, [0, 1]; for two classes that of the second alone.
    """
    exponentials: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    exponentials = np.vectorize(_exp, otypes=[np.float64])
    if message.is_average:
        raw_scores = raw_scores / (len(message.trees) // raw_scores.shape[1])
    if message.objective == pb.OBJECTIVE_MULTICLASS:
        weights = exponentials(raw_scores - raw_scores.max(axis=1, keepdims=True))
        return np.asarray(weights / np.cumsum(weights, axis=1)[:, -1:])
    probabilities = 1 / (1 + exponentials(-message.sigmoid * raw_scores))
    return np.asarray(probabilities)


def _exp(value: float) -> float:
    """Return C's exp; numpy's differs from it in the last bit."""
    try:
        return exp(value)
    except OverflowError:
        return inf


def _find_leaves(tree: pb.BoostedTree, X: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the number of each row's leaf, shape (n_rows,)."""
    # An inner node is a number from 0; leaf n is -n - 1.
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
    # LightGBM truncates, so that -0.5 is the first category.
    if np.isnan(value) or value <= -1:
        return False
    begin, end = tree.category_bounds[number : number + 2]
    word, bit = divmod(int(value), 32)
    return word < end - begin and bool(tree.category_words[begin + word] >> bit & 1)
