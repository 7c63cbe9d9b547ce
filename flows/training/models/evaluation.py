"""How good probabilities are on rows that training never saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

PREFIX = "holdout_"
BINARY_THRESHOLD = 0.5
N_BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows of about the same confidence.

    Parameters
    ----------
    confidence : float
        Mean of what was predicted: of two classes the probability of the second, of more that of
        the most probable. [0, 1].
    frequency : float
        Share of the rows that came out so, [0, 1]: that are of the second class, or of the most
        probable.
    n_rows : int
        Rows, 1 or more.
    """

    confidence: float
    frequency: float
    n_rows: int


def decide(probabilities: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """Return the predicted class of each row as the server decides it.

    Parameters
    ----------
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Of two classes, the second is predicted above the threshold; of more, the most probable.
    threshold : float
        Threshold between two classes, [0, 1].
    """
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] > threshold).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def evaluate(
    y: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    class_codes: Sequence[int],
    threshold: float = BINARY_THRESHOLD,
) -> dict[str, float]:
    """Return the metrics of held-out rows by name.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
        True codes; each class occurs.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Predicted probabilities, [0, 1].
    class_codes : sequence of int
        Codes in the order of the columns.
    threshold : float
        Threshold between two classes, [0, 1].

    Returns
    -------
    dict of str to float
        Accuracy, ROC AUC and average precision (for more than two classes: one against the rest,
        unweighted mean), log loss, Brier score as scikit-learn defines it, and expected calibration
        error. For two classes also precision, recall and F1 of the second at the threshold;
        precision is 0 where it is never predicted.
    """
    is_binary = len(class_codes) == 2
    predicted = decide(probabilities, threshold)
    scores = probabilities[:, 1] if is_binary else probabilities
    many = {} if is_binary else {"multi_class": "ovr"}
    metrics = {
        "accuracy": accuracy_score(y, predicted),
        "roc_auc": roc_auc_score(y, scores, **many),
        "average_precision": average_precision_score(y, scores),
        "log_loss": log_loss(y, probabilities, labels=list(class_codes)),
        "brier_score": brier_score_loss(y, scores, labels=list(class_codes)),
        "expected_calibration_error": expected_calibration_error(
            measure_reliability(y, probabilities)
        ),
    }
    if is_binary:
        metrics |= _score_decisions(y, predicted)
    return {PREFIX + name: float(value) for name, value in metrics.items()}


def _score_decisions(
    y: NDArray[np.int64], predicted: NDArray[np.int64]
) -> dict[str, float]:
    scorers = {
        "precision": precision_score,
        "recall": recall_score,
        "f1": f1_score,
    }
    return {
        name: score(y, predicted, zero_division=0) for name, score in scorers.items()
    }


def measure_reliability(
    y: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[Bin, ...]:
    """Compare what was predicted with what came out, confidence by confidence.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
        True codes.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Predicted probabilities, [0, 1].

    Returns
    -------
    tuple of Bin
        Bins of equal width that hold a row, ascending. A confidence on an edge is in the lower bin,
        as in scikit-learn's `calibration_curve`.
    """
    if probabilities.shape[1] == 2:
        confidence, came_out = probabilities[:, 1], y == 1
    else:
        confidence = probabilities.max(axis=1)
        came_out = probabilities.argmax(axis=1) == y
    edges = np.linspace(0, 1, N_BINS + 1)
    numbers = np.searchsorted(edges[1:-1], confidence)
    members = [numbers == number for number in np.unique(numbers)]
    return tuple(
        Bin(
            float(confidence[rows].mean()),
            float(came_out[rows].mean()),
            int(rows.sum()),
        )
        for rows in members
    )


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return how far confidence is from frequency, in the mean over the rows.

    The sum over the bins of n_rows / n * |frequency - confidence|: formula (3) of Guo, Pleiss, Sun
    and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, which is for the most
    probable class. For two classes it is taken of the second, as by Naeini, Cooper and Hauskrecht,
    "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.

    Returns
    -------
    float
        [0, 1]; 0 is best.
    """
    n_rows = sum(group.n_rows for group in bins)
    gaps = (group.n_rows * abs(group.frequency - group.confidence) for group in bins)
    return sum(gaps) / n_rows
