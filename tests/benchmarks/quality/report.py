"""Mean ranks, differences with their errors, and a picture of both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import pandas as pd
from benchmarks.tables import format_table
from matplotlib import pyplot

OURS = "ours"
# Metrics, and whether larger is better.
METRICS = {"log_loss": False, "roc_auc": True}


@dataclass(frozen=True, slots=True)
class Score:
    """How good a method's probabilities are on the unseen rows of a split."""

    method: str
    table: str
    split: int
    log_loss: float
    roc_auc: float
    cpu_seconds: float


def write_report(scores: Sequence[Score], picture: Path) -> None:
    """Print the tables in Markdown and draw the picture."""
    frame = pd.DataFrame([asdict(score) for score in scores])
    print("\nMean rank over the tables, 1 is best, and CPU seconds\n")
    print(format_summary(frame))
    for metric in METRICS:
        print(
            f"\n{metric}: mean of the splits (standard error of the difference to ours)\n"
        )
        print(format_details(frame, metric))
    draw(frame, picture)


def find_means(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean of the splits, a row for each table that all methods did, a column each."""
    return frame.pivot_table(metric, "table", "method").dropna()


def find_ranks(frame: pd.DataFrame, metric: str) -> "pd.Series[float]":
    """Return the mean rank of each method."""
    means = find_means(frame, metric)
    return means.rank(axis=1, ascending=not METRICS[metric]).mean().sort_values()


def format_summary(frame: pd.DataFrame) -> str:
    """Return a line for each method, the best by log loss first."""
    ranks = {metric: find_ranks(frame, metric) for metric in METRICS}
    seconds = frame.groupby("method")["cpu_seconds"].median()
    better = {metric: count_wins(frame, metric) for metric in METRICS}
    rows = [
        (
            method,
            *(f"{ranks[metric][method]:.1f}" for metric in METRICS),
            *(better[metric].get(method, "-") for metric in METRICS),
            f"{seconds[method]:.0f}",
        )
        for method in ranks["log_loss"].index
    ]
    header = (
        "method",
        "rank by log loss",
        "rank by ROC AUC",
        "tables where ours has the lower log loss",
        "tables where ours has the higher ROC AUC",
        "CPU s, median",
    )
    return format_table(header, rows)


def count_wins(frame: pd.DataFrame, metric: str) -> dict[str, str]:
    """Return on how many tables ours is better, by the other method."""
    means = find_means(frame, metric)
    sign = 1 if METRICS[metric] else -1
    return {
        str(
            method
        ): f"{int((sign * (means[OURS] - means[method]) > 0).sum())} of {len(means)}"
        for method in means
        if method != OURS
    }


def format_details(frame: pd.DataFrame, metric: str) -> str:
    """Return a line for each table."""
    means = find_means(frame, metric)
    methods = [
        OURS,
        *(name for name in find_ranks(frame, metric).index if name != OURS),
    ]
    by_split = frame.pivot_table(metric, ["table", "split"], "method")
    errors = by_split.sub(by_split[OURS], axis=0).groupby("table").sem()
    rows = [
        (
            table,
            *(
                f"{means.loc[table, method]:.4f}"
                + ("" if method == OURS else f" ({errors.loc[table, method]:.4f})")
                for method in methods
            ),
        )
        for table in means.index
    ]
    return format_table(("table", *methods), rows)


def draw(frame: pd.DataFrame, picture: Path) -> None:
    """Draw the mean ranks, a panel for each metric."""
    matplotlib.use("svg")
    # The same picture for the same figures: no random names, no date.
    matplotlib.rcParams["svg.hashsalt"] = "quality"
    figure, axes = pyplot.subplots(1, len(METRICS), figsize=(9, 3))
    for axis, metric in zip(axes, METRICS, strict=True):
        ranks = find_ranks(frame, metric)[::-1]
        colours = ["#1f6feb" if name == OURS else "#9aa4b2" for name in ranks.index]
        axis.barh(ranks.index, ranks, color=colours)
        axis.set_title(f"mean rank by {metric.replace('_', ' ')}, 1 is best")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None})
    pyplot.close(figure)
