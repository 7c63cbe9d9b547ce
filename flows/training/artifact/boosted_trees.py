"""Writes a LightGBM booster as the numbers of the artifact.

The numbers come from LightGBM's own text format, which `Tree::ToString` in its `src/io/tree.cpp`
writes.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prediction.artifact.v1 import model_artifact_pb2 as pb

if TYPE_CHECKING:
    from lightgbm import Booster

_OBJECTIVES: Mapping[str, "pb.Objective.ValueType"] = {
    "binary": pb.OBJECTIVE_BINARY,
    "multiclass": pb.OBJECTIVE_MULTICLASS,
}


def encode_booster(booster: "Booster") -> pb.BoostedTrees:
    """Write a booster as a message.

    Parameters
    ----------
    booster : Booster
        Fitted, with the objective binary or multiclass and constant leaves.

    Returns
    -------
    BoostedTrees
        The same numbers, tree by tree.

    Raises
    ------
    ValueError
        If the artifact cannot hold its objective or its leaves.
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
