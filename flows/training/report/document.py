"""The report of a run: its parts, drawn once, and the page that holds them.

    trained model, rows ──▶ draw_parts ──▶ parts ──▶ make_report ──▶ page
                                                         ▲
                                        outcome of the registry, once there is one

A part that cannot be drawn says so in its place: no report is worth the loss of a model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from training.data.rows import Rows
from training.models.search_values import SearchResult
from training.report.contributions import Contributions, TooLarge, explain
from training.report.decisions import draw_confusion, draw_gain, draw_thresholds
from training.report.explanations import Explained, draw_explanations
from training.report.leaderboard import draw_leaderboard, draw_validation_curves
from training.report.markup import Section, paragraph, say
from training.report.material import Material, gather
from training.report.outcome import (
    Outcome,
    draw_comparison,
    draw_lineage,
    list_everything,
    tell_commands,
    tell_model,
    tell_outcome,
)
from training.report.page import make_page
from training.report.profile import draw_profile, list_columns, rank_columns, warn
from training.report.quality import draw_ranking, draw_reliability
from training.report.segments import draw_segments
from training.report.strength import measure_strengths
from training.report.vega import summarize
from training.text import escape, first_line
from training.trained_model import TrainedModel

T = TypeVar("T")
Say = Callable[[str], object]
MAX_BYTES = 2 * 10**6
MODEL, COMPARISON, COMMANDS = "verdict", "champion", "commands"


@dataclass(frozen=True, slots=True)
class Report:
    """The parts of a report that do not change when the model is registered.

    Parameters
    ----------
    sections : tuple of Section
        The parts, in order.
    """

    sections: tuple[Section, ...]


def draw_parts(
    trained: TrainedModel,
    results: Mapping[str, SearchResult],
    train: Rows,
    holdout: Rows,
    tell: Say = print,
) -> Report:
    """Draw all parts that need rows.

    Parameters
    ----------
    trained : TrainedModel
        The model of the run.
    results : mapping of str to SearchResult
        Results of the searches, by family.
    train, holdout : Rows
        Rows of the plan.
    tell : callable
        Receives a line for each part that cannot be drawn.

    Returns
    -------
    Report
        It never raises because of what it draws.
    """
    artist = Artist(tell)
    found = artist.attempt("report", lambda: gather(trained, results, train, holdout))
    if found is None:
        return Report((Section(MODEL, "Verdict", artist.note("report")),))
    return Report(tuple(artist.draw_all(found)))


class Artist:
    """Draws parts one by one, and remembers why one could not be drawn.

    Parameters
    ----------
    tell : callable
        Receives a line for each part that cannot be drawn.
    """

    def __init__(self, tell: Say) -> None:
        self._tell = tell
        self._faults: dict[str, str] = {}

    def attempt(self, part: str, draw: Callable[[], T]) -> T | None:
        """Return what `draw` returns; None if it fails, which is said."""
        try:
            return draw()
        except Exception as error:  # whatever it is, the model is worth more
            self._faults[part] = f"{type(error).__name__}: {first_line(error)}"
            self._tell(
                f"WARNING: the report has no {part}: {escape(self._faults[part][:300])}"
            )
            return None

    def note(self, part: str) -> str:
        """Return what stands in the place of a part that could not be drawn."""
        reason = say(self._faults.get(part, "it was not tried"), 300)
        return paragraph(f"This part could not be drawn: {reason}", "warn")

    def draw(self, key: str, title: str, make: Callable[[], str]) -> Section:
        """Return a section, or one that says why there is none."""
        body = self.attempt(title.lower(), make)
        return Section(key, title, self.note(title.lower()) if body is None else body)

    def draw_all(self, m: Material) -> list[Section]:
        """Return all sections in order."""
        strengths = self._measure(m)
        explained, why = self._explain(m)
        sizes = None if explained is None else explained.contributions.sizes
        ranks = rank_columns(strengths, sizes)
        summary = summarize(m.trained)
        explanations = (
            (lambda: paragraph(f"Contributions are not drawn: {say(why)}."))
            if explained is None
            else (lambda: draw_explanations(m, explained, ranks))
        )
        return [
            self.draw(MODEL, "Verdict", lambda: tell_model(m) + warn(m, strengths)),
            self.draw(
                "data",
                "Data",
                lambda: draw_profile(m, strengths, ranks) + list_columns(m),
            ),
            self.draw("leaderboard", "Leaderboard", lambda: draw_leaderboard(m)),
            self.draw("grid", "Validation curves", lambda: draw_validation_curves(m)),
            self.draw("ranking", "Ranking", lambda: draw_ranking(m)),
            self.draw("reliability", "Reliability", lambda: draw_reliability(m)),
            self.draw("confusion", "Confusion", lambda: draw_confusion(m)),
            self.draw("gain", "Gain and lift", lambda: draw_gain(m)),
            self.draw("thresholds", "Thresholds", lambda: draw_thresholds(m)),
            self.draw("explanations", "Explanations", explanations),
            self.draw("segments", "Segments", lambda: draw_segments(m)),
            self.draw(
                "lineage",
                "Lineage and times",
                lambda: draw_lineage(m) + list_everything(summary),
            ),
        ]

    def _measure(self, m: Material) -> NDArray[np.float64]:
        measured = self.attempt(
            "strengths of columns", lambda: measure_strengths(m.train, m.schema)
        )
        return np.full(len(m.schema.features), np.nan) if measured is None else measured

    def _explain(self, m: Material) -> tuple[Explained | None, str]:
        """Explain the positive class, or the most frequent of several."""
        code = 1 if m.schema.is_binary else int(np.bincount(m.holdout.y).argmax())

        def make() -> Contributions | TooLarge:
            try:
                return explain(m.trained.twin.estimator, m.holdout.X, m.schema, code)
            except TooLarge as error:
                return error

        found = self.attempt("contributions", make)
        if found is None:
            return None, self._faults["contributions"]
        if isinstance(found, TooLarge):
            return None, str(found)
        X = m.holdout.X[found.rows]
        dense = X if isinstance(X, np.ndarray) else X.toarray()
        return Explained(found, np.asarray(dense), code), ""


def make_report(trained: TrainedModel, report: Report, outcome: Outcome | None) -> str:
    """Put the parts together with what the registry has decided.

    Parameters
    ----------
    trained : TrainedModel
        The model of the run.
    report : Report
        Its parts.
    outcome : Outcome or None
        What the registry made of it; None before the registration.

    Returns
    -------
    str
        HTML, at most `MAX_BYTES` in UTF-8: the largest parts give way to a sentence.
    """
    first, *others = report.sections
    verdict = Section(first.key, first.title, tell_outcome(outcome) + first.body)
    sections = [
        verdict,
        Section(COMPARISON, "Champion and challenger", draw_comparison(outcome)),
        *others,
        Section(COMMANDS, "Serve and reproduce", tell_commands(trained, outcome)),
    ]
    run = trained.plan.run
    model_name = run.parameters.model_name
    subtitle = f"{run.data_name}, {run.run_id}, {run.start_time:%Y-%m-%d %H:%M %Z}"
    return make_page(model_name, subtitle, _fit(sections))


def _fit(sections: list[Section]) -> list[Section]:
    """Replace the largest parts until the page is small enough."""
    kept = list(sections)
    while sum(len(one.body.encode()) for one in kept) > MAX_BYTES - 50_000:
        largest = max(range(len(kept)), key=lambda i: len(kept[i].body))
        one = kept[largest]
        kept[largest] = Section(
            one.key,
            one.title,
            paragraph("This part is left out, because it is too large."),
        )
    return kept
