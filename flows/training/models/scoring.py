"""The scorer of a run, checked before any search starts."""

import warnings

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.metrics import get_scorer, get_scorer_names

from training.data.schema import Schema
from training.errors import SearchError


def resolve_scoring(scoring: str, schema: Schema) -> str:
    """Return the scorer for the number of classes, and check that it works.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer; "roc_auc" means "roc_auc_ovr" for more than two classes.
    schema : Schema
        Columns and classes of the rows.

    Returns
    -------
    str
        Name of a scikit-learn scorer.

    Raises
    ------
    SearchError
        If there is no such scorer, or it cannot score this many classes.
    """
    if scoring == "roc_auc" and not schema.is_binary:
        scoring = "roc_auc_ovr"
    if scoring not in get_scorer_names():
        raise SearchError(
            f"--scoring {scoring!r} is not a scorer of scikit-learn; classifiers take, for "
            "example, roc_auc, accuracy, balanced_accuracy, average_precision, neg_log_loss, "
            "f1_macro"
        )
    n_classes = len(schema.class_labels)
    try:
        score = _score_dummy(scoring, n_classes)
    except (ValueError, AttributeError, TypeError) as error:
        raise SearchError(
            f"--scoring {scoring!r} cannot score {n_classes} classes: {error}"
        ) from None
    if not np.isfinite(score):
        raise SearchError(
            f"--scoring {scoring!r} cannot score {n_classes} classes: its score is {score}"
        )
    return scoring


def _score_dummy(scoring: str, n_classes: int) -> float:
    """Score a classifier that always predicts the class shares, on two rows of each class."""
    y = np.tile(np.arange(n_classes), 2)
    X = np.zeros((len(y), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier = DummyClassifier(strategy="prior").fit(X, y)
        return float(get_scorer(scoring)(classifier, X, y))
