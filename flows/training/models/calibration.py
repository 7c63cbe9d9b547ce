"""Fits calibration: maps from a pipeline's raw scores to probabilities.

Raw scores are the values of scikit-learn's `decision_function`; those of an average of pipelines
are its probabilities. The maps are fitted on raw scores
of rows that the pipeline has not seen.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline

from training.data.splitting import Folds
from training.errors import SearchError
from training.models.averaging import Model, unwrap_model

NO_CALIBRATION = "none"
METHODS = (NO_CALIBRATION, "sigmoid", "isotonic")
# The method for probabilities that a candidate's `class_weight` has shifted.
CORRECTION = "sigmoid"


def check_method(method: str) -> None:
    """Raise SearchError if `method` is not a method of calibration."""
    if method not in METHODS:
        raise SearchError(
            f"--calibration is {method!r}; it has to be one of {', '.join(METHODS)}"
        )


def fit_calibrated(
    pipeline: Model, method: str, folds: Folds, *, X: Any, labels: Any
) -> CalibratedClassifierCV:
    """Fit a pipeline on all rows, and its maps on out-of-fold raw scores.

    Parameters
    ----------
    pipeline : Pipeline or VotingClassifier
        Unfitted, from `training.models.averaging.make_average`.
    method : {"sigmoid", "isotonic"}
        Kind of the maps.
    folds : tuple of (train, test)
        Row numbers; each row is in exactly one of the test parts.
    X : DataFrame or csr_matrix, shape (n_rows, n_features)
        Rows to learn from.
    labels : ndarray of int64 or str, shape (n_rows,)
        Their labels.

    Returns
    -------
    CalibratedClassifierCV
        Fitted, with one pipeline in it, which is unwrapped.
    """
    calibrated = CalibratedClassifierCV(
        pipeline, method=method, cv=folds, ensemble=False
    ).fit(X, labels)
    (fitted,) = calibrated.calibrated_classifiers_
    fitted.estimator = unwrap_model(fitted.estimator)
    # scikit-learn keeps the unfitted estimator and the folds too. The estimator would bring a class
    # of this project into MLflow's file, and the folds hold every row number.
    return calibrated.set_params(estimator=clone(fitted.estimator), cv=len(folds))


def find_pipeline(calibrated: CalibratedClassifierCV) -> Model:
    """Return the fitted pipeline, or the average of several, below the maps."""
    return calibrated.calibrated_classifiers_[0].estimator


def find_calibrators(calibrated: CalibratedClassifierCV) -> tuple[Any, ...]:
    """Return scikit-learn's fitted maps: one for two classes, else one for each class."""
    return tuple(calibrated.calibrated_classifiers_[0].calibrators)


def predict_out_of_fold(
    pipeline: Model,
    calibrators: Sequence[Any],
    folds: Folds,
    *,
    X: Any,
    labels: Any,
) -> NDArray[np.float64]:
    """Predict the second class for every row, by pipelines that have not seen the row.

    Parameters
    ----------
    pipeline, folds, X, labels
        As in `fit_calibrated`.
    calibrators : sequence
        Maps of the final model, because the threshold cuts its probabilities; empty if it is not
        calibrated.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Probabilities of the second class, [0, 1].
    """
    if not calibrators:
        probabilities = cross_val_predict(
            pipeline, X, labels, cv=folds, method="predict_proba"
        )
        return np.asarray(probabilities[:, 1])
    if isinstance(pipeline, Pipeline):
        raw_scores = cross_val_predict(
            pipeline, X, labels, cv=folds, method="decision_function"
        )
    else:
        # The maps of an average take its probabilities.
        raw_scores = cross_val_predict(
            pipeline, X, labels, cv=folds, method="predict_proba"
        )[:, 1]
    return np.asarray(calibrators[0].predict(raw_scores))
