"""Checks boosted trees, and measures the cost of their explanations.

LightGBM's C library trusts its input. A child index outside of the tree makes it read or write
beyond a buffer. A cycle makes it hang, and other faults abort the process. So it gets only numbers
that this module has checked. Every check takes linear time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.trees import Ensemble, Tree

MAX_TREES = 100_000
# LightGBM's own bound of num_leaves.
MAX_LEAVES = 131_072
# An explanation descends a tree by recursion: a chain of 100,000 nodes would overflow the stack.
MAX_DEPTH = 1_000
MAX_CATEGORY_WORDS = 1_000_000

# Bits of a decision in LightGBM's ``include/LightGBM/tree.h``: kCategoricalMask, kDefaultLeftMask
# and two bits for the kind of missing value, for which 3 is undefined.
_CATEGORICAL = 1
_DECISIONS = frozenset(range(12))
_MAX_INT32 = 2**31 - 1
_MAX_UINT32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class CheckedEnsemble:
    """An ensemble that passed `check_ensemble`; nothing else constructs one.

    Parameters
    ----------
    ensemble : Ensemble
        The trees.
    n_features : int
        Number of columns that the trees may split by.
    n_outputs : int
        Number of raw scores per row: 1 for two classes, otherwise one per class.
    n_explanation_steps : int
        Most steps that the explanation of one row takes, at about 8 ns each.
    """

    ensemble: Ensemble
    n_features: int
    n_outputs: int
    n_explanation_steps: int


def check_ensemble(
    ensemble: Ensemble, n_features: int, n_classes: int
) -> CheckedEnsemble:
    """Check that the numbers form trees for this many features and classes.

    Parameters
    ----------
    ensemble : Ensemble
        Unchecked trees.
    n_features : int
        Number of columns of a row.
    n_classes : int
        Number of classes of the model, 2 or more.

    Returns
    -------
    CheckedEnsemble
        The trees, and the cost of their explanations.

    Raises
    ------
    ArtifactCorrupt
        If a number is out of range, or the nodes do not form trees.
    """
    n_outputs = 1 if n_classes == 2 else n_classes
    _check_frame(ensemble, n_classes, n_outputs)
    n_steps = 0
    for number, tree in enumerate(ensemble.trees):
        try:
            n_steps += _check_tree(tree, n_features)
        except ValueError as error:
            raise ArtifactCorrupt(f"lightgbm: tree {number}: {error}") from None
    return CheckedEnsemble(ensemble, n_features, n_outputs, n_steps)


def _check_frame(ensemble: Ensemble, n_classes: int, n_outputs: int) -> None:
    objective, n_trees = ensemble.objective, len(ensemble.trees)
    expected = "binary" if n_classes == 2 else "multiclass"
    if objective.name != expected:
        raise ArtifactCorrupt(
            f"lightgbm: the objective is {objective.name!r}; {n_classes} classes need "
            f"{expected!r}"
        )
    if not (isfinite(objective.sigmoid) and objective.sigmoid > 0):
        raise ArtifactCorrupt(
            f"lightgbm: the sigmoid is {objective.sigmoid}; it must be finite and above 0"
        )
    if not 0 < n_trees <= MAX_TREES or n_trees % n_outputs:
        raise ArtifactCorrupt(
            f"lightgbm: there are {n_trees} trees; 1 to {MAX_TREES} are allowed, "
            f"{n_outputs} per iteration"
        )


def _check_tree(tree: Tree, n_features: int) -> int:
    """Return the steps that an explanation takes; raise ValueError if a check fails."""
    n_leaves = len(tree.leaf_values)
    if not 0 < n_leaves <= MAX_LEAVES:
        raise ValueError(f"it has {n_leaves} leaves; 1 to {MAX_LEAVES} are allowed")
    if not all(map(isfinite, tree.leaf_values)):
        raise ValueError("a leaf's value is not finite")
    n_nodes = n_leaves - 1
    for name in ("split_features", "decision_types", "left_children", "right_children"):
        _check_integers(name, getattr(tree, name), n_nodes)
    _check_counts("leaf_counts", tree.leaf_counts, n_leaves)
    _check_counts("node_counts", tree.node_counts, n_nodes)
    # A split that separates missing values from all others has an infinite threshold.
    if len(tree.thresholds) != n_nodes or any(map(isnan, tree.thresholds)):
        raise ValueError(f"thresholds are not {n_nodes} numbers")
    _check_sets(tree)
    _check_decisions(tree, n_features)
    return _check_shape(tree, n_leaves, n_features)


def _check_integers(name: str, values: Sequence[int], count: int) -> None:
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} values, not {count}")


def _check_counts(name: str, values: Sequence[int], count: int) -> None:
    if values:
        _check_integers(name, values, count)
        if min(values) < 0 or max(values) > _MAX_INT32:
            raise ValueError(f"{name} has a value outside of [0, {_MAX_INT32}]")


def _check_sets(tree: Tree) -> None:
    bounds, words = tree.category_bounds, tree.category_words
    if not bounds:
        if words:
            raise ValueError("there are categories without a set")
        return
    if len(words) > MAX_CATEGORY_WORDS or len(bounds) > len(tree.thresholds) + 1:
        raise ValueError("there are too many categories")
    if bounds[0] != 0 or bounds[-1] != len(words):
        raise ValueError("category_bounds does not span category_words")
    if any(end <= begin for begin, end in zip(bounds, bounds[1:], strict=False)):
        raise ValueError("a set of categories is empty")
    if words and (min(words) < 0 or max(words) > _MAX_UINT32):
        raise ValueError("category_words has a value of more than 32 bits")


def _check_decisions(tree: Tree, n_features: int) -> None:
    features, decisions = tree.split_features, tree.decision_types
    if not features:
        return
    if min(features) < 0 or max(features) >= n_features:
        raise ValueError(f"a node splits by a feature outside of [0, {n_features})")
    if unknown := set(decisions) - _DECISIONS:
        raise ValueError(f"a node has the unknown decision type {min(unknown)}")
    for decision, threshold in zip(decisions, tree.thresholds, strict=True):
        if decision & _CATEGORICAL and not (
            0 <= threshold < tree.n_sets and threshold.is_integer()
        ):
            raise ValueError(
                f"a node splits by set {threshold} of categories; there are {tree.n_sets} sets"
            )


def _check_shape(tree: Tree, n_leaves: int, n_features: int) -> int:
    """Check that the nodes form one tree: every node but the root is the child of an earlier node.

    Returns
    -------
    int
        Most steps of an explanation. LightGBM's ``Tree::TreeSHAP`` takes for each leaf the square
        of the number of features on the path to it.
    """
    n_nodes = n_leaves - 1
    depth = [0] * n_nodes
    n_parents = [0] * n_nodes
    is_reached = bytearray(n_leaves)
    n_steps = 0
    for node in range(n_nodes):
        for child in (tree.left_children[node], tree.right_children[node]):
            if child >= 0:
                if not node < child < n_nodes:
                    raise ValueError(f"node {node} has node {child} as a child")
                n_parents[child] += 1
                depth[child] = depth[node] + 1
            elif child < -n_leaves or is_reached[-child - 1]:
                raise ValueError(f"node {node} has leaf {-child - 1} as a child")
            else:
                is_reached[-child - 1] = 1
                n_steps += min(depth[node] + 1, n_features) ** 2
    if any(n != 1 for n in n_parents[1:]):
        raise ValueError("a node has no parent, or more than one")
    if max(depth, default=0) > MAX_DEPTH:
        raise ValueError(f"it is deeper than {MAX_DEPTH} levels")
    return n_steps
