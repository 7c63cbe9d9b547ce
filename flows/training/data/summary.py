"""Describes a data set in words, for the user who started the run."""

import shlex
from collections.abc import Iterator

import numpy as np

from training.data.dataset import Dataset
from training.data.schema import Feature, Kind, Schema
from training.data.splitting import HoldoutSplit
from training.text import escape, shorten_list


def summarize(dataset: Dataset, split: HoldoutSplit) -> str:
    """Describe a data set and its split.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    split : HoldoutSplit
        Its hold-out and the rest.

    Returns
    -------
    str
        Several lines: sizes and classes, columns by kind, dropped columns, remarks.
    """
    schema = dataset.schema
    counts = np.bincount(dataset.y).tolist()
    classes = ", ".join(
        f"{label} ({count})"
        for label, count in zip(schema.class_labels, counts, strict=True)
    )
    lines = [
        f"{dataset.name}: {len(dataset.y)} rows, {len(schema.features)} features, classes "
        f"{classes}. {len(split.train)} rows to learn from, {len(split.holdout)} locked away. "
        f"sha256 {dataset.sha256[:12]}",
        *_name_positive(schema),
        *_list_kinds(schema),
        *(f"not used: {name}: {why}" for name, why in dataset.dropped.items()),
        *dataset.notes,
    ]
    return "\n".join(map(escape, lines))


def _name_positive(schema: Schema) -> Iterator[str]:
    """Yield a line about the class that the metrics of two classes are about."""
    if schema.is_binary:
        other, positive = schema.class_labels
        yield (
            f"the positive class is {str(positive)!r}: precision, recall, F1, average precision, "
            "thresholds and costs are about it; for the other, add --positive "
            f"{shlex.quote(str(other))}"
        )


def _list_kinds(schema: Schema) -> Iterator[str]:
    """Yield a line for each kind that occurs, with the names of its columns."""
    for kind in Kind:
        features = schema.of_kind(kind)
        if features:
            n_nullable = sum(feature.nullable for feature in features)
            gaps = f", {n_nullable} of them with gaps" if n_nullable else ""
            names = shorten_list(map(_name, features))
            yield f"{len(features)} {_describe(kind)}{gaps}: {names}"


def _describe(kind: Kind) -> str:
    return "categorical, by target means" if kind == Kind.MEANS else str(kind)


def _name(feature: Feature) -> str:
    if feature.parts:
        return f"{feature.name} ({', '.join(feature.parts)})"
    n_categories = len(feature.categories)
    return (
        f"{feature.name} ({n_categories} categories)" if n_categories else feature.name
    )
