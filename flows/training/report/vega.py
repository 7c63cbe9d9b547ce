"""Words about a run, and the picture of a search that goes on, a Vega-Lite specification."""

from collections.abc import Sequence
from typing import Any

from prediction_common.stability import MAX_CALIBRATION_ERROR
from training.models.calibration import NO_CALIBRATION
from training.models.evaluation import CALIBRATION_ERROR, PREFIX
from training.models.families import FAMILIES
from training.models.final_model import has_shifted_probabilities
from training.models.scored_twin import TRAIN
from training.models.thresholds import EVEN
from training.models.winner import Winner
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
    if winner.note:
        lines.append(winner.note)
    if winner.is_ensemble:
        lines += _list_members(winner, settings.scoring)
    else:
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
    lines += _tell_calibration(trained.metrics[CALIBRATION_ERROR], trained)
    if trained.latency is not None:
        lines.append(f"One row takes {trained.latency} in the server's code")
    if trained.weakness:
        lines.append(f"WARNING: no model to rely on: {trained.weakness}")
    return "\n".join(map(escape, lines))


def _tell_calibration(error: float, trained: TrainedModel) -> list[str]:
    """Return what to do if the server cannot expect a performance from the probabilities."""
    if error <= MAX_CALIBRATION_ERROR:
        return []
    line = (
        f"The expected calibration error, {error:.3g}, is above {MAX_CALIBRATION_ERROR}: "
        "the server will not show the expected performance"
    )
    if trained.plan.post_fit.calibration == NO_CALIBRATION:
        line += "; try --calibration sigmoid"
    return [line]


def _list_members(winner: Winner, scoring: str) -> list[str]:
    """Return a table of the members of an ensemble, each with its weight and its own score."""
    total = sum(winner.counts)
    return [
        f"weight  {scoring} alone  member",
        *(
            f"{f'{member.count}/{total}':<8}{member.score:<{len(scoring) + 8}.6g}"
            f"{FAMILIES[member.family].display_name} with {dict(member.params)}"
            for member in winner.members
        ),
    ]


def _tell_post_fit(trained: TrainedModel) -> list[str]:
    """Describe the calibration and the threshold, if there are any."""
    post_fit, lines = find_post_fit(trained.plan, trained.winner), []
    class_weight = trained.winner.class_weight
    weights = f"class_weight {class_weight} shifts them"
    if post_fit != trained.plan.post_fit:
        lines.append(
            f"Its probabilities are calibrated ({post_fit.calibration}), because {weights}"
        )
    elif post_fit.calibration != NO_CALIBRATION:
        lines.append(f"Its probabilities are calibrated: {post_fit.calibration}")
    elif has_shifted_probabilities(post_fit, class_weight):
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


def name_reliability_axes(n_classes: int) -> tuple[str, str]:
    """Return the titles of the axes of a reliability curve: confidence, then frequency."""
    if n_classes == 2:
        return "mean probability of the second class", "share of the second class"
    return "mean probability of the predicted class", "share of right predictions"
