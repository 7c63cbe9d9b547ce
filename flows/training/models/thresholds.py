"""The threshold that decides between two classes: a given number, or the best by a criterion.

The second class is predicted if its probability is above the threshold. At equality, the first
class is predicted.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier

from training.data.schema import Schema
from training.errors import SearchError
from training.models.evaluation import BINARY_THRESHOLD

ALLOWED = (
    "a number above 0 and below 1, f1, youden, or cost:FN:FP with the costs of a false negative "
    "and of a false positive, such as cost:5:1"
)


@dataclass(frozen=True, slots=True, eq=False)
class ThresholdCounts:
    """Right and wrong decisions at every threshold that decides differently from its neighbours.

    Parameters
    ----------
    thresholds : ndarray of float64, shape (n_thresholds,)
        Ascending, [0, 1].
    true_positives, false_positives : ndarray of int64, shape (n_thresholds,)
        Numbers of rows of the second and of the first class with a probability above the threshold.
    n_positives, n_negatives : int
        Numbers of rows of the second and of the first class.
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    n_positives: int
    n_negatives: int

    @property
    def false_negatives(self) -> NDArray[np.int64]:
        """Rows of the second class predicted as the first, int64, shape (n_thresholds,)."""
        return np.asarray(self.n_positives - self.true_positives)


@dataclass(frozen=True, slots=True)
class FixedThreshold:
    """A threshold that the user gives, (0, 1)."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True, slots=True)
class BestF1:
    """The threshold with the largest F1 of the second class."""

    def __str__(self) -> str:
        return "f1"

    def judge(self, counts: ThresholdCounts) -> NDArray[np.float64]:
        """Return F1 at each threshold, [0, 1], float64, shape (n_thresholds,)."""
        twice = 2 * counts.true_positives
        wrong = counts.false_positives + counts.false_negatives
        return np.asarray(twice / (twice + wrong))


@dataclass(frozen=True, slots=True)
class BestYouden:
    """The threshold with the largest Youden's index: true minus false positive rate."""

    def __str__(self) -> str:
        return "youden"

    def judge(self, counts: ThresholdCounts) -> NDArray[np.float64]:
        """Return the index at each threshold, float64, shape (n_thresholds,).

        It is multiplied by n_positives * n_negatives, so that equal indices are equal numbers.
        """
        return np.asarray(
            counts.true_positives * counts.n_negatives
            - counts.false_positives * counts.n_positives,
            dtype=np.float64,
        )


@dataclass(frozen=True, slots=True)
class LowestCost:
    """The threshold whose errors cost the least.

    Parameters
    ----------
    false_negative, false_positive : float
        Cost of one such row, above 0 and finite, in any unit.
    """

    false_negative: float
    false_positive: float

    def __str__(self) -> str:
        return f"cost:{self.false_negative:g}:{self.false_positive:g}"

    def judge(self, counts: ThresholdCounts) -> NDArray[np.float64]:
        """Return the negative cost of the errors, float64, shape (n_thresholds,)."""
        return np.asarray(
            -self.false_negative * counts.false_negatives
            - self.false_positive * counts.false_positives
        )


Criterion = BestF1 | BestYouden | LowestCost
ThresholdRule = FixedThreshold | Criterion
EVEN = FixedThreshold(BINARY_THRESHOLD)


def parse_threshold(text: str) -> ThresholdRule:
    """Parse the value of --threshold.

    Parameters
    ----------
    text : str
        A number in (0, 1), "f1", "youden" or "cost:FN:FP".

    Returns
    -------
    FixedThreshold, BestF1, BestYouden or LowestCost
        The rule.

    Raises
    ------
    SearchError
        If the text is none of these.
    """
    if text == "f1":
        return BestF1()
    if text == "youden":
        return BestYouden()
    name, *numbers = text.split(":")
    try:
        if name == "cost":
            return _make_cost(*map(float, numbers))
        value = float(text)
    except (TypeError, ValueError):
        raise SearchError(f"--threshold is {text!r}; it has to be {ALLOWED}") from None
    if not 0 < value < 1:
        raise SearchError(f"--threshold is {text!r}; it has to be {ALLOWED}")
    return FixedThreshold(value)


def _make_cost(false_negative: float, false_positive: float) -> LowestCost:
    for cost in (false_negative, false_positive):
        if not 0 < cost < math.inf:
            raise ValueError("a cost is above 0 and finite")
    return LowestCost(false_negative, false_positive)


def check_classes(rule: ThresholdRule, schema: Schema) -> None:
    """Raise SearchError if the rule is not the default, but there are more than two classes."""
    if rule != EVEN and not schema.is_binary:
        raise SearchError(
            f"--threshold is {rule}, but there are {len(schema.class_labels)} classes; a threshold "
            f"decides between two only, so leave it at {EVEN}"
        )


def choose_threshold(
    criterion: Criterion,
    is_positive: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
) -> float:
    """Choose the best threshold by a criterion.

    The threshold is in the middle between two neighbouring probabilities, so that no rounding of a
    probability crosses it. Ties go to the threshold nearest to 0.5, then to the lower one.

    Parameters
    ----------
    criterion : Criterion
        Its value is maximised.
    is_positive : ndarray of bool, shape (n_rows,)
        Whether a row is of the second class; both classes occur.
    probabilities : ndarray of float64, shape (n_rows,)
        Probability of the second class, [0, 1], by a model that has not seen the row.

    Returns
    -------
    float
        Threshold, [0, 1]. It is 0 or 1 only if a probability is.
    """
    counts = count_by_threshold(is_positive, probabilities)
    worth = criterion.judge(counts)
    best = counts.thresholds[worth == worth.max()]
    return float(best[np.abs(best - BINARY_THRESHOLD).argmin()])


def count_by_threshold(
    is_positive: NDArray[np.bool_], probabilities: NDArray[np.float64]
) -> ThresholdCounts:
    """Count right and wrong decisions at each threshold.

    Parameters
    ----------
    is_positive, probabilities
        As in `choose_threshold`.

    Returns
    -------
    ThresholdCounts
        One threshold between each two neighbouring probabilities, one below the lowest unless that
        is 0, and one above the highest.
    """
    attained, group = np.unique(probabilities, return_inverse=True)
    n_positives = int(is_positive.sum())
    n_negatives = len(probabilities) - n_positives
    # Rows up to each attained probability; the threshold below the first is added as a 0.
    positives = np.bincount(group, weights=is_positive).cumsum().astype(np.int64)
    rows = np.bincount(group).cumsum()
    true_positives = n_positives - np.concatenate([[0], positives])
    false_positives = n_negatives - np.concatenate([[0], rows - positives])
    edges = np.concatenate([[0.0], attained, [1.0]])
    # If 0 is attained, no threshold is below it.
    kept = slice(1 if attained[0] == 0 else 0, None)
    return ThresholdCounts(
        _between(edges[:-1], edges[1:])[kept],
        true_positives[kept],
        false_positives[kept],
        n_positives,
        n_negatives,
    )


def _between(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the middle; return the lower end if rounding would make the middle the upper end."""
    middle = low + (high - low) / 2
    return np.where(middle < high, middle, low)


def apply_threshold(
    model: BaseEstimator, threshold: float, *, X: Any, labels: Any
) -> BaseEstimator:
    """Return a classifier whose `predict` decides by the threshold as the server does.

    scikit-learn predicts the second class at its threshold too, the server only above it. So
    scikit-learn's threshold is the next larger double.

    Parameters
    ----------
    model : estimator
        Fitted classifier of two classes.
    threshold : float
        Threshold, [0, 1].
    X : DataFrame or csr_matrix, shape (n_rows, n_features)
        Rows with both classes. scikit-learn asks for them, but learns nothing from them.
    labels : ndarray of int64 or str, shape (n_rows,)
        Their labels.

    Returns
    -------
    FixedThresholdClassifier
        A classifier with the model in it.
    """
    return FixedThresholdClassifier(
        FrozenEstimator(model),
        threshold=float(np.nextafter(threshold, math.inf)),
        pos_label=model.classes_[1],
        response_method="predict_proba",
    ).fit(X, labels)
