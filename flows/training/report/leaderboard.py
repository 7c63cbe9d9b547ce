"""Which candidates were best, and how the score follows each parameter of the grid."""

from typing import Any

import numpy as np
import pandas as pd

from training.models.families import FAMILIES
from training.report.drawing import (
    Axis,
    Frame,
    choice_axis,
    dots,
    figure,
    gallery,
    interval_bar,
    line,
    make_axis,
    whiskers,
)
from training.report.markup import name, number, paragraph, say, table
from training.report.material import Material

N_BEST = 5
MAX_CURVES, MAX_CHOICES = 8, 30
MEAN, SPREAD = "mean_test_score", "std_test_score"
PREFIX = "param_"


def draw_leaderboard(material: Material) -> str:
    """Return the best candidates of each family, with their spread over the folds."""
    trained = material.trained
    scoring, board = trained.plan.settings.scoring, trained.cv_table
    best = _take_best(board)
    ends = [best[MEAN] - best[SPREAD], best[MEAN] + best[SPREAD]]
    axis = make_axis(scoring, np.concatenate(ends).tolist())
    rows = [_write_row(row, axis) for row in best.to_dict("records")]
    n_all = len(board)
    failed = "".join(
        paragraph(
            f"{say(FAMILIES[one].display_name)} has no candidate: {say(why)}", "warn"
        )
        for one, why in trained.failures.items()
    )
    return (
        paragraph(
            f"The search tried {n_all} candidates on {trained.plan.settings.n_folds} folds. The "
            f"best {N_BEST} of each family are below; <code>cv_results.csv</code> in MLflow has "
            "all. Bars are one standard deviation over the folds to each side; where bars "
            "overlap widely, the order may be chance."
        )
        + failed
        + table(
            f"Best candidates of each family by {scoring}, larger is better",
            ["Family", "Parameters", "Spread over the folds", "Mean", "± deviation"],
            rows,
            n_texts=3,
        )
    )


def _take_best(board: pd.DataFrame) -> pd.DataFrame:
    scored = board[np.isfinite(board[MEAN])].sort_values(
        MEAN, ascending=False, kind="stable"
    )
    best: pd.DataFrame = scored.groupby("family").head(N_BEST)
    return best


def _write_row(row: dict[Any, Any], axis: Axis) -> list[str]:
    mean, spread = row[MEAN], row[SPREAD]
    params = {
        key.removeprefix(PREFIX): value
        for key, value in row.items()
        if str(key).startswith(PREFIX) and _is_given(value)
    }
    told = ", ".join(
        f"{key} {_shorten_number(str(value))}" for key, value in params.items()
    )
    return [
        say(FAMILIES[str(row["family"])].display_name),
        name(told or "defaults", 300),
        interval_bar(axis, mean - spread, mean, mean + spread),
        number(mean, 5),
        number(spread, 2),
    ]


def _is_given(value: object) -> bool:
    return not (isinstance(value, float) and np.isnan(value))


def draw_validation_curves(material: Material) -> str:
    """Return the best score for each value of each parameter that varies."""
    board, scoring = material.trained.cv_table, material.trained.plan.settings.scoring
    figures = [
        _draw_curve(rows, str(family), str(column), scoring)
        for family, rows in board.groupby("family", sort=False)
        for column in rows.columns
        if str(column).startswith(PREFIX) and _varies(rows[column])
    ]
    if not figures:
        return paragraph(
            "No parameter of the grids has more than one value to compare."
        )
    rest = len(figures) - MAX_CURVES
    return (
        paragraph(
            "Each point is the best candidate with this value; the bar is its standard deviation "
            "over the folds. A curve that still rises at its end asks for a wider grid."
        )
        + gallery(figures[:MAX_CURVES])
        + (
            paragraph(f"{rest} more parameters vary; they are not drawn.")
            if rest > 0
            else ""
        )
    )


def _varies(values: "pd.Series[Any]") -> bool:
    return values.dropna().map(str).nunique() > 1


def _draw_curve(rows: pd.DataFrame, family: str, column: str, scoring: str) -> str:
    scored = rows[np.isfinite(rows[MEAN])].dropna(subset=[column])
    parameter = column.removeprefix(PREFIX)
    best = [
        (value, one[MEAN], one[SPREAD])
        for value, group in scored.groupby(scored[column].map(str), sort=False)
        for one in [group.loc[group[MEAN].idxmax()]]
    ]
    best.sort(key=lambda point: _order(point[0]))
    best = best[:MAX_CHOICES]
    ends = [m + s for _, m, s in best] + [m - s for _, m, s in best]
    labels = [_shorten_number(str(value)) for value, _, _ in best]
    frame = Frame(choice_axis(parameter, labels), make_axis(scoring, ends))
    points = [(float(i), mean) for i, (_, mean, _) in enumerate(best)]
    bars = [(float(i), mean - s, mean + s) for i, (_, mean, s) in enumerate(best)]
    top = max(best, key=lambda point: point[1], default=("none", np.nan, 0.0))
    return figure(
        frame,
        [whiskers(frame, bars), line(frame, points), dots(frame, points)],
        f"{FAMILIES[family].display_name}: {parameter}",
        f"The best of {len(best)} values is {_shorten_number(str(top[0]))} with {scoring} "
        f"{top[1]:.4g}.",
    )


def _order(value: str) -> tuple[int, float, str]:
    try:
        return 0, float(value), value
    except ValueError:
        return 1, 0.0, value


def _shorten_number(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
