"""What all parts of a report are drawn from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.schema import Schema
from training.models.search_values import SearchResult
from training.trained_model import TrainedModel


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """A trained model, its rows, and what it answers.

    Parameters
    ----------
    trained : TrainedModel
        The model of the run.
    train, holdout : Rows
        Rows that its scored twin has learned from, and rows that it has not seen.
    probabilities : ndarray of float64, shape (n_holdout, n_classes)
        The twin's answers on the hold-out, [0, 1].
    fit_seconds : mapping of str to float
        Seconds of all fits of a family's search, added up over the cores.
    """

    trained: TrainedModel
    train: Rows
    holdout: Rows
    probabilities: NDArray[np.float64]
    fit_seconds: Mapping[str, float]

    @property
    def schema(self) -> Schema:
        """Columns and classes."""
        return self.trained.plan.schema

    @property
    def labels(self) -> tuple[str, ...]:
        """Class labels as texts, in the order of their codes."""
        return tuple(map(str, self.schema.class_labels))


def gather(
    trained: TrainedModel,
    results: Mapping[str, SearchResult],
    train: Rows,
    holdout: Rows,
) -> Material:
    """Ask the scored twin about the hold-out, and add up the times of the searches."""
    table = to_table(holdout.X, trained.plan.schema)
    probabilities = np.asarray(trained.twin.estimator.predict_proba(table))
    n_folds = trained.plan.settings.n_folds
    seconds = {
        family: float(np.nansum(result.cv_results["mean_fit_time"])) * n_folds
        for family, result in results.items()
        if "mean_fit_time" in result.cv_results
    }
    return Material(trained, train, holdout, probabilities, seconds)
