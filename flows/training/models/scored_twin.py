"""The scored twin: the model that the hold-out judges, because it has not seen it.

The registered model learns from the hold-out too, so no row is left to score it. Its twin is the
same candidate, fitted in the same way on the training rows alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from training.errors import SearchError

ALL, TRAIN = "all", "train"


@dataclass(frozen=True, slots=True, eq=False)
class ScoredTwin:
    """The model whose metrics a run has, and the rows that it has seen.

    Parameters
    ----------
    estimator : estimator
        Fitted on the training rows; predicts labels.
    threshold : float
        Its threshold between two classes, [0, 1].
    learned : ndarray of uint64, shape (n_digests,)
        Digests of what it has learned from, see `training.data.row_digests.list_learned`.
    """

    estimator: BaseEstimator
    threshold: float
    learned: NDArray[np.uint64]


def check_final_fit(final_fit: str) -> None:
    """Raise SearchError if `final_fit` does not say which rows the registered model learns from."""
    if final_fit not in (ALL, TRAIN):
        raise SearchError(
            f"--final_fit is {final_fit!r}; it has to be {ALL} (all rows) or {TRAIN} (the training "
            "rows only)"
        )
