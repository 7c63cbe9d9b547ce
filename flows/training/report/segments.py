"""How the scored twin does on each value of the column of --segment."""

import numpy as np

from training.models.champion_policy import find_segment
from training.models.evaluation import decide
from training.report.drawing import interval_bar, make_axis
from training.report.markup import count, name, number, paragraph, table
from training.report.material import Material
from training.report.profile import axis_value

MIN_ROWS, MAX_SEGMENTS = 20, 30


def draw_segments(material: Material) -> str:
    """Return scores by segment, the worst first; words if no column is named."""
    segment = material.trained.plan.run.parameters.segment
    if not segment:
        return paragraph(
            "No segments were asked for. <code>--segment COLUMN</code> scores each value of a "
            "categorical or boolean column."
        )
    position, feature = find_segment(segment, material.schema)
    cells = np.asarray(material.holdout.X[:, position], dtype=np.float64)
    y, p = material.holdout.y, material.probabilities
    right = decide(p, material.trained.twin.threshold) == y
    loss = -np.log(np.clip(p[np.arange(len(y)), y], 1e-15, 1))
    found = []
    for value in np.unique(cells):
        rows = np.isnan(cells) if np.isnan(value) else cells == value
        label = "missing" if np.isnan(value) else axis_value(feature, float(value))
        found.append(
            (
                label,
                int(rows.sum()),
                float(right[rows].mean()),
                float(loss[rows].mean()),
            )
        )
    enough = sorted(
        (one for one in found if one[1] >= MIN_ROWS), key=lambda one: one[2]
    )
    axis = make_axis("accuracy", (0.0, 1.0))
    lines = [
        [
            name(label),
            count(n),
            interval_bar(axis, *_wilson(share, n), right.mean()),
            number(share, 3),
            number(mean, 4),
        ]
        for label, n, share, mean in enough[:MAX_SEGMENTS]
    ]
    n_small, n_rest = len(found) - len(enough), len(enough) - len(lines)
    told = f"{n_small} values have fewer than {MIN_ROWS} rows and are left out."
    told += f" {n_rest} better ones are left out too." if n_rest > 0 else ""
    if not lines:
        return paragraph(f"{name(segment)}: {told}")
    return paragraph(
        f"Scores by {name(segment)}, worst first. Bars are 95 % intervals (Wilson); the vertical "
        f"line is the accuracy on all rows, {number(float(right.mean()), 3)}. {told}"
    ) + table(
        "Scores of each segment on the hold-out",
        ["Value", "Rows", "95 % interval", "Accuracy", "Log loss"],
        lines,
    )


def _wilson(share: float, n: int) -> tuple[float, float, float]:
    """Return Wilson's 95 % interval with the share in its middle: low, share, high."""
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(middle - half), share, float(middle + half)
