"""Boosted trees as plain numbers: checked, and written as the text that LightGBM's C library reads.

The library trusts its input: a child that points outside of the tree makes it read or write beyond
a buffer, a circle makes it hang, and other slips abort the process. So it never sees text that came
with a model. It gets text that this module writes, from numbers that this module has checked.

The format is that of ``Tree::ToString`` and ``GBDT::SaveModelToString`` in LightGBM's
``src/io/tree.cpp`` and ``src/boosting/gbdt_model_text.cpp``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan

from grpc_server.errors import ArtifactCorrupt
from prediction.artifact.v1 import model_artifact_pb2

MAX_TREES = 100_000
# LightGBM's own bound of num_leaves.
MAX_LEAVES = 131_072
# An explanation goes down a tree by recursion: a chain of 100,000 nodes would overflow the stack.
MAX_DEPTH = 1_000
MAX_CATEGORY_WORDS = 1_000_000

# Bits of a decision: kCategoricalMask, kDefaultLeftMask and two bits of the kind of missing value,
# of which 3 is none, in LightGBM's ``include/LightGBM/tree.h``.
_CATEGORICAL = 1
_DECISIONS = frozenset(range(12))
_OBJECTIVE_NAMES = {
    model_artifact_pb2.OBJECTIVE_BINARY: "binary",
    model_artifact_pb2.OBJECTIVE_MULTICLASS: "multiclass",
}
_MAX_INT32 = 2**31 - 1
_MAX_UINT32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree; a child below 0 is the leaf ``-child - 1``.

    Parameters
    ----------
    leaf_values : sequence of float, shape (n_leaves,)
        What each leaf adds to the score.
    leaf_counts : sequence of int, shape (n_leaves,)
        Training rows of each leaf, which explanations need. Empty if they are not known.
    split_features, decision_types, left_children, right_children : sequence of int
        One for each inner node, n_leaves - 1: the column, the bits of the decision, and the ways.
    thresholds : sequence of float, shape (n_leaves - 1,)
        Largest value that goes left; at a categorical node, the number of its set of categories.
    node_counts : sequence of int, shape (n_leaves - 1,)
        Training rows of each inner node. Empty if they are not known.
    category_bounds : sequence of int, shape (n_sets + 1,)
        Where each set of categories begins in `category_words`, and where the last one ends.
    category_words : sequence of int
        Sets of categories that go left, 32 categories a word.
    """

    leaf_values: Sequence[float]
    leaf_counts: Sequence[int]
    split_features: Sequence[int]
    decision_types: Sequence[int]
    left_children: Sequence[int]
    right_children: Sequence[int]
    thresholds: Sequence[float]
    node_counts: Sequence[int]
    category_bounds: Sequence[int]
    category_words: Sequence[int]

    @property
    def n_sets(self) -> int:
        """Number of sets of categories."""
        return max(0, len(self.category_bounds) - 1)


@dataclass(frozen=True, slots=True)
class Objective:
    """How raw scores become probabilities.

    Parameters
    ----------
    name : str
        "binary" or "multiclass".
    sigmoid : float
        Factor of the score in a sigmoid, > 0. Not used by "multiclass".
    """

    name: str
    sigmoid: float


@dataclass(frozen=True, slots=True)
class Ensemble:
    """All trees of a model, n_outputs for each iteration.

    Parameters
    ----------
    objective : Objective
        How raw scores become probabilities.
    is_average : bool
        Whether scores are averaged over the iterations, as in a random forest.
    trees : sequence of Tree
        The trees, in their order.
    """

    objective: Objective
    is_average: bool
    trees: Sequence[Tree]


def read_trees(message: model_artifact_pb2.BoostedTrees) -> Ensemble:
    """Return the ensemble of an artifact's message, unchecked."""
    name = _OBJECTIVE_NAMES.get(message.objective, "unspecified")
    trees = [
        Tree(
            leaf_values=list(tree.leaf_values),
            leaf_counts=list(tree.leaf_counts),
            split_features=list(tree.split_features),
            decision_types=list(tree.decision_types),
            left_children=list(tree.left_children),
            right_children=list(tree.right_children),
            thresholds=list(tree.thresholds),
            node_counts=list(tree.node_counts),
            category_bounds=list(tree.category_bounds),
            category_words=list(tree.category_words),
        )
        for tree in message.trees
    ]
    return Ensemble(Objective(name, message.sigmoid), message.is_average, trees)


def write_text(ensemble: Ensemble, n_features: int, n_classes: int) -> bytes:
    """Check an ensemble, and return the text that LightGBM reads.

    Raises
    ------
    ArtifactCorrupt
        If anything does not fit.
    """
    n_outputs = 1 if n_classes == 2 else n_classes
    _check_ensemble(ensemble, n_classes, n_outputs)
    blocks = []
    for number, tree in enumerate(ensemble.trees):
        try:
            _check_tree(tree, n_features)
        except ValueError as error:
            raise ArtifactCorrupt(f"lightgbm: tree {number}: {error}") from None
        blocks.append(_write_tree(number, tree))
    sizes = map(len, blocks)
    header = [
        "tree",
        "version=v4",
        f"num_class={n_outputs}",
        f"num_tree_per_iteration={n_outputs}",
        "label_index=0",
        f"max_feature_idx={n_features - 1}",
        f"objective={_write_objective(ensemble.objective, n_outputs)}",
        *(["average_output"] if ensemble.is_average else []),
        "feature_names=" + _join(f"f{number}" for number in range(n_features)),
        "feature_infos=" + _join("none" for _ in range(n_features)),
        "tree_sizes=" + _join(sizes),
        "",
        "",
    ]
    return "\n".join(header).encode() + b"".join(blocks) + b"end of trees\n"


def _check_ensemble(ensemble: Ensemble, n_classes: int, n_outputs: int) -> None:
    objective, n_trees = ensemble.objective, len(ensemble.trees)
    expected = "binary" if n_classes == 2 else "multiclass"
    if objective.name != expected:
        raise ArtifactCorrupt(
            f"lightgbm: the objective is {objective.name!r}; for {n_classes} classes it is "
            f"{expected}"
        )
    if not (isfinite(objective.sigmoid) and objective.sigmoid > 0):
        raise ArtifactCorrupt(
            f"lightgbm: the sigmoid is {objective.sigmoid}; it is finite and above 0"
        )
    if not 0 < n_trees <= MAX_TREES or n_trees % n_outputs:
        raise ArtifactCorrupt(
            f"lightgbm: there are {n_trees} trees; 1 to {MAX_TREES} are allowed, and "
            f"{n_outputs} for each iteration"
        )


def _check_tree(tree: Tree, n_features: int) -> None:
    """Raise ValueError if anything of a tree does not fit."""
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
    # Infinite is one that parts the missing values from all others.
    if len(tree.thresholds) != n_nodes or any(map(isnan, tree.thresholds)):
        raise ValueError(f"thresholds are not {n_nodes} numbers")
    _check_sets(tree)
    _check_decisions(tree, n_features)
    _check_shape(tree, n_leaves)


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
        raise ValueError("sets of categories do not begin and end with the categories")
    if any(end <= begin for begin, end in zip(bounds, bounds[1:], strict=False)):
        raise ValueError("a set of categories is empty")
    if words and (min(words) < 0 or max(words) > _MAX_UINT32):
        raise ValueError("a word of categories has more than 32 bits")


def _check_decisions(tree: Tree, n_features: int) -> None:
    features, decisions = tree.split_features, tree.decision_types
    if not features:
        return
    if min(features) < 0 or max(features) >= n_features:
        raise ValueError(f"a node splits by a feature outside of [0, {n_features})")
    if unknown := set(decisions) - _DECISIONS:
        raise ValueError(f"a node decides by {min(unknown)}, which is not known")
    for decision, threshold in zip(decisions, tree.thresholds, strict=True):
        if decision & _CATEGORICAL and threshold not in range(tree.n_sets):
            raise ValueError(
                f"a node takes set {threshold} of categories, of {tree.n_sets}"
            )


def _check_shape(tree: Tree, n_leaves: int) -> None:
    """Check that the children form one tree: each node is the child of one that is before it."""
    n_nodes = n_leaves - 1
    depth = [0] * n_nodes
    n_parents = [0] * n_nodes
    is_reached = bytearray(n_leaves)
    for node in range(n_nodes):
        for child in (tree.left_children[node], tree.right_children[node]):
            if child >= 0:
                if not node < child < n_nodes:
                    raise ValueError(f"node {node} has node {child} for a child")
                n_parents[child] += 1
                depth[child] = depth[node] + 1
            elif child < -n_leaves or is_reached[-child - 1]:
                raise ValueError(f"node {node} has leaf {-child - 1} for a child")
            else:
                is_reached[-child - 1] = 1
    if any(n != 1 for n in n_parents[1:]):
        raise ValueError("a node is nobody's child, or that of two")
    if max(depth, default=0) > MAX_DEPTH:
        raise ValueError(f"it is deeper than {MAX_DEPTH}")


def _write_objective(objective: Objective, n_outputs: int) -> str:
    if objective.name == "binary":
        return f"binary sigmoid:{objective.sigmoid!r}"
    return f"multiclass num_class:{n_outputs}"


def _write_tree(number: int, tree: Tree) -> bytes:
    lines = [
        f"Tree={number}",
        f"num_leaves={len(tree.leaf_values)}",
        f"num_cat={tree.n_sets}",
        "split_feature=" + _join(tree.split_features),
        "threshold=" + _join(map(repr, tree.thresholds)),
        "decision_type=" + _join(tree.decision_types),
        "left_child=" + _join(tree.left_children),
        "right_child=" + _join(tree.right_children),
        "leaf_value=" + _join(map(repr, tree.leaf_values)),
    ]
    if tree.leaf_counts and (tree.node_counts or len(tree.leaf_values) == 1):
        lines.append("leaf_count=" + _join(tree.leaf_counts))
        lines.append("internal_count=" + _join(tree.node_counts))
    if tree.n_sets:
        lines.append("cat_boundaries=" + _join(tree.category_bounds))
        lines.append("cat_threshold=" + _join(tree.category_words))
    lines += ["is_linear=0", "shrinkage=1", "", "", ""]
    return "\n".join(lines).encode()


def _join(values: Iterable[object]) -> str:
    return " ".join(map(str, values))
