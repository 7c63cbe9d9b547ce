"""Class labels: the user writes them, classifiers learn codes.

A label's code is its position in the schema. So the schema decides the order of the classes, where
scikit-learn would sort them, and weights by label become weights by code.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression

from training.errors import SearchError
from training.text import quote_list

CLASS_WEIGHT = "class_weight"
BALANCED = "balanced"

Labels = Sequence[int] | Sequence[str]


def name_classes(model: BaseEstimator, labels: Labels) -> BaseEstimator:
    """Let a classifier that learned codes answer with labels.

    Parameters
    ----------
    model : Pipeline, VotingClassifier or CalibratedClassifierCV
        Fitted on codes; it is changed in place.
    labels : sequence of int or str
        Labels in the order of their codes.

    Returns
    -------
    Pipeline, VotingClassifier or CalibratedClassifierCV
        The same model. Its `classes_` are the labels in their order, sorted or not.
    """
    if isinstance(model, CalibratedClassifierCV):
        # The pipeline below it and its maps go on with codes.
        model.classes_ = np.asarray(labels)
        return model
    if isinstance(model, VotingClassifier):
        # So do its pipelines.
        model.classes_ = model.le_.classes_ = np.asarray(labels)
        return model
    classifier = model.steps[-1][1]
    if isinstance(classifier, LogisticRegression):
        classifier.classes_ = np.asarray(labels)
    else:
        # LightGBM answers with the labels of its encoder, and shows a copy of them.
        classifier._le.classes_ = classifier._classes = np.asarray(labels)
    return model


def check_class_weight(place: str, value: object, labels: Labels) -> None:
    """Check a value of class_weight in a grid.

    Parameters
    ----------
    place : str
        Where the value stands, for the message.
    value : object
        The value: None, "balanced", or a mapping from labels to weights.
    labels : sequence of int or str
        The labels of the table.

    Raises
    ------
    SearchError
        If it is none of these, names another label, or has a weight that is not above 0 and finite.
    """
    if value is None or value == BALANCED:
        return
    if not isinstance(value, Mapping):
        raise SearchError(
            f'{place} is {value!r}; it has to be "none", "balanced" or weights by label, such as '
            f"{_show_example(labels)}"
        )
    known = {str(label) for label in labels}
    for name, weight in value.items():
        if str(name) not in known:
            raise SearchError(
                f"{place} weighs {str(name)!r}, which is not a label; the labels are "
                f"{quote_list(labels)}"
            )
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 < weight or not isfinite(weight):
            raise SearchError(
                f"{place} weighs {str(name)!r} with {weight!r}; a weight is a number above 0"
            )


def _show_example(labels: Labels) -> str:
    return f'{{ "{labels[0]}" = 1.0, "{labels[-1]}" = 5.0 }}'


def weigh_codes(value: object, labels: Labels) -> object:
    """Return a checked value of class_weight with codes in place of labels.

    Parameters
    ----------
    value : object
        As in `check_class_weight`.
    labels : sequence of int or str
        Labels in the order of their codes.

    Returns
    -------
    object
        A dict from code to weight; 1 for a label that the value leaves out. Other values as they
        are.
    """
    if not isinstance(value, Mapping):
        return value
    by_name = {str(name): weight for name, weight in value.items()}
    return {code: by_name.get(str(label), 1.0) for code, label in enumerate(labels)}


def encode_params(params: Mapping[str, Any], labels: Labels) -> dict[str, Any]:
    """Return a classifier's parameters with the weights of classes by code."""
    return {
        name: weigh_codes(value, labels) if name == CLASS_WEIGHT else value
        for name, value in params.items()
    }
