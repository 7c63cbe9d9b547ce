"""What the model looks at: contributions of the strongest columns, over rows and over values."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.schema import WITH_CATEGORIES, Kind
from training.report.contributions import Contributions
from training.report.drawing import (
    Axis,
    Frame,
    choice_axis,
    dots,
    figure,
    gallery,
    make_axis,
    meter,
    rule,
)
from training.report.markup import name, number, paragraph, table
from training.report.material import Material
from training.report.profile import axis_value, value_axis
from training.text import shorten

N_COLUMNS, N_DEPENDENCES, MAX_CATEGORIES = 10, 4, 8
NAMES_WIDTH = 140.0
COLOURS = ("cold faint", "middle faint", "warm faint")


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """Contributions, with the rows and the class that they are about."""

    contributions: Contributions
    X: NDArray[np.float64]
    code: int


def draw_explanations(
    material: Material, explained: Explained, ranks: list[int]
) -> str:
    """Return how much the strongest columns add, over all rows and by their values."""
    label, found = material.labels[explained.code], explained.contributions
    shown, sizes = ranks[:N_COLUMNS], found.sizes
    largest = max(float(sizes.max()), 1e-300)
    rows = [
        [
            name(material.schema.features[i].name),
            meter(sizes[i] / largest),
            number(sizes[i], 3),
        ]
        for i in shown
    ]
    figures = [_draw_summary(material, explained, shown)]
    figures += [_draw_dependence(material, explained, i) for i in shown[:N_DEPENDENCES]]
    return (
        paragraph(
            f"What each column adds to the raw score of class {name(label)}, on {len(found.rows)} "
            "rows of the hold-out. These are the numbers that the server gives with "
            "<code>explain_top_k</code>, here of the scored twin. They tell what the model uses, "
            "not what causes the outcome."
        )
        + table(
            "Mean absolute contribution, over the rows and the classes",
            ["Column", "Beside the largest", "Mean"],
            rows,
        )
        + gallery(figures)
    )


def _draw_summary(material: Material, explained: Explained, shown: list[int]) -> str:
    names = [shorten(material.schema.features[i].name, 200) for i in shown]
    values = explained.contributions.values
    ticks = tuple((float(-i), label) for i, label in enumerate(names))
    frame = Frame(
        make_axis("contribution", values[:, shown].ravel().tolist(), start=0),
        Axis("", 0.6 - len(shown), 0.6, ticks),
        left=NAMES_WIDTH,
    )
    marks = [rule(frame, (0, frame.y.low), (0, frame.y.high))]
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(values))
    for place, column in enumerate(shown):
        thirds = _divide(explained.X[:, column])
        for part, colour in enumerate(COLOURS):
            rows = np.flatnonzero(thirds == part)
            places = zip(
                values[rows, column].tolist(),
                (jitter[rows] - place).tolist(),
                strict=True,
            )
            marks.append(dots(frame, list(places), colour, 2))
    listed = ", ".join(shorten(one, 24) for one in names)
    return figure(
        frame,
        marks,
        "Contributions of the strongest columns",
        "Each dot is a row: blue the lowest third of the column's values, red the highest. "
        f"The strongest column comes first: {listed}.",
    )


def _divide(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the third of each value: 0, 1 or 2; gaps and equal values are in the middle."""
    known = values[np.isfinite(values)]
    if not len(known) or known.min() == known.max():
        return np.ones(len(values), dtype=np.int64)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    if low == high:
        return np.where(values > high, 2, np.where(values < low, 0, 1)).astype(np.int64)
    return np.where(values >= high, 2, np.where(values <= low, 0, 1)).astype(np.int64)


def _draw_dependence(material: Material, explained: Explained, column: int) -> str:
    feature = material.schema.features[column]
    x, y = explained.X[:, column], explained.contributions.values[:, column]
    is_known = np.isfinite(x)
    heights = make_axis("contribution", y.tolist(), start=0)
    n_gaps = int((~is_known).sum())
    gaps = f" {n_gaps} rows with gaps are not drawn." if n_gaps else ""
    if feature.kind in (*WITH_CATEGORIES, Kind.BOOLEAN):
        codes, totals = np.unique(x[is_known], return_counts=True)
        shown = codes[np.argsort(-totals, kind="stable")][:MAX_CATEGORIES]
        labels = [axis_value(feature, code)[:9] for code in shown] or ["none"]
        frame = Frame(choice_axis(shorten(feature.name, 40), labels), heights)
        points = [(float(i), float(v)) for i, c in enumerate(shown) for v in y[x == c]]
    else:
        low, high = min(x[is_known], default=0.0), max(x[is_known], default=1.0)
        frame = Frame(value_axis(feature, low, high), heights)
        points = list(zip(x[is_known].tolist(), y[is_known].tolist(), strict=True))
    low, high = float(y.min()), float(y.max())
    return figure(
        frame,
        [
            rule(frame, (frame.x.low, 0), (frame.x.high, 0)),
            dots(frame, points, "s0 faint", 2.5),
        ],
        f"Dependence on {feature.name}",
        f"Contributions from {low:.3g} to {high:.3g}; each dot is a row.{gaps}",
    )
