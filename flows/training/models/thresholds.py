"""The threshold that decides between two classes: given, or chosen by what decisions are worth.

The second class is predicted where its probability is above the threshold, not where it is equal.
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
class Decisions:
    """What comes of the rows at each threshold that decides otherwise than the one before.

    Parameters
    ----------
    thresholds : ndarray of float64, shape (n_thresholds,)
        Ascending, [0, 1].
    true_positives, false_positives : ndarray of int64, shape (n_thresholds,)
        Rows of the second and of the first class whose probability is above the threshold.
    n_positives, n_negatives : int
        Rows of the second and of the first class.
    """

    thresholds: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    n_positives: int
    n_negatives: int

    @property
    def false_negatives(self) -> NDArray[np.int64]:
        """Rows of the second class whose probability is not above the threshold."""
        return np.asarray(self.n_positives - self.true_positives)


@dataclass(frozen=True, slots=True)
class FixedThreshold:
    """A threshold that is given."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:g}"


@dataclass(frozen=True, slots=True)
class BestF1:
    """The threshold with the largest F1 of the second class."""

    def __str__(self) -> str:
        return "f1"

    def judge(self, decisions: Decisions) -> NDArray[np.float64]:
        """Return F1 at each threshold."""
        twice = 2 * decisions.true_positives
        wrong = decisions.false_positives + decisions.false_negatives
        return np.asarray(twice / (twice + wrong))


@dataclass(frozen=True, slots=True)
class BestYouden:
    """The threshold with the largest of Youden's index: true less false positive rate."""

    def __str__(self) -> str:
        return "youden"

    def judge(self, decisions: Decisions) -> NDArray[np.float64]:
        """Return the index at each threshold, times a constant that keeps it whole."""
        return np.asarray(
            decisions.true_positives * decisions.n_negatives
            - decisions.false_positives * decisions.n_positives,
            dtype=np.float64,
        )


@dataclass(frozen=True, slots=True)
class LowestCost:
    """The threshold whose errors cost least.

    Parameters
    ----------
    false_negative, false_positive : float
        Cost of each such row, above 0 and finite.
    """

    false_negative: float
    false_positive: float

    def __str__(self) -> str:
        return f"cost:{self.false_negative:g}:{self.false_positive:g}"

    def judge(self, decisions: Decisions) -> NDArray[np.float64]:
        """Return what the errors at each threshold cost, below 0."""
        return np.asarray(
            -self.false_negative * decisions.false_negatives
            - self.false_positive * decisions.false_positives
        )


Criterion = BestF1 | BestYouden | LowestCost
ThresholdRule = FixedThreshold | Criterion
EVEN = FixedThreshold(BINARY_THRESHOLD)


def parse_threshold(text: str) -> ThresholdRule:
    """Read what --threshold says.

    Raises
    ------
    SearchError
        If it is neither a number in (0, 1) nor a rule.
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
        raise SearchError(f"--threshold is {text}; it has to be {ALLOWED}")
    return FixedThreshold(value)


def _make_cost(false_negative: float, false_positive: float) -> LowestCost:
    for cost in (false_negative, false_positive):
        if not 0 < cost < math.inf:
            raise ValueError("a cost is above 0 and finite")
    return LowestCost(false_negative, false_positive)


def check_classes(rule: ThresholdRule, schema: Schema) -> None:
    """Raise SearchError if there is a threshold to find, but more than two classes."""
    if rule != EVEN and not schema.is_binary:
        raise SearchError(
            f"--threshold is {rule}, but there are {len(schema.class_labels)} classes: only of two "
            f"does a threshold decide, so leave it at {EVEN}"
        )


def choose_threshold(
    criterion: Criterion, is_positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> float:
    """Return the threshold that a criterion likes best.

    It is in the middle between two neighbouring scores, so that no rounding of a score crosses it.
    Of equally good ones it is the nearest to 0.5, and then the lower.

    Parameters
    ----------
    criterion : Criterion
        What is to be largest.
    is_positive : ndarray of bool, shape (n_rows,)
        Whether a row is of the second class; some are, some are not.
    scores : ndarray of float64, shape (n_rows,)
        Probability of the second class, [0, 1], by a model that has not seen the row.

    Returns
    -------
    float
        Threshold, [0, 1]; 0 and 1 are chosen only where scores are as extreme.
    """
    decisions = list_decisions(is_positive, scores)
    worth = criterion.judge(decisions)
    best = decisions.thresholds[worth == worth.max()]
    return float(best[np.abs(best - BINARY_THRESHOLD).argmin()])


def list_decisions(
    is_positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> Decisions:
    """Return what comes of the rows at each threshold; parameters as in `choose_threshold`."""
    attained, group = np.unique(scores, return_inverse=True)
    n_positives = int(is_positive.sum())
    n_negatives = len(scores) - n_positives
    # Up to each attained score, beginning below the first of them.
    positives = np.bincount(group, weights=is_positive).cumsum().astype(np.int64)
    rows = np.bincount(group).cumsum()
    true_positives = n_positives - np.concatenate([[0], positives])
    false_positives = n_negatives - np.concatenate([[0], rows - positives])
    edges = np.concatenate([[0.0], attained, [1.0]])
    # Where 0 is attained, no threshold is below it.
    kept = slice(1 if attained[0] == 0 else 0, None)
    return Decisions(
        _between(edges[:-1], edges[1:])[kept],
        true_positives[kept],
        false_positives[kept],
        n_positives,
        n_negatives,
    )


def _between(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the middle, and the lower end where the middle is rounded to the upper one."""
    middle = low + (high - low) / 2
    return np.where(middle < high, middle, low)


def apply_threshold(
    model: BaseEstimator, threshold: float, *, X: Any, labels: Any
) -> BaseEstimator:
    """Return a classifier whose `predict` decides by the threshold, exactly as the server does.

    scikit-learn's predicts the second class at its threshold too. So it is given the next larger
    number, with which all begins that is above the threshold.

    Parameters
    ----------
    model : estimator
        Fitted classifier of two classes.
    threshold : float
        Threshold, [0, 1].
    X, labels
        Rows with both classes; nothing is learned from them.
    """
    return FixedThresholdClassifier(
        FrozenEstimator(model),
        threshold=float(np.nextafter(threshold, math.inf)),
        pos_label=model.classes_[1],
        response_method="predict_proba",
    ).fit(X, labels)
