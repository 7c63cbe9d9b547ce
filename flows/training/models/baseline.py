"""Compares a model with the class shares: the answer of somebody who never looks at a row."""

import numpy as np
from numpy.typing import NDArray


def find_weakness(
    y_train: NDArray[np.int64],
    y_holdout: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    roc_auc: float,
) -> str:
    """Say why a model is no better than the class shares.

    Parameters
    ----------
    y_train, y_holdout : ndarray of int64, shape (n_rows,)
        Codes of the rows that it learned from, and of the hold-out; each class occurs in both.
    probabilities : ndarray of float64, shape (n_holdout, n_classes)
        Its probabilities on the hold-out.
    roc_auc : float
        Its ROC AUC on the hold-out, [0, 1].

    Returns
    -------
    str
        The reason and a remedy; empty if the model is better. It is no better if its ROC AUC is not
        a standard error above 0.5, or its log loss is not below that of the shares in the training
        rows. For the log loss, a probability is at least 1 / n_holdout, because so few rows cannot
        tell it from 0: isotonic calibration often says 0, and one such row would decide alone.
    """
    error, of_shares = chance_error(y_holdout), shares_log_loss(y_train, y_holdout)
    log_loss = bounded_log_loss(y_holdout, probabilities)
    if not roc_auc > 0.5 + error:
        return (
            f"it ranks rows no better than chance: ROC AUC {roc_auc:.3g} on the hold-out, where "
            f"chance has 0.5 with a standard error of {error:.2g}; bring more rows, or columns "
            "that tell more"
        )
    if not log_loss < of_shares:
        return (
            f"its probabilities are no better than the class shares: log loss {log_loss:.3g} on "
            f"the hold-out, where the shares have {of_shares:.3g}; search with --scoring "
            'neg_log_loss, without class_weight = "balanced", or add --calibration sigmoid'
        )
    return ""


def shares_log_loss(y_train: NDArray[np.int64], y_holdout: NDArray[np.int64]) -> float:
    """Return the log loss of the training rows' class shares on the hold-out, above 0."""
    shares = np.bincount(y_train) / len(y_train)
    return float(-np.log(shares[y_holdout]).mean())


def bounded_log_loss(y: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Return the log loss of probabilities that are raised to 1 / n_rows where they are lower."""
    of_label = probabilities[np.arange(len(y)), y]
    return float(-np.log(np.maximum(of_label, 1 / len(y))).mean())


def chance_error(y: NDArray[np.int64]) -> float:
    """Return the standard error of the ROC AUC of a model that ranks rows by chance, above 0.

    It is that of the Mann-Whitney statistic, sqrt((m + n + 1) / (12 m n)) for m rows of a class and
    n others. For more than two classes it is the mean over the classes, which is an upper bound.

    Parameters
    ----------
    y : ndarray of int64, shape (n_rows,)
        Codes; each class occurs.

    Returns
    -------
    float
        Standard error.
    """
    counts = np.bincount(y)
    errors = np.sqrt((len(y) + 1) / (12 * counts * (len(y) - counts)))
    return float(errors.mean())
