"""Words and pictures about a run; the pictures are Vega-Lite specifications."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.encoding import to_table
from training.data.rows import Rows
from training.models.calibration import NO_CALIBRATION
from training.models.evaluation import PREFIX, Bin
from training.models.families import FAMILIES
from training.models.final_model import has_shifted_probabilities
from training.models.scored_twin import TRAIN
from training.models.thresholds import EVEN
from training.text import escape
from training.trained_model import TrainedModel, find_post_fit

SCHEMA_URL = "https://vega.github.io/schema/vega-lite/v5.json"
# More points of a curve would not be visible, and would make the card large.
MAX_POINTS = 200

Spec = dict[str, Any]


def summarize(trained: TrainedModel) -> str:
    """Describe which candidate won and how good it is, line by line."""
    winner = trained.winner
    lines = [
        f"{FAMILIES[family].display_name} has no candidate: {reason}"
        for family, reason in trained.failures.items()
    ]
    settings = trained.plan.settings
    lines.append(
        f"The best is {FAMILIES[winner.family].display_name} with {winner.best_params}: "
        f"{settings.scoring} {winner.best_score:.6g} on the folds"
    )
    metrics = ", ".join(
        f"{name.removeprefix(PREFIX)} {value:.6g}"
        for name, value in trained.metrics.items()
        if name.startswith(PREFIX)
    )
    lines += [*_tell_post_fit(trained), f"On the hold-out: {metrics}"]
    lines += _tell_final_fit(trained)
    if trained.weakness:
        lines.append(f"WARNING: no model to rely on: {trained.weakness}")
    return "\n".join(map(escape, lines))


def _tell_post_fit(trained: TrainedModel) -> list[str]:
    """Describe the calibration and the threshold, if there are any."""
    post_fit, lines = find_post_fit(trained.plan, trained.winner), []
    params = trained.winner.best_params
    weights = f"class_weight {params.get('class_weight')} shifts them"
    if post_fit != trained.plan.post_fit:
        lines.append(
            f"Its probabilities are calibrated ({post_fit.calibration}), because {weights}"
        )
    elif post_fit.calibration != NO_CALIBRATION:
        lines.append(f"Its probabilities are calibrated: {post_fit.calibration}")
    elif has_shifted_probabilities(post_fit, params):
        lines.append(
            f"Its probabilities are no frequencies, because {weights}, and with --weight or --time "
            "they cannot be calibrated; use --threshold in place of class_weight"
        )
    if post_fit.threshold != EVEN:
        second = trained.plan.schema.class_labels[1]
        lines.append(
            f"It predicts {second} above {trained.threshold:.6g} "
            f"(--threshold {post_fit.threshold})"
        )
        if trained.twin.threshold != trained.threshold:
            lines[-1] += f"; on the hold-out, above {trained.twin.threshold:.6g}"
    return lines


def _tell_final_fit(trained: TrainedModel) -> list[str]:
    """Say which model the metrics are about, if it is not the one that is registered."""
    plan = trained.plan
    if plan.run.parameters.final_fit == TRAIN:
        return []
    n_train, n_holdout = plan.train.shape[0], plan.holdout.shape[0]
    return [
        f"The registered model has learned from all {n_train + n_holdout} rows; the metrics are "
        f"those of its scored twin, which has learned from {n_train}"
    ]


def draw(trained: TrainedModel, holdout: Rows) -> list[Spec]:
    """Draw the pictures of a run.

    Parameters
    ----------
    trained : TrainedModel
        The model of the run.
    holdout : Rows
        Rows that its scored twin has not seen.

    Returns
    -------
    list of dict
        Vega-Lite specifications of the candidates, the ROC curve and the reliability curve.
    """
    schema = trained.plan.schema
    labels = schema.class_labels
    probabilities = trained.twin.estimator.predict_proba(to_table(holdout.X, schema))
    return [
        plot_candidates(trained.cv_table, trained.plan.settings.scoring),
        plot_roc(holdout.y, probabilities, labels),
        plot_reliability(trained.reliability, len(labels)),
    ]


def plot_best_score(points: Sequence[tuple[float, float]], scoring: str) -> Spec:
    """Plot the best score of a search over time.

    Parameters
    ----------
    points : sequence of (float, float)
        Seconds since the start of the search, and the best mean score so far.
    scoring : str
        Name of the scorer.

    Returns
    -------
    dict
        A Vega-Lite specification.
    """
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
    """Plot the mean score of every candidate, family by family, from best to worst.

    Parameters
    ----------
    cv_table : DataFrame, shape (n_candidates, n_columns)
        Candidates, with "family" and "mean_test_score".
    scoring : str
        Name of the scorer.

    Returns
    -------
    dict
        A Vega-Lite specification.
    """
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
    """Plot the ROC curve on the hold-out; for more than two classes, each against the rest.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
        True codes.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Probability of each class, [0, 1].
    labels : sequence
        Class labels in the order of their codes.

    Returns
    -------
    dict
        A Vega-Lite specification.
    """
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


def plot_reliability(bins: Sequence[Bin], n_classes: int) -> Spec:
    """Plot the reliability curve: frequency over confidence. Perfect calibration is the diagonal.

    Parameters
    ----------
    bins : sequence of Bin
        Points of the curve.
    n_classes : int
        Number of classes, 2 or more.

    Returns
    -------
    dict
        A Vega-Lite specification.
    """
    confidence, frequency = name_reliability_axes(n_classes)
    values = [
        {
            "confidence": group.confidence,
            "frequency": group.frequency,
            "rows": group.n_rows,
        }
        for group in bins
    ]
    curve = _chart(
        "Reliability on the hold-out",
        values,
        {"type": "line", "point": True},
        x=_axis("confidence", confidence),
        y=_axis("frequency", frequency),
        tooltip=[
            {"field": name, "type": "quantitative"}
            for name in ("confidence", "frequency", "rows")
        ],
    )
    layer = {key: curve.pop(key) for key in ("mark", "encoding")}
    diagonal = {
        "data": {"values": [{"confidence": p, "frequency": p} for p in (0, 1)]},
        "mark": {"type": "line", "strokeDash": [4, 4], "color": "gray"},
        "encoding": {axis: layer["encoding"][axis] for axis in ("x", "y")},
    }
    return {**curve, "layer": [diagonal, layer]}


def name_reliability_axes(n_classes: int) -> tuple[str, str]:
    """Return the titles of the axes of a reliability curve: confidence, then frequency."""
    if n_classes == 2:
        return "mean probability of the second class", "share of the second class"
    return "mean probability of the predicted class", "share of right predictions"


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
