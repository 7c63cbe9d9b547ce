"""The card that shows the progress of a search while it runs."""

from typing import Any

from metaflow import current
from metaflow.cards import Markdown, ProgressBar, VegaChart


class ProgressCard:
    """Shows the progress of a search in the card of its task.

    Parameters
    ----------
    title : str
        Heading of the card.
    scoring : str
        Name of the scorer.
    """

    def __init__(self, title: str, scoring: str) -> None:
        self._scoring = scoring
        self._points: list[tuple[float, float]] = []
        self._bar: Any = None
        self._chart = VegaChart(self._draw())
        current.card.append(Markdown(f"# {title}"))

    def show(self, progress: Any) -> None:
        """Update the card."""
        self._points.append((progress.elapsed_seconds, progress.best_score))
        if self._bar is None:
            # The end of a bar cannot change later, and is known only now.
            self._bar = ProgressBar(max=progress.n_all, label="scores")
            current.card.extend([self._bar, self._chart])
        self._bar.update(progress.n_done, metadata=str(progress))
        self._chart.update(self._draw())
        current.card.refresh()

    def _draw(self) -> dict[str, Any]:
        from training.report.vega import plot_best_score

        return plot_best_score(self._points, self._scoring)
