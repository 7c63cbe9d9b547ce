"""Pictures of a run as images, which MLflow shows beside its numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.models.evaluation import Bin
from training.report.vega import name_reliability_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_reliability(bins: Sequence[Bin], n_classes: int) -> "Figure":
    """Draw the reliability curve on the hold-out, and how many rows each of its points stands for.

    Parameters
    ----------
    bins : sequence of Bin
        Points of the curve.
    n_classes : int
        Classes, which decide whose probability it is.
    """
    # Without pyplot, which keeps figures for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    curve, rows = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    confidence = [group.confidence for group in bins]
    said, came_out = name_reliability_axes(n_classes)
    curve.plot([0, 1], [0, 1], linestyle="--", color="gray")
    curve.plot(confidence, [group.frequency for group in bins], marker="o")
    curve.set(title="Reliability on the hold-out", ylabel=came_out)
    rows.bar(confidence, [group.n_rows for group in bins], width=0.05)
    rows.set(xlabel=said, ylabel="rows", xlim=(0, 1))
    return figure
