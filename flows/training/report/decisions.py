"""What the model decides on the hold-out: its errors, whom to take first, and other thresholds."""

import numpy as np
from numpy.typing import NDArray

from training.models.evaluation import decide
from training.models.thresholds import LowestCost, ThresholdCounts, count_by_threshold
from training.report.drawing import (
    Frame,
    figure,
    gallery,
    line,
    make_axis,
    rule,
    share_axis,
)
from training.report.markup import count, fixed, name, number, paragraph, percent, table
from training.report.material import Material

MAX_MATRIX, MAX_PAIRS = 10, 15
TENTHS = tuple(tenth / 10 for tenth in range(1, 11))
SWEEP = tuple(tenth / 10 for tenth in range(1, 10))


def draw_confusion(material: Material) -> str:
    """Return which classes the decisions mix up."""
    labels, y = material.labels, material.holdout.y
    threshold = material.trained.twin.threshold
    decided = decide(material.probabilities, threshold)
    n = len(labels)
    matrix = np.bincount(y * n + decided, minlength=n * n).reshape(n, n)
    right = int(np.trace(matrix))
    how = (
        f"above the threshold {number(threshold)} the answer is class {name(labels[1])}"
        if n == 2
        else "the most probable class is the answer"
    )
    told = paragraph(
        f"{count(right)} of {count(len(y))} rows are answered right "
        f"({percent(right / len(y))}); {how}."
    )
    if n > MAX_MATRIX:
        return told + _list_pairs(matrix, labels)
    rows = [
        [
            name(labels[i]),
            *(_shade(matrix, i, j) for j in range(n)),
            count(int(matrix[i].sum())),
        ]
        for i in range(n)
    ]
    header = ["Truth", *(f"answered {name(label, 24)}" for label in labels), "Rows"]
    shown = table("Truth (rows) and answers (columns) on the hold-out", header, rows)
    return f'{told}<div class="heat">{shown}</div>'


def _shade(matrix: NDArray[np.int64], truth: int, answer: int) -> str:
    value, total = int(matrix[truth, answer]), int(matrix[truth].sum())
    share = value / total if total else 0.0
    mark = (
        "hit" if truth == answer else f"h{0 if not value else 1 + int(share * 2.999)}"
    )
    return f'<b class="{mark}">{count(value)}</b> {percent(share)}'


def _list_pairs(matrix: NDArray[np.int64], labels: tuple[str, ...]) -> str:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(wrong, axis=None, kind="stable")[::-1][:MAX_PAIRS]
    places = [divmod(int(place), len(labels)) for place in order]
    rows = [
        [
            name(labels[i]),
            name(labels[j]),
            count(int(wrong[i, j])),
            count(int(matrix[i].sum())),
        ]
        for i, j in places
        if wrong[i, j]
    ]
    if not rows:
        return paragraph("No row is answered wrong.")
    return table(
        f"The most frequent errors among {len(labels)} classes, on the hold-out",
        ["Truth", "Answer", "Rows", "Rows of this truth"],
        rows,
        n_texts=2,
    )


def draw_gain(material: Material) -> str:
    """Return whom a user reaches who takes the most probable rows first."""
    if len(material.labels) != 2:
        return paragraph(
            "Gain and lift rank the rows of one class; they are for two classes."
        )
    label, is_positive = material.labels[1], material.holdout.y == 1
    order = np.argsort(-material.probabilities[:, 1], kind="stable")
    found = np.concatenate([[0], np.cumsum(is_positive[order])])
    n, n_positive = len(order), int(is_positive.sum())
    taken = np.arange(n + 1) / n
    gain = found / n_positive
    lift = gain[1:] / taken[1:]
    at = [max(1, round(share * n)) for share in TENTHS]
    frame = Frame(share_axis("share of the rows taken"), share_axis("share found"))
    curve = figure(
        frame,
        [rule(frame, (0, 0), (1, 1)), line(frame, list(zip(taken, gain, strict=True)))],
        f"Gain: rows of class {label} that are found",
        f"The most probable tenth of the rows holds {gain[at[0]] * 100:.1f} % of class "
        f"{label[:40]}. Rows in any order follow the dashed diagonal.",
    )
    lifts = [(taken[i], lift[i - 1]) for i in range(max(1, n // 100), n + 1)]
    lifting = Frame(
        share_axis("share of the rows taken"),
        make_axis("times as many as by chance", [one for _, one in lifts], start=0),
    )
    second = figure(
        lifting,
        [rule(lifting, (0, 1), (1, 1)), line(lifting, lifts)],
        "Lift",
        f"The most probable tenth holds {lift[at[0] - 1]:.3g} times as many as chance.",
    )
    rows = [
        [
            percent(share),
            count(i),
            count(int(found[i])),
            f"{fixed(gain[i] * 100, 1)} %",
            fixed(lift[i - 1], 2),
        ]
        for share, i in zip(TENTHS, at, strict=True)
    ]
    header = ["Most probable", "Rows", "Found", "Share found", "Lift"]
    return gallery([curve, second]) + table(
        "Gain and lift on the hold-out", header, rows
    )


def draw_thresholds(material: Material) -> str:
    """Return what other thresholds would decide, and what their errors cost."""
    if len(material.labels) != 2:
        return paragraph("A threshold decides between two classes only.")
    rule_, chosen = (
        material.trained.plan.post_fit.threshold,
        material.trained.twin.threshold,
    )
    costs = rule_ if isinstance(rule_, LowestCost) else LowestCost(1.0, 1.0)
    counts = count_by_threshold(material.holdout.y == 1, material.probabilities[:, 1])
    rows = [
        _write_threshold(_count_at(material, one), costs, is_chosen=one == chosen)
        for one in sorted({*SWEEP, chosen})
    ]
    source = (
        "are those of --threshold"
        if isinstance(rule_, LowestCost)
        else "count each error as 1, because no costs are given; "
        "<code>--threshold cost:FN:FP</code> states them"
    )
    return (
        paragraph(
            f"A row is answered as class {name(material.labels[1])} above the threshold. "
            f"Costs {source}. "
            f"The model uses {number(chosen)}."
        )
        + gallery([_draw_rates(counts, chosen), _draw_costs(counts, costs, chosen)])
        + table(
            "Thresholds on the hold-out",
            [
                "Threshold",
                "Precision",
                "Recall",
                "F1",
                "False alarms",
                "Missed",
                "Cost",
            ],
            rows,
        )
    )


def _measure(counts: ThresholdCounts, i: int) -> tuple[float, float, float]:
    hits, alarms = int(counts.true_positives[i]), int(counts.false_positives[i])
    precision = hits / (hits + alarms) if hits + alarms else float("nan")
    recall = hits / counts.n_positives
    f1 = 2 * hits / (hits + alarms + counts.n_positives)
    return precision, recall, f1


def _write_threshold(
    counts: ThresholdCounts, costs: LowestCost, *, is_chosen: bool
) -> list[str]:
    threshold = float(counts.thresholds[0])
    shown = f"{number(threshold)} (used)" if is_chosen else number(threshold)
    measured = [fixed(value, 3) for value in _measure(counts, 0)]
    errors = [int(counts.false_positives[0]), int(counts.false_negatives[0])]
    return [
        shown,
        *measured,
        *map(count, errors),
        number(-float(costs.judge(counts)[0])),
    ]


def _count_at(material: Material, threshold: float) -> ThresholdCounts:
    """Count the decisions at one threshold."""
    is_positive = material.holdout.y == 1
    answered = material.probabilities[:, 1] > threshold
    return ThresholdCounts(
        np.array([threshold]),
        np.array([(answered & is_positive).sum()]),
        np.array([(answered & ~is_positive).sum()]),
        int(is_positive.sum()),
        int((~is_positive).sum()),
    )


def _draw_rates(counts: ThresholdCounts, chosen: float) -> str:
    frame = Frame(share_axis("threshold"), share_axis("share"))
    measured = [_measure(counts, i) for i in range(len(counts.thresholds))]
    marks = [
        line(frame, list(zip(counts.thresholds.tolist(), values, strict=True)), series)
        for series, values in enumerate(zip(*measured, strict=True))
    ]
    return figure(
        frame,
        [rule(frame, (chosen, 0), (chosen, 1)), *marks],
        "Precision, recall and F1 by threshold",
        f"The dashed vertical line is the threshold in use, {chosen:.4g}.",
        ["precision", "recall", "F1"],
    )


def _draw_costs(counts: ThresholdCounts, costs: LowestCost, chosen: float) -> str:
    total = (-costs.judge(counts)).tolist()
    axis = make_axis("cost of all errors", total, start=0)
    frame = Frame(share_axis("threshold"), axis)
    best = int(np.argmin(total))
    return figure(
        frame,
        [
            rule(frame, (chosen, axis.low), (chosen, axis.high)),
            line(frame, list(zip(counts.thresholds.tolist(), total, strict=True))),
        ],
        "Cost of the errors by threshold",
        f"A missed row costs {costs.false_negative:g} and a false alarm "
        f"{costs.false_positive:g}. These rows cost least, {total[best]:.4g}, at "
        f"{counts.thresholds[best]:.3g}; the dashed vertical line is the threshold in use.",
    )
