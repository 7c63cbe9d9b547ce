"""A synthetic stream: a table, the same table after its world has shifted, and a server's page."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

N_BINS = 10


def make_table(n_rows: int, *, shift: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Return rows of two features and a label.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    shift : float
        How far the features and the border between the classes move together.
    seed : int
        Seed of the rows.

    Returns
    -------
    pandas.DataFrame
        Columns a, b (float64) and label ("no" or "yes").
    """
    random = np.random.default_rng(seed)
    a, b = random.normal(shift, 1, n_rows), random.normal(0, 1, n_rows)
    score = 2 * (a - shift) * (1 if shift == 0 else -1) + b
    label = np.where(random.logistic(0, 1, n_rows) < score, "yes", "no")
    return pd.DataFrame({"a": a, "b": b, "label": label})


def count_bins(
    learned: pd.DataFrame, asked: pd.DataFrame
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    """Return counts of asked rows and shares of learned rows, by feature and quantile bin."""
    counts: dict[tuple[str, str], float] = {}
    shares: dict[tuple[str, str], float] = {}
    for name in ("a", "b"):
        edges = np.quantile(learned[name], np.linspace(0, 1, N_BINS + 1)[1:-1])
        for cells, table, total in (
            (counts, asked, 1),
            (shares, learned, len(learned)),
        ):
            places = np.searchsorted(edges, table[name])
            for place, n in enumerate(np.bincount(places, minlength=N_BINS)):
                cells[name, str(place)] = float(n / total)
    return counts, shares


def write_page(
    version: str,
    counts: Mapping[tuple[str, str], float],
    shares: Mapping[tuple[str, str], float],
    *,
    model: str = "wine",
    expected: Mapping[tuple[str, str], float] | None = None,
) -> str:
    """Return a page as a server of a version writes it."""
    lines = [
        "# TYPE prediction_model_info gauge",
        f'prediction_model_info{{registered_model="{model}",model_version="{version}",'
        'family="lightgbm",run_id="r"} 1.0',
    ]
    for name, labels, cells in (
        ("prediction_feature_bin_total", ("feature", "bin"), counts),
        ("prediction_feature_reference_ratio", ("feature", "bin"), shares),
        (
            "prediction_expected_outcomes_total",
            ("predicted", "actual"),
            expected or {},
        ),
    ):
        lines += [
            f'{name}{{{labels[0]}="{one}",{labels[1]}="{two}"}} {value!r}'
            for (one, two), value in cells.items()
        ]
    return "\n".join([*lines, ""])


def sum_scores(
    rows: float,
    scores: float,
    squares: float,
    edge: str = "+Inf",
    version: str = "3",
) -> str:
    """Return what a page says of a fine bin of the score: its rows, scores and their squares."""
    labels = f'bin="{edge}",model_version="{version}"'
    names = {"rows": rows, "probability": scores, "probability_squares": squares}
    return "".join(
        f"prediction_score_{name}_total{{{labels}}} {value}\n"
        for name, value in names.items()
    )
