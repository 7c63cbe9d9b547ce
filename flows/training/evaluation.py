"""How good probabilities are on rows that training never saw."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    roc_auc_score,
)

PREFIX = "holdout_"
BINARY_THRESHOLD = 0.5


def decide(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the predicted class of each row as the server decides it.

    Parameters
    ----------
    probabilities : ndarray of float64, shape (n_rows, n_classes)
        Of two classes, the second is predicted above the threshold; of more, the most probable.
    """
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] > BINARY_THRESHOLD).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1), dtype=np.int64)


def evaluate(
    y: NDArray[np.int64], probabilities: NDArray[np.float64], class_codes: Sequence[int]
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

    Returns
    -------
    dict of str to float
        Accuracy, ROC AUC and average precision (for more than two classes: one against the rest,
        unweighted mean), log loss, and Brier score as scikit-learn defines it.
    """
    is_binary = len(class_codes) == 2
    scores = probabilities[:, 1] if is_binary else probabilities
    many = {} if is_binary else {"multi_class": "ovr"}
    metrics = {
        "accuracy": accuracy_score(y, decide(probabilities)),
        "roc_auc": roc_auc_score(y, scores, **many),
        "average_precision": average_precision_score(y, scores),
        "log_loss": log_loss(y, probabilities, labels=list(class_codes)),
        "brier_score": brier_score_loss(y, scores, labels=list(class_codes)),
    }
    return {PREFIX + name: float(value) for name, value in metrics.items()}
