"""The winner as it is handed on: fitted on all training rows, calibrated, with its threshold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from training.data.splitting import Folds
from training.models.calibration import (
    NO_CALIBRATION,
    find_calibrators,
    find_pipeline,
    fit_calibrated,
    predict_out_of_fold,
)
from training.models.evaluation import BINARY_THRESHOLD
from training.models.families import unwrap
from training.models.thresholds import (
    EVEN,
    FixedThreshold,
    ThresholdRule,
    apply_threshold,
    choose_threshold,
)


@dataclass(frozen=True, slots=True)
class Finish:
    """What is done to the winner's answers, beyond the search.

    Parameters
    ----------
    calibration : str
        One of `training.models.calibration.METHODS`.
    threshold : ThresholdRule
        How the threshold is found. Of use for two classes only.
    """

    calibration: str = NO_CALIBRATION
    threshold: ThresholdRule = EVEN

    @property
    def needs_folds(self) -> bool:
        """Whether it takes answers to rows that the one who answers has not seen."""
        is_fixed = isinstance(self.threshold, FixedThreshold)
        return self.calibration != NO_CALIBRATION or not is_fixed


@dataclass(frozen=True, slots=True, eq=False)
class FinalModel:
    """A fitted model with its parts.

    Parameters
    ----------
    predictor : estimator
        scikit-learn's classifier that puts the parts together, and predicts labels.
    pipeline : Pipeline
        What scores, unwrapped.
    calibrators : tuple
        scikit-learn's fitted maps of the scores; empty if it is not calibrated.
    threshold : float
        Threshold between two classes, [0, 1].
    """

    predictor: BaseEstimator
    pipeline: Pipeline
    calibrators: tuple[Any, ...]
    threshold: float


def fit_final_model(
    pipeline: Pipeline,
    finish: Finish,
    folds: Folds,
    *,
    X: Any,
    labels: Any,
    fit_params: Mapping[str, Any] | None = None,
) -> FinalModel:
    """Fit a pipeline, its calibration and its threshold.

    Parameters
    ----------
    pipeline : Pipeline
        Unfitted, of `training.models.families`.
    finish : Finish
        What is done to its answers.
    folds : tuple of (train, test)
        Those of the search: calibration and threshold are found on what pipelines say of the
        fold that they have not seen.
    X : DataFrame or csr_matrix, shape (n_rows, n_features)
        Rows to learn from.
    labels : ndarray, shape (n_rows,)
        Their labels.
    fit_params : mapping, optional
        What the pipeline's `fit` takes beside; only for a finish that needs no folds.
    """
    predictor: BaseEstimator
    if finish.calibration == NO_CALIBRATION:
        fitted = predictor = unwrap(pipeline.fit(X, labels, **(fit_params or {})))
        calibrators: tuple[Any, ...] = ()
    else:
        predictor = fit_calibrated(
            pipeline, finish.calibration, folds, X=X, labels=labels
        )
        fitted, calibrators = find_pipeline(predictor), find_calibrators(predictor)
    rule = finish.threshold
    if isinstance(rule, FixedThreshold):
        threshold = rule.value
    else:
        scores = predict_out_of_fold(pipeline, calibrators, folds, X=X, labels=labels)
        threshold = choose_threshold(rule, labels == predictor.classes_[1], scores)
    if threshold != BINARY_THRESHOLD:
        predictor = apply_threshold(predictor, threshold, X=X, labels=labels)
    return FinalModel(predictor, fitted, calibrators, threshold)
