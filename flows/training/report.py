"""Pictures of a run, as Vega-Lite specifications; who shows them is the caller's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.candidate import Candidate
from training.evaluation import PREFIX
from training.families import FAMILIES
from training.matrix import Rows
from training.tables import to_table

SCHEMA_URL = "https://vega.github.io/schema/vega-lite/v5.json"
# Points of a curve that an eye can tell apart; keeps a card small.
MAX_POINTS = 200
N_BINS = 10

Spec = dict[str, Any]


def summarize(candidate: Candidate) -> str:
    """Say in words which candidate won and how good it is."""
    winner = candidate.winner
    lines = [
        f"{FAMILIES[family].display_name} has no candidate: {reason}"
        for family, reason in candidate.failures.items()
    ]
    lines.append(
        f"The best is {FAMILIES[winner.family].display_name} with {winner.best_params}: "
        f"{candidate.scoring} {winner.best_score:.6g} on the folds"
    )
    metrics = ", ".join(
        f"{name.removeprefix(PREFIX)} {value:.6g}"
        for name, value in candidate.metrics.items()
        if name.startswith(PREFIX)
    )
    return "\n".join([*lines, f"On the hold-out: {metrics}"])


def draw(candidate: Candidate, holdout: Rows) -> list[Spec]:
    """Draw the pictures of a run: candidates, ROC and reliability."""
    labels = candidate.schema.class_labels
    probabilities = candidate.pipeline.predict_proba(
        to_table(holdout.X, candidate.schema)
    )
    return [
        plot_candidates(candidate.cv_table, candidate.scoring),
        plot_roc(holdout.y, probabilities, labels),
        plot_reliability(holdout.y, probabilities),
    ]


def plot_best_score(points: Sequence[tuple[float, float]], scoring: str) -> Spec:
    """Plot the best score over the time of a search, in seconds."""
    shown = points[:: 1 + len(points) // MAX_POINTS]
    return {
        "$schema": SCHEMA_URL,
        "title": "Best score so far",
        "width": "container",
        "data": {"values": [{"seconds": x, "score": y} for x, y in shown]},
        "mark": {"type": "line", "point": True, "interpolate": "step-after"},
        "encoding": {
            "x": {"field": "seconds", "type": "quantitative"},
            "y": {
                "field": "score",
                "type": "quantitative",
                "title": scoring,
                "scale": {"zero": False},
            },
        },
    }


def plot_candidates(cv_table: pd.DataFrame, scoring: str) -> Spec:
    """Plot the mean score of every candidate, each family's sorted from best to worst."""
    values = [
        {
            "family": FAMILIES[str(family)].display_name,
            "rank": rank,
            "score": float(score),
        }
        for family, rows in cv_table.groupby("family")
        for rank, score in enumerate(
            rows["mean_test_score"].dropna().sort_values(ascending=False), start=1
        )
    ]
    return _chart(
        f"Candidates by {scoring}",
        values,
        {"type": "line", "point": True},
        x=_axis("rank", "candidate, best first"),
        y=_axis("score", f"mean {scoring} over the folds", zero=False),
        color={"field": "family", "type": "nominal"},
    )


def plot_roc(
    y: NDArray[np.int64], probabilities: NDArray[np.float64], labels: Sequence[Any]
) -> Spec:
    """Plot the ROC curve on the hold-out, one against the rest for more than two classes."""
    from sklearn.metrics import roc_curve

    values = []
    for code in _curve_classes(labels):
        false_positive, true_positive, _ = roc_curve(y == code, probabilities[:, code])
        for x, height in _thin(false_positive, true_positive):
            values.append({"class": str(labels[code]), "fpr": x, "tpr": height})
    return _chart(
        "ROC on the hold-out",
        values,
        {"type": "line"},
        x=_axis("fpr", "false positive rate"),
        y=_axis("tpr", "true positive rate"),
        color={"field": "class", "type": "nominal"},
        order={"field": "tpr"},
    )


def plot_reliability(y: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Spec:
    """Plot how often the predicted class is right against how probable it was said to be."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == y
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    values = [
        {
            "confidence": float(confidence[bins == number].mean()),
            "accuracy": float(right[bins == number].mean()),
            "rows": int((bins == number).sum()),
        }
        for number in np.unique(bins)
    ]
    return _chart(
        "Reliability on the hold-out",
        values,
        {"type": "line", "point": True},
        x=_axis("confidence", "probability of the predicted class"),
        y=_axis("accuracy", "share of right predictions"),
        tooltip=[{"field": "rows", "type": "quantitative"}],
    )


def _curve_classes(labels: Sequence[Any]) -> range:
    return range(1, 2) if len(labels) == 2 else range(len(labels))


def _thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[tuple[float, float]]:
    keep = np.unique(
        np.linspace(0, len(x) - 1, min(len(x), MAX_POINTS)).round().astype(int)
    )
    return [(float(x[i]), float(y[i])) for i in keep]


def _axis(field: str, title: str, *, zero: bool = True) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"zero": zero},
    }


def _chart(title: str, values: list[Spec], mark: Spec, **encoding: Any) -> Spec:
    return {
        "$schema": SCHEMA_URL,
        "title": title,
        "width": 420,
        "height": 260,
        "data": {"values": values},
        "mark": mark,
        "encoding": encoding,
    }
