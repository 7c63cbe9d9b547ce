"""Boosted trees as plain numbers; `tree_checks` checks them."""

from collections.abc import Sequence
from dataclasses import dataclass

from prediction.artifact.v1 import model_artifact_pb2

_OBJECTIVE_NAMES = {
    model_artifact_pb2.OBJECTIVE_BINARY: "binary",
    model_artifact_pb2.OBJECTIVE_MULTICLASS: "multiclass",
}


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of n_leaves leaves and n_leaves - 1 inner nodes.

    Parameters
    ----------
    leaf_values : sequence of float, shape (n_leaves,)
        What each leaf adds to the raw score.
    leaf_counts : sequence of int, shape (n_leaves,)
        Training rows of each leaf, for explanations. Empty if unknown.
    split_features : sequence of int, shape (n_leaves - 1,)
        Column that each inner node splits by.
    decision_types : sequence of int, shape (n_leaves - 1,)
        Bits of each decision; see `tree_checks`.
    left_children, right_children : sequence of int, shape (n_leaves - 1,)
        Children of each inner node. A child below 0 is the leaf ``-child - 1``.
    thresholds : sequence of float, shape (n_leaves - 1,)
        Largest value that goes left. At a categorical node, the number of its set of categories.
    node_counts : sequence of int, shape (n_leaves - 1,)
        Training rows of each inner node. Empty if unknown.
    category_bounds : sequence of int, shape (n_sets + 1,)
        Start of each set of categories in `category_words`, and the end of the last one.
    category_words : sequence of int
        Sets of categories that go left, as bits: 32 categories per word.
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
        Factor of the raw score in the sigmoid, > 0. Unused by "multiclass".
    """

    name: str
    sigmoid: float


@dataclass(frozen=True, slots=True)
class Ensemble:
    """All trees of a model, n_outputs per iteration.

    Parameters
    ----------
    objective : Objective
        How raw scores become probabilities.
    is_average : bool
        Whether raw scores are averaged over the iterations, as in a random forest.
    trees : sequence of Tree
        The trees, in order of iteration.
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
