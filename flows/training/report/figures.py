"""Pictures of a run as images, which MLflow shows beside its metrics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from training.models.evaluation import Bin
from training.report.vega import name_reliability_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_reliability(bins: Sequence[Bin], n_classes: int) -> "Figure":
    """Draw the reliability curve on the hold-out, with the number of rows of each point.

    Parameters
    ----------
    bins : sequence of Bin
        Points of the curve.
    n_classes : int
        Number of classes, 2 or more.

    Returns
    -------
    Figure
        Two plots, one above the other.
    """
    # pyplot would keep the figure for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    curve, rows = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    confidence = [group.confidence for group in bins]
    confidence_title, frequency_title = name_reliability_axes(n_classes)
    curve.plot([0, 1], [0, 1], linestyle="--", color="gray")
    curve.plot(confidence, [group.frequency for group in bins], marker="o")
    curve.set(title="Reliability on the hold-out", ylabel=frequency_title)
    rows.bar(confidence, [group.n_rows for group in bins], width=0.05)
    rows.set(xlabel=confidence_title, ylabel="rows", xlim=(0, 1))
    return figure
