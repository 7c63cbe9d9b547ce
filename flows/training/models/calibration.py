"""Calibration: a map on top of a pipeline's scores that makes probabilities of them.

The scores are those of the message `Calibration`: decision values, which LightGBM calls raw scores.
The maps are fitted on scores of rows that the pipeline has not seen.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline

from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.data.splitting import Folds
from training.errors import SearchError
from training.models.families import unwrap

NO_CALIBRATION = "none"
METHODS = (NO_CALIBRATION, "sigmoid", "isotonic")


def check_method(method: str) -> None:
    """Raise SearchError if there is no such method of calibration."""
    if method not in METHODS:
        raise SearchError(
            f"--calibration is {method!r}; it has to be one of {', '.join(METHODS)}"
        )


def fit_calibrated(
    pipeline: Pipeline, method: str, folds: Folds, *, X: Any, labels: Any
) -> CalibratedClassifierCV:
    """Fit a pipeline on all rows, and its maps on scores of folds that its like have not seen.

    Parameters
    ----------
    pipeline : Pipeline
        Unfitted, of `training.models.families`.
    method : {"sigmoid", "isotonic"}
        Kind of the maps.
    folds : tuple of (train, test)
        Row numbers; each row is in one of the test parts.
    X : DataFrame or csr_matrix, shape (n_rows, n_features)
        Rows to learn from.
    labels : ndarray, shape (n_rows,)
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
    fitted.estimator = unwrap(fitted.estimator)
    # What was to be fitted is kept beside what was, and would bring a class of ours along; so are
    # the folds, row by row.
    return calibrated.set_params(estimator=clone(fitted.estimator), cv=len(folds))


def find_pipeline(calibrated: CalibratedClassifierCV) -> Pipeline:
    """Return the fitted pipeline that is calibrated."""
    return calibrated.calibrated_classifiers_[0].estimator


def find_calibrators(calibrated: CalibratedClassifierCV) -> tuple[Any, ...]:
    """Return scikit-learn's fitted maps: 1 for two classes, else one for each class."""
    return tuple(calibrated.calibrated_classifiers_[0].calibrators)


def predict_out_of_fold(
    pipeline: Pipeline,
    calibrators: Sequence[Any],
    folds: Folds,
    *,
    X: Any,
    labels: Any,
) -> NDArray[np.float64]:
    """Predict the second of two classes for every row, by pipelines that have not seen the row.

    Parameters
    ----------
    pipeline, folds, X, labels
        As in `fit_calibrated`.
    calibrators : sequence
        Map of the final model, whose probabilities a threshold is to cut; empty where it is not
        calibrated. A map that grows leaves the order of the rows as it is.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Probabilities, [0, 1].
    """
    if not calibrators:
        probabilities = cross_val_predict(
            pipeline, X, labels, cv=folds, method="predict_proba"
        )
        return np.asarray(probabilities[:, 1])
    scores = cross_val_predict(
        pipeline, X, labels, cv=folds, method="decision_function"
    )
    return np.asarray(calibrators[0].predict(scores))


def encode_calibration(calibrators: Sequence[Any]) -> pb.Calibration:
    """Write scikit-learn's fitted maps as a message."""
    return pb.Calibration(maps=map(_encode_map, calibrators))


def _encode_map(calibrator: Any) -> pb.CalibrationMap:
    if not isinstance(calibrator, IsotonicRegression):
        sigmoid = pb.SigmoidMap(slope=calibrator.a_, intercept=calibrator.b_)
        return pb.CalibrationMap(sigmoid=sigmoid)
    isotonic = pb.IsotonicMap(
        inputs=calibrator.X_thresholds_,
        # A mean of ones may be rounded to a little more than 1.
        outputs=np.clip(calibrator.y_thresholds_, 0, 1),
    )
    return pb.CalibrationMap(isotonic=isotonic)


def apply_calibration(
    message: pb.Calibration, scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Evaluate the formula of the message.

    Parameters
    ----------
    message : Calibration
        Maps.
    scores : ndarray of float64, shape (n_rows, n_maps)
        What the maps take.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_classes)
        Probability of each class.
    """
    values = np.column_stack(
        [
            _apply_map(map_, column)
            for map_, column in zip(message.maps, scores.T, strict=True)
        ]
    )
    if values.shape[1] == 1:
        return np.column_stack([1 - values, values])
    total = values.sum(axis=1, keepdims=True)
    uniform = np.full_like(values, 1 / values.shape[1])
    return np.asarray(np.divide(values, total, out=uniform, where=total != 0))


def _apply_map(map_: pb.CalibrationMap, s: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    if map_.WhichOneof("kind") == "sigmoid":
        return np.asarray(expit(-(map_.sigmoid.slope * s + map_.sigmoid.intercept)))
    return np.interp(s, map_.isotonic.inputs, map_.isotonic.outputs)
