"""The labels of all rows, and the weight of each row in each split."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from training.search.design import count_training_rows
from training.search.values import CannotShare, Data, Floats, Split


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the models of all splits learn.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Class labels.
    codes : ndarray of int64, shape (n_rows,)
        Position of each row's label in `classes`.
    weights : ndarray of float64, shape (n_rows, n_splits)
        Weight of each row in each split; 0 where the split does not train on it.
    """

    classes: NDArray[Any]
    codes: NDArray[np.int64]
    weights: Floats


def make_targets(data: Data, splits: list[Split], class_weight: Any) -> Targets:
    """Weigh rows by split, sample weight and class weight.

    Parameters
    ----------
    data : Data
        Labels and sample weights.
    splits : list of (train, test)
        Positions of the rows of each split.
    class_weight : dict, "balanced" or None
        As in `sklearn.linear_model.LogisticRegression`.

    Returns
    -------
    Targets

    Raises
    ------
    CannotShare
        If the training rows of a split lack a class.
    """
    classes, codes = np.unique(np.asarray(data.y), return_inverse=True)
    weights = count_training_rows(len(codes), splits)
    sample_weight = data.sample_weight
    if sample_weight is not None:
        weights *= sample_weight.astype(np.float64)[:, None]
    for split, (train, _) in enumerate(splits):
        if len(np.unique(codes[train])) < len(classes):
            raise CannotShare("the training rows of a split lack a class")
        by_class = _weigh_classes(data, train, classes, class_weight)
        weights[:, split] *= by_class[codes]
    return Targets(classes, codes, weights)


def _weigh_classes(
    data: Data, train: NDArray[np.int64], classes: NDArray[Any], class_weight: Any
) -> Floats:
    """Return the weight of each class for the training rows of a split, shape (n_classes,)."""
    base = None
    if class_weight is not None:
        base = np.ones(len(train))
        if data.sample_weight is not None:
            base = data.sample_weight[train].astype(np.float64)
    y = np.asarray(data.y)[train]
    return np.asarray(
        compute_class_weight(class_weight, classes=classes, y=y, sample_weight=base)
    )
