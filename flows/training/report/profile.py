"""The table that the model has learned from: its rows, its gaps, and its strongest columns."""

from collections import Counter
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from date_columns.forms import DateForm
from training.data.schema import TEMPORAL, WITH_CATEGORIES, Feature, Kind
from training.report.drawing import (
    Axis,
    Frame,
    choice_axis,
    columns,
    end_axis,
    figure,
    gallery,
    line,
    make_axis,
    meter,
)
from training.report.markup import (
    bullets,
    count,
    fold,
    name,
    number,
    paragraph,
    percent,
    plural,
    say,
    table,
)
from training.report.material import Material
from training.report.strength import MAX_COLUMNS, SUSPECT
from training.text import shorten

N_STRONGEST, N_BINS, MAX_CATEGORIES = 10, 12, 8
MAX_CLASSES, MAX_SERIES = 15, 3
MAX_ROWS = 20_000
MAX_LINES = 200


def rank_columns(
    strengths: NDArray[np.float64], sizes: NDArray[np.float64] | None
) -> list[int]:
    """Return the columns, strongest first: by what they add in the model, else by themselves."""
    by_model = strengths if sizes is None else sizes
    known = np.nan_to_num(strengths, nan=-1.0)
    order = np.lexsort((-known, -np.nan_to_num(by_model, nan=-1.0)))
    return [int(i) for i in order]


def draw_profile(
    material: Material, strengths: NDArray[np.float64], ranks: list[int]
) -> str:
    """Return rows and classes, warnings, and the strongest columns with their distributions."""
    strongest = ranks[:N_STRONGEST]
    step = -(-len(material.train.y) // MAX_ROWS)
    X, y = _take_columns(material, strongest, step), material.train.y[::step]
    features = [material.schema.features[i] for i in strongest]
    sampled = f", in every {step}th row" if step > 1 else ""
    rows = [
        [
            name(f.name),
            str(f.kind),
            percent(np.isnan(x).mean()),
            count(len(np.unique(x))),
            _show_share(strengths[i]),
        ]
        for f, x, i in zip(features, X.T, strongest, strict=True)
    ]
    figures = [
        _draw_column(f, x, y, material) for f, x in zip(features, X.T, strict=True)
    ]
    return (
        _tell_rows(material)
        + warn(material, strengths)
        + f"<h3>The {plural(len(strongest), 'strongest column')}</h3>"
        + table(
            f"Strongest columns in the training rows{sampled}",
            ["Column", "Kind", "Gaps", "Different values", "Predicts alone"],
            rows,
            n_texts=2,
        )
        + paragraph(
            "<em>Predicts alone</em> is the share of the uncertainty about the class that the "
            "column removes by itself, on rows that were not used to learn it.",
            "soft",
        )
        + gallery(figures)
        + fold("All that was decided about the table", bullets(_list_notes(material)))
    )


def _show_share(share: float) -> str:
    """Return a bar and its number; bars stand below each other, however long the numbers are."""
    return f'{meter(share)} <span class="beside">{percent(share)}</span>'


def _take_columns(
    material: Material, positions: list[int], step: int
) -> NDArray[np.float64]:
    X = material.train.X[::step][:, positions]
    return np.asarray(X if isinstance(X, np.ndarray) else X.toarray(), dtype=np.float64)


def _list_notes(material: Material) -> list[str]:
    lines = material.trained.plan.summary.splitlines()
    rest = len(lines) - MAX_LINES
    more = (
        [f"{plural(rest, 'more line')} in the log of the step start"]
        if rest > 0
        else []
    )
    return [name(one, 500) for one in lines[:MAX_LINES]] + more


def _tell_rows(material: Material) -> str:
    labels, n_features = material.labels, len(material.schema.features)
    kinds = Counter(str(feature.kind) for feature in material.schema.features)
    by_kind = ", ".join(f"{count(n)} {kind}" for kind, n in kinds.most_common())
    with_gaps = sum(feature.nullable for feature in material.schema.features)
    n_train, n_holdout = len(material.train.y), len(material.holdout.y)
    counts = [
        np.bincount(rows.y, minlength=len(labels))
        for rows in (material.train, material.holdout)
    ]
    order = np.argsort(-counts[0], kind="stable")[:MAX_CLASSES]
    rows = [
        [
            name(labels[i]),
            count(int(counts[0][i])),
            count(int(counts[1][i])),
            _show_share(counts[0][i] / n_train),
        ]
        for i in order
    ]
    rest = len(labels) - len(order)
    others = (
        f"; {plural(rest, 'smaller class')[:-1]}es are left out" if rest > 1 else ""
    )
    return paragraph(
        f"{plural(n_train, 'row')} to learn from and {count(n_holdout)} set aside to score. "
        f"{plural(n_features, 'column')}: {by_kind}; {count(with_gaps)} may have gaps."
    ) + table(
        f"Classes{others}", ["Class", "Training rows", "Hold-out rows", "Share"], rows
    )


def warn(material: Material, strengths: NDArray[np.float64]) -> str:
    """Return warnings about the table; one that a leak is likely comes first."""
    features = material.schema.features
    suspects = [int(i) for i in np.flatnonzero(np.nan_to_num(strengths) > SUSPECT)]
    told = []
    if suspects:
        names = ", ".join(
            f"{name(features[i].name)} ({percent(strengths[i])})" for i in suspects[:10]
        )
        more = f" and {len(suspects) - 10} more" if len(suspects) > 10 else ""
        told.append(
            f"<strong>Leakage suspect:</strong> {names}{more} predicts the class almost alone. "
            "Check that callers know such a value before the outcome; else leave it out."
        )
    smallest = int(
        np.bincount(material.holdout.y, minlength=len(material.labels)).min()
    )
    if smallest < 10:
        told.append(
            f"The rarest class has {plural(smallest, 'row')} in the hold-out, so figures about it "
            "may be chance."
        )
    if len(features) > MAX_COLUMNS:
        told.append(f"Only the first {count(MAX_COLUMNS)} columns were tried alone.")
    return "".join(paragraph(one, "warn") for one in told)


def _draw_column(
    feature: Feature,
    values: NDArray[np.float64],
    y: NDArray[np.int64],
    material: Material,
) -> str:
    groups = _choose_groups(y, material.labels)
    known = [values[rows & np.isfinite(values)] for _, rows in groups]
    labels = [label for label, _ in groups]
    if not any(map(len, known)):
        return ""
    if feature.kind in (*WITH_CATEGORIES, Kind.BOOLEAN):
        return _draw_categories(feature, known, labels)
    return _draw_numbers(feature, known, labels)


def _choose_groups(
    y: NDArray[np.int64], labels: tuple[str, ...]
) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return a few classes with their rows; the rarer ones are put together."""
    counts = np.bincount(y, minlength=len(labels))
    order = np.argsort(-counts, kind="stable")
    shown = order[:MAX_SERIES] if len(labels) > MAX_SERIES else np.arange(len(labels))
    groups = [(shorten(labels[i], 30), y == i) for i in shown]
    if len(labels) > len(shown):
        rest = len(labels) - len(shown)
        groups.append((f"{rest} other classes", ~np.isin(y, shown)))
    return groups


def _draw_numbers(
    feature: Feature, known: list[NDArray[np.float64]], labels: list[str]
) -> str:
    everything = np.concatenate(known)
    low, high = np.quantile(everything, [0.005, 0.995])
    if not isfinite(high - low):
        return ""
    axis = value_axis(feature, low, high)
    edges = np.linspace(axis.low, axis.high, N_BINS + 1)
    shares = [np.histogram(one, edges)[0] / max(len(one), 1) for one in known]
    frame = Frame(
        axis, make_axis("share of the class", np.concatenate(shares), start=0)
    )
    marks = [
        line(frame, _outline(edges, heights), series)
        for series, heights in enumerate(shares)
    ]
    medians = "; ".join(
        f"{label}: {_write_median(feature, one)}"
        for label, one in zip(labels, known, strict=True)
        if len(one)
    )
    return figure(frame, marks, feature.name, f"Medians by class. {medians}.", labels)


def _write_median(feature: Feature, values: NDArray[np.float64]) -> str:
    """Write the median; of two times, the middle is cut to a whole second."""
    median = float(np.median(values))
    return axis_value(feature, median // 1 if feature.kind in TEMPORAL else median)


def _outline(
    edges: NDArray[np.float64], heights: NDArray[np.float64]
) -> list[tuple[float, float]]:
    """Return the upper outline of a histogram."""
    middles = np.repeat(heights, 2).tolist()
    return [
        (float(edges[0]), 0.0),
        *zip(np.repeat(edges, 2)[1:-1].tolist(), middles, strict=True),
        (float(edges[-1]), 0.0),
    ]


def value_axis(feature: Feature, low: float, high: float) -> Axis:
    """Return an axis of a column's values; one of dates has dates as its labels."""
    title = shorten(feature.name, 40)
    if feature.kind not in TEMPORAL or not low < high:
        return make_axis(title, (low, high))
    return end_axis(title, low, high, lambda value: axis_value(feature, value)[:10])


def axis_value(feature: Feature, value: float) -> str:
    """Return a value of a column as its users write it."""
    if feature.kind in TEMPORAL:
        written = DateForm(feature.kind, feature.format).write(value)
        return written.removesuffix("T00:00:00")
    if feature.kind == Kind.BOOLEAN:
        return "true" if value else "false"
    if feature.kind in WITH_CATEGORIES:
        return shorten(str(feature.categories[int(value)]), 30)
    return number(value)


def _draw_categories(
    feature: Feature, known: list[NDArray[np.float64]], labels: list[str]
) -> str:
    codes, totals = np.unique(np.concatenate(known), return_counts=True)
    shown = codes[np.argsort(-totals, kind="stable")][:MAX_CATEGORIES]
    shares = [
        np.array([(one == c).sum() for c in shown]) / max(len(one), 1) for one in known
    ]
    axis = choice_axis(
        shorten(feature.name, 40), [axis_value(feature, c)[:9] for c in shown]
    )
    frame = Frame(
        axis, make_axis("share of the class", np.concatenate(shares), start=0)
    )
    width = 0.8 / len(known)
    marks = [
        columns(
            frame,
            [
                (
                    i - 0.4 + series * width,
                    i - 0.4 + (series + 1) * width,
                    float(height),
                )
                for i, height in enumerate(heights)
            ],
            series,
        )
        for series, heights in enumerate(shares)
    ]
    most = "; ".join(
        f"{label}: {axis_value(feature, float(shown[int(heights.argmax())]))}"
        for label, heights in zip(labels, shares, strict=True)
    )
    rest = len(codes) - len(shown)
    more = f" {rest} rarer values are not drawn." if rest else ""
    return figure(
        frame, marks, feature.name, f"Most frequent by class. {most}.{more}", labels
    )


def list_columns(material: Material) -> str:
    """Return the schema file, which says what each column holds."""
    text = material.trained.plan.schema_file
    lines = text.splitlines()[:MAX_LINES]
    shown = "\n".join(say(one, 200) for one in lines)
    return fold(
        "The columns as a schema file", f'<pre tabindex="0"><code>{shown}</code></pre>'
    )
