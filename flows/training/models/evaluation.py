"""Measures probabilities and decisions on the hold-out."""

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
# Name of the metric that says how far probabilities can be trusted.
CALIBRATION_ERROR = f"{PREFIX}expected_calibration_error"
BINARY_THRESHOLD = 0.5
N_BINS = 10
# Rounding moves the sum of a row's probabilities away from 1 by less than this.
MAX_EXCESS = 1e-9


@dataclass(frozen=True, slots=True)
class Bin:
    """A point of the reliability curve: rows of about the same confidence.

    For two classes, confidence is the probability of the second class. For more, it is the
    probability of the most probable class.

    Parameters
    ----------
    confidence : float
        Mean confidence of the rows, [0, 1].
    frequency : float
        Share of the rows that are of the class in question, [0, 1].
    n_rows : int
        Number of rows, 1 or more.
    """

    confidence: float
    frequency: float
    n_rows: int


def are_probabilities(values: NDArray[np.float64]) -> bool:
    """Tell whether a model's answers are probabilities; some LightGBM objectives give others.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows, n_classes)
        Answers.

    Returns
    -------
    bool
        True if all are in [0, 1] and each row sums to 1.
    """
    in_range = (values >= 0).all() and (values <= 1).all()
    return bool(in_range and np.abs(values.sum(axis=1) - 1).max() <= MAX_EXCESS)


def decide(probabilities: NDArray[np.float64], threshold: float) -> NDArray[np.int64]:
    """Decide the class of each row as the server does.

    Parameters
    ----------
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Probability of each class, [0, 1].
    threshold : float
        Threshold between two classes, [0, 1]. More classes have none.

    Returns
    -------
    ndarray of int64, shape (n_rows,)
        For two classes 1 above the threshold, else 0; for more the code of the most probable class.
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
    """Compute the metrics of the hold-out.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
        True codes; each class occurs.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Predicted probability of each class, [0, 1].
    class_codes : sequence of int
        Codes in the order of the columns.
    threshold : float
        Threshold between two classes, [0, 1].

    Returns
    -------
    dict of str to float
        Metrics by name: accuracy, ROC AUC, average precision, log loss, Brier score as scikit-learn
        defines it, and expected calibration error. For more than two classes, ROC AUC and average
        precision are unweighted means of one class against the rest. For two classes there are also
        precision, recall and F1 of the second class at the threshold. Precision is 0 if the second
        class is never predicted.
    """
    is_binary = len(class_codes) == 2
    predicted = decide(probabilities, threshold)
    ranking = probabilities[:, 1] if is_binary else probabilities
    many = {} if is_binary else {"multi_class": "ovr"}
    metrics = {
        "accuracy": accuracy_score(y, predicted),
        "roc_auc": roc_auc_score(y, ranking, **many),
        "average_precision": average_precision_score(y, ranking),
        "log_loss": log_loss(y, probabilities, labels=list(class_codes)),
        "brier_score": brier_score_loss(y, ranking, labels=list(class_codes)),
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
    """Compare confidence with frequency.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
        True codes.
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Predicted probability of each class, [0, 1].

    Returns
    -------
    tuple of Bin
        The bins that hold a row, ascending; all have the same width. A confidence on an edge
        belongs to the lower bin, as in scikit-learn's `calibration_curve`.
    """
    if probabilities.shape[1] == 2:
        confidence, occurred = probabilities[:, 1], y == 1
    else:
        confidence = probabilities.max(axis=1)
        occurred = probabilities.argmax(axis=1) == y
    edges = np.linspace(0, 1, N_BINS + 1)
    numbers = np.searchsorted(edges[1:-1], confidence)
    members = [numbers == number for number in np.unique(numbers)]
    return tuple(
        Bin(
            float(confidence[rows].mean()),
            float(occurred[rows].mean()),
            int(rows.sum()),
        )
        for rows in members
    )


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance between confidence and frequency over the rows.

    It is the sum over the bins of n_rows / n * |frequency - confidence|. For the most probable
    class this is formula (3) of Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural
    Networks", ICML 2017. For the second of two classes it follows Naeini, Cooper and Hauskrecht,
    "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.

    Parameters
    ----------
    bins : sequence of Bin
        Points of the reliability curve.

    Returns
    -------
    float
        Error, [0, 1]; 0 is best.
    """
    n_rows = sum(group.n_rows for group in bins)
    gaps = (group.n_rows * abs(group.frequency - group.confidence) for group in bins)
    return sum(gaps) / n_rows
