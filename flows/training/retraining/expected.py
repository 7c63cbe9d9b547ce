"""The metrics that calibrated probabilities lead one to expect, without labels."""

import math
from collections.abc import Callable, Mapping

from training.errors import SignalError
from training.retraining.served import EXPECTED, SCORE_SUMS, Served, by_first


def measure_expected_accuracy(served: Served) -> tuple[float, float]:
    """Return the accuracy that calibrated probabilities lead one to expect, and the rows.

    Parameters
    ----------
    served : Served
        Sums of all servers.

    Returns
    -------
    accuracy, rows : float
        Share of the diagonal, NaN without rows, and the sum of all cells.

    Raises
    ------
    SignalError
        If the servers export no expected outcomes.
    """
    if not served.expected:
        raise SignalError(
            f"--metrics {served.url}: there is no {EXPECTED}, or its probabilities are not "
            "calibrated well enough to tell; give --outcomes"
        )
    rows = math.fsum(served.expected.values())
    right = math.fsum(v for (a, b), v in served.expected.items() if a == b)
    return (right / rows if rows else math.nan), rows


def measure_expected_roc_auc(served: Served) -> tuple[float, float]:
    """Return the ROC AUC that calibrated probabilities lead one to expect, and the rows.

    Parameters
    ----------
    served : Served
        Sums of all servers.

    Returns
    -------
    roc_auc, rows : float
        Share of the pairs of two classes in the right order, NaN without rows, and the rows. The
        pairs of a bin are ordered as if its scores were uniform, with the variance that they have.

    Raises
    ------
    SignalError
        If the servers export no sums of the scores, or a class is never expected.
    """
    if not served.scores:
        raise SignalError(
            f"--metrics {served.url}: there is no {SCORE_SUMS[0]}, so the model has more than two "
            "classes or its server is an older one, or its probabilities are not calibrated well "
            "enough to tell; give --outcomes"
        )
    by_bin = by_first(served.scores)
    bins = [
        [by_bin[name].get(total, 0.0) for total in SCORE_SUMS]
        for name in sorted(by_bin, key=float)
    ]
    rows = math.fsum(own[0] for own in bins)
    below = disorder = 0.0
    for n_rows, positive, squares in bins:
        negative = n_rows - positive
        spread = n_rows * math.sqrt(max(n_rows * squares - positive**2, 0.0) / 12)
        disorder += negative * below + max(negative * positive / 2 - spread, 0.0)
        below += positive
    n_pairs = below * (rows - below)
    if rows and not n_pairs:
        raise SignalError(
            f"--metrics {served.url}: one of the two classes is never expected, so there is no "
            "expected roc_auc; give --outcomes"
        )
    return (1 - disorder / n_pairs if rows else math.nan), rows


EXPECTED_METRICS: Mapping[str, Callable[[Served], tuple[float, float]]] = {
    "accuracy": measure_expected_accuracy,
    "roc_auc": measure_expected_roc_auc,
}
"""Metrics that need no outcomes, by their names."""
