"""How well the scored twin ranks rows, and whether its probabilities come true."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from prediction_common.stability import MAX_CALIBRATION_ERROR
from training.models.calibration import NO_CALIBRATION
from training.models.evaluation import PREFIX
from training.report.drawing import (
    Frame,
    columns,
    dots,
    figure,
    gallery,
    line,
    make_axis,
    rule,
    share_axis,
)
from training.report.markup import (
    count,
    fold,
    name,
    number,
    paragraph,
    percent,
    plural,
    table,
)
from training.report.material import Material

MAX_CURVES, MAX_ROWS = 4, 30
BIN_WIDTH = 0.1


def draw_ranking(material: Material) -> str:
    """Return the ROC and precision-recall curves, and the classes in figures."""
    y, probabilities, labels = (
        material.holdout.y,
        material.probabilities,
        material.labels,
    )
    codes = [1] if len(labels) == 2 else [*range(len(labels))]
    scores = {code: _score(y == code, probabilities[:, code]) for code in codes}
    worst = sorted(codes, key=lambda code: scores[code][0])
    drawn = worst[: MAX_CURVES - 1] + worst[-1:] if len(worst) > MAX_CURVES else worst
    told = ""
    if len(drawn) < len(codes):
        told = paragraph(
            f"Of {len(codes)} classes, each against the rest, the {MAX_CURVES - 1} that are told "
            "apart least and the one that is told apart best are drawn."
        )
    figures = [
        _draw_roc(material, drawn, scores),
        _draw_precision_recall(material, drawn, scores),
    ]
    return told + gallery(figures) + _list_classes(material, worst, scores)


def _score(is_class: NDArray[np.bool_], p: NDArray[np.float64]) -> tuple[float, float]:
    if is_class.all() or not is_class.any():
        return float("nan"), float("nan")
    return float(roc_auc_score(is_class, p)), float(
        average_precision_score(is_class, p)
    )


def _draw_roc(
    material: Material, codes: list[int], scores: dict[int, tuple[float, float]]
) -> str:
    frame = Frame(share_axis("false positive rate"), share_axis("true positive rate"))
    marks = [rule(frame, (0, 0), (1, 1))]
    for series, code in enumerate(codes):
        is_class = material.holdout.y == code
        fpr, tpr, _ = roc_curve(is_class, material.probabilities[:, code])
        marks.append(line(frame, list(zip(fpr, tpr, strict=True)), series))
    told = ", ".join(f"{_cut(material, c)}: area {scores[c][0]:.4g}" for c in codes)
    return figure(
        frame,
        marks,
        "ROC on the hold-out",
        f"{told}. A model that guesses follows the dashed diagonal, with area 0.5.",
        [_cut(material, code) for code in codes] if len(codes) > 1 else (),
    )


def _draw_precision_recall(
    material: Material, codes: list[int], scores: dict[int, tuple[float, float]]
) -> str:
    frame = Frame(share_axis("recall"), share_axis("precision"))
    marks = []
    for series, code in enumerate(codes):
        is_class = material.holdout.y == code
        precision, recall, _ = precision_recall_curve(
            is_class, material.probabilities[:, code]
        )
        marks.append(line(frame, list(zip(recall, precision, strict=True)), series))
    told = ", ".join(
        f"{_cut(material, c)}: average precision {scores[c][1]:.4g}" for c in codes
    )
    share = float((material.holdout.y == codes[0]).mean())
    return figure(
        frame,
        marks,
        "Precision and recall on the hold-out",
        f"{told}. A model that guesses has the class's share: {share:.3g} for the first.",
        [_cut(material, code) for code in codes] if len(codes) > 1 else (),
    )


def _cut(material: Material, code: int) -> str:
    label = material.labels[code]
    return label if len(label) <= 30 else f"{label[:29]}…"


def _list_classes(
    material: Material, worst: list[int], scores: dict[int, tuple[float, float]]
) -> str:
    n_rows = np.bincount(material.holdout.y, minlength=len(material.labels))
    rows = [
        [name(material.labels[c]), count(int(n_rows[c])), *map(number, scores[c])]
        for c in worst[:MAX_ROWS]
    ]
    rest = f", the {MAX_ROWS} lowest of {len(worst)}" if len(worst) > MAX_ROWS else ""
    shown = table(
        f"Each class against the rest, on the hold-out{rest}",
        ["Class", "Rows", "ROC AUC", "Average precision"],
        rows,
    )
    return shown if len(worst) == 1 else fold("The classes in figures", shown)


def draw_reliability(material: Material) -> str:
    """Return the reliability curve, the numbers of rows below it, and the advice to calibrate."""
    bins, labels = material.trained.reliability, material.labels
    error = material.trained.metrics[f"{PREFIX}expected_calibration_error"]
    if len(labels) == 2:
        x, y = (
            f"probability of class {_cut(material, 1)}",
            f"share of class {_cut(material, 1)}",
        )
    else:
        x, y = "probability of the answer", "share of right answers"
    points = [(one.confidence, one.frequency) for one in bins]
    frame = Frame(share_axis(x), share_axis(y))
    values = "; ".join(
        f"{one.confidence:.2f} said, {one.frequency:.2f} came true, {plural(one.n_rows, 'row')}"
        for one in bins
    )
    curve = figure(
        frame,
        [rule(frame, (0, 0), (1, 1)), line(frame, points), dots(frame, points)],
        "Reliability on the hold-out",
        "Probabilities that come true follow the dashed diagonal.",
        unseen=f"{values}.",
    )
    return _tell_error(material, error) + gallery([curve, _draw_histogram(material, x)])


def _draw_histogram(material: Material, title: str) -> str:
    p = material.probabilities
    confidence = p[:, 1] if len(material.labels) == 2 else p.max(axis=1)
    edges = np.linspace(0, 1, 21)
    counts = np.histogram(confidence, edges)[0]
    frame = Frame(share_axis(title), make_axis("rows", counts.tolist(), start=0))
    bars = list(zip(edges[:-1], edges[1:], counts.tolist(), strict=True))
    extreme = float(((confidence < BIN_WIDTH) | (confidence > 1 - BIN_WIDTH)).mean())
    return figure(
        frame,
        [columns(frame, bars)],
        "How often each probability is answered",
        f"{percent(extreme)} of the rows have a probability below 0.1 or above 0.9.",
    )


def _tell_error(material: Material, error: float) -> str:
    told = paragraph(
        f"Probabilities miss what comes true by {number(error, 3)} on average (expected "
        "calibration error)."
    )
    calibration = material.trained.plan.post_fit.calibration
    if error > MAX_CALIBRATION_ERROR and calibration == NO_CALIBRATION:
        told += paragraph(
            f"That is more than {MAX_CALIBRATION_ERROR:g}: do not read the probabilities as "
            "frequencies. <code>--calibration sigmoid</code> usually puts them right.",
            "warn",
        )
    return told
