"""LightGBM's text format of a model: written for its C library, read from old artifacts.

The text is written from numbers that passed `tree_checks`. So the library never reads text that
came with a model. The parser accepts only text that ``Booster.model_to_string()`` writes.

LightGBM defines the format in ``Tree::ToString`` and ``GBDT::SaveModelToString``, in
``src/io/tree.cpp`` and ``src/boosting/gbdt_model_text.cpp``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.tree_checks import CheckedEnsemble
from grpc_server.model.trees import Ensemble, Objective, Tree

_T = TypeVar("_T", int, float)

_HEADER_KEYS = frozenset(
    "version num_class num_tree_per_iteration label_index max_feature_idx objective "
    "feature_names feature_infos tree_sizes monotone_constraints".split()
)
# Other keys, such as those of linear leaves, would change the predictions.
_TREE_KEYS = frozenset(
    "num_leaves num_cat split_feature split_gain threshold decision_type left_child right_child "
    "leaf_value leaf_weight leaf_count internal_value internal_weight internal_count "
    "cat_boundaries cat_threshold is_linear shrinkage".split()
)
_END = "\nend of trees\n"


def write_text(checked: CheckedEnsemble) -> bytes:
    """Return the text for the library; every number survives bit for bit."""
    ensemble, n_features, n_outputs = (
        checked.ensemble,
        checked.n_features,
        checked.n_outputs,
    )
    blocks = [_write_tree(number, tree) for number, tree in enumerate(ensemble.trees)]
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
        "tree_sizes=" + _join(map(len, blocks)),
        "",
        "",
    ]
    return "\n".join(header).encode() + b"".join(blocks) + b"end of trees\n"


def parse_text(text: str, n_features: int, n_outputs: int) -> Ensemble:
    """Parse LightGBM's text, without checking the trees.

    Parameters
    ----------
    text : str
        Text of ``Booster.model_to_string()``.
    n_features, n_outputs : int
        Shape of the artifact, which the text has to match.

    Returns
    -------
    Ensemble
        The trees, unchecked.

    Raises
    ------
    ArtifactCorrupt
        If the text has another format or shape.
    """
    try:
        return _parse(text, n_features, n_outputs)
    except ValueError as error:
        raise ArtifactCorrupt(f"lightgbm.model_text: {error}") from None


def _parse(text: str, n_features: int, n_outputs: int) -> Ensemble:
    body, end, _ = text.partition(_END)
    if not end:
        raise ValueError("it is truncated: it has no 'end of trees'")
    header, *blocks = re.split(r"^Tree=", body, flags=re.MULTILINE)
    values, flags = _read_lines(header, _HEADER_KEYS, {"tree", "average_output"})
    _check_header(values, flags, n_features, n_outputs)
    return Ensemble(
        objective=_parse_objective(values["objective"], n_outputs),
        is_average="average_output" in flags,
        trees=[_parse_block(number, block) for number, block in enumerate(blocks)],
    )


def _read_lines(
    block: str, keys: frozenset[str], flags: set[str]
) -> tuple[Mapping[str, str], set[str]]:
    """Return value by key, and the lines that are flags."""
    values: dict[str, str] = {}
    found: set[str] = set()
    for line in block.split("\n"):
        key, equals, value = line.partition("=")
        if not line:
            continue
        if line in flags and line not in found:
            found.add(line)
        elif equals and key in keys and key not in values:
            values[key] = value
        else:
            raise ValueError(f"the line {line[:60]!r} is unknown, or occurs twice")
    return values, found


def _check_header(
    values: Mapping[str, str], flags: set[str], n_features: int, n_outputs: int
) -> None:
    expected = {
        "version": "v4",
        "num_class": str(n_outputs),
        "num_tree_per_iteration": str(n_outputs),
        "max_feature_idx": str(n_features - 1),
    }
    for key, value in expected.items():
        if values.get(key) != value:
            raise ValueError(
                f"{key} is {str(values.get(key))[:60]!r}; the artifact has {value!r}"
            )
    if "tree" not in flags or "objective" not in values:
        raise ValueError("the line 'tree' or 'objective' is missing")


def _parse_objective(text: str, n_outputs: int) -> Objective:
    name, *parts = text.split(" ")
    parameters = dict(part.split(":", 1) for part in parts if ":" in part)
    if len(parameters) != len(parts) or not set(parameters) <= {"num_class", "sigmoid"}:
        raise ValueError(f"the objective {text[:60]!r} is unknown")
    if parameters.get("num_class", str(n_outputs)) != str(n_outputs):
        raise ValueError(f"the objective {text[:60]!r} has another number of classes")
    return Objective(name, float(parameters.get("sigmoid", "1")))


def _parse_block(number: int, block: str) -> Tree:
    first, _, rest = block.partition("\n")
    if first != str(number):
        raise ValueError(f"tree {number} has the number {first[:20]!r}")
    try:
        return _parse_tree(_read_lines(rest, _TREE_KEYS, set())[0])
    except ValueError as error:
        raise ValueError(f"tree {number}: {error}") from None


def _parse_tree(values: Mapping[str, str]) -> Tree:
    if values.get("is_linear", "0") != "0":
        raise ValueError("its leaves are linear; this server does not support them")
    tree = Tree(
        leaf_values=_numbers(values, "leaf_value", float),
        leaf_counts=_numbers(values, "leaf_count", int),
        split_features=_numbers(values, "split_feature", int),
        decision_types=_numbers(values, "decision_type", int),
        left_children=_numbers(values, "left_child", int),
        right_children=_numbers(values, "right_child", int),
        thresholds=_numbers(values, "threshold", float),
        node_counts=_numbers(values, "internal_count", int),
        category_bounds=_numbers(values, "cat_boundaries", int),
        category_words=_numbers(values, "cat_threshold", int),
    )
    counts = {"num_leaves": len(tree.leaf_values), "num_cat": tree.n_sets}
    for key, count in counts.items():
        if values.get(key) != str(count):
            raise ValueError(f"{key} is {str(values.get(key))[:20]!r}, not {count}")
    return tree


def _numbers(
    values: Mapping[str, str], key: str, convert: Callable[[str], _T]
) -> list[_T]:
    text = values.get(key, "")
    # Python would also accept underscores and digits of any script, which LightGBM never writes.
    if not text.isascii() or "_" in text:
        raise ValueError(f"{key} has a value that is not a number")
    return [convert(part) for part in text.split(" ")] if text else []


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
