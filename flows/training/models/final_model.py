"""Fits the winner on rows, with its calibration and its threshold."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from training.data.splitting import Folds
from training.models.calibration import (
    CORRECTION,
    NO_CALIBRATION,
    find_calibrators,
    find_pipeline,
    fit_calibrated,
    predict_out_of_fold,
)
from training.models.class_labels import Labels, name_classes
from training.models.evaluation import BINARY_THRESHOLD
from training.models.pipelines import unwrap
from training.models.thresholds import (
    EVEN,
    FixedThreshold,
    ThresholdRule,
    apply_threshold,
    choose_threshold,
)
from training.search import fit_from_optimum


@dataclass(frozen=True, slots=True)
class PostFit:
    """The steps after the winner's fit: calibration and the choice of a threshold.

    Parameters
    ----------
    calibration : str
        One of `training.models.calibration.METHODS`.
    threshold : ThresholdRule
        How the threshold is found. Only two classes have one.
    """

    calibration: str = NO_CALIBRATION
    threshold: ThresholdRule = EVEN

    @property
    def needs_folds(self) -> bool:
        """Whether the model needs out-of-fold predictions."""
        is_fixed = isinstance(self.threshold, FixedThreshold)
        return self.calibration != NO_CALIBRATION or not is_fixed


def has_shifted_probabilities(post_fit: PostFit, params: Mapping[str, Any]) -> bool:
    """Tell whether weights by class shift the probabilities, and nothing puts them right.

    Parameters
    ----------
    post_fit : PostFit
        The steps after the fit.
    params : mapping
        The best candidate.

    Returns
    -------
    bool
        True if they are shifted.
    """
    has_class_weight = params.get("class_weight") is not None
    return has_class_weight and post_fit.calibration == NO_CALIBRATION


def correct_class_weight(
    post_fit: PostFit, params: Mapping[str, Any], *, can_calibrate: bool
) -> PostFit:
    """Let the probabilities of a model with weights by class be calibrated.

    Such weights make a model expect other shares of the classes than the table has. So its
    probabilities are too large for the classes that weigh more. A calibration puts them right.

    Parameters
    ----------
    post_fit : PostFit
        What the user asked for.
    params : mapping
        The best candidate.
    can_calibrate : bool
        Whether each row counts once and has an out-of-fold prediction.

    Returns
    -------
    PostFit
        With a calibration, if the candidate needs one and can have one.
    """
    is_shifted = has_shifted_probabilities(post_fit, params)
    if is_shifted and can_calibrate:
        return replace(post_fit, calibration=CORRECTION)
    return post_fit


@dataclass(frozen=True, slots=True, eq=False)
class FinalModel:
    """A fitted model and its parts.

    Parameters
    ----------
    predictor : estimator
        scikit-learn's classifier that combines the parts and predicts labels.
    pipeline : Pipeline
        The part that computes raw scores, unwrapped.
    calibrators : tuple
        scikit-learn's fitted maps from raw scores to probabilities; empty without calibration.
    threshold : float
        Threshold between two classes, [0, 1].
    """

    predictor: BaseEstimator
    pipeline: Pipeline
    calibrators: tuple[Any, ...]
    threshold: float


def fit_final_model(
    pipeline: Pipeline,
    post_fit: PostFit,
    folds: Folds,
    *,
    X: Any,
    y: NDArray[np.int64],
    class_labels: Labels,
    fit_params: Mapping[str, Any] | None = None,
) -> FinalModel:
    """Fit a pipeline, its calibration and its threshold.

    Parameters
    ----------
    pipeline : Pipeline
        Unfitted, from `training.models.pipelines`.
    post_fit : PostFit
        Calibration and threshold.
    folds : tuple of (train, test)
        Folds of the rows. Calibration and threshold are fitted on out-of-fold predictions; without
        them there need be no folds.
    X : DataFrame or csr_matrix, shape (n_rows, n_features)
        Rows to learn from.
    y : ndarray of int64, shape (n_rows,)
        Codes of their labels.
    class_labels : sequence of int or str
        Labels in the order of their codes.
    fit_params : mapping, optional
        Further arguments of the pipeline's `fit`, such as weights; only without calibration and
        with a fixed threshold.

    Returns
    -------
    FinalModel
        The fitted model. It predicts labels, and its classes are in the order of the codes.
    """
    predictor: BaseEstimator
    if post_fit.calibration == NO_CALIBRATION:
        fitted = predictor = unwrap(_fit(pipeline, X, y, fit_params or {}))
        calibrators: tuple[Any, ...] = ()
    else:
        predictor = fit_calibrated(pipeline, post_fit.calibration, folds, X=X, labels=y)
        fitted, calibrators = find_pipeline(predictor), find_calibrators(predictor)
    rule = post_fit.threshold
    if isinstance(rule, FixedThreshold):
        threshold = rule.value
    else:
        probabilities = predict_out_of_fold(pipeline, calibrators, folds, X=X, labels=y)
        threshold = choose_threshold(rule, y == 1, probabilities)
    predictor = name_classes(predictor, class_labels)
    if threshold != BINARY_THRESHOLD:
        labels = np.asarray(class_labels)[y]
        predictor = apply_threshold(predictor, threshold, X=X, labels=labels)
    return FinalModel(predictor, fitted, calibrators, threshold)


def _fit(
    pipeline: Pipeline, X: Any, y: NDArray[np.int64], fit_params: Mapping[str, Any]
) -> Pipeline:
    """Fit a pipeline; a logistic regression begins at its optimum, which takes a fraction.

    The steps before the classifier learn and transform the rows as in the pipeline's own `fit`.
    """
    *before, (name, classifier) = pipeline.steps
    weight = f"{name}__sample_weight"
    if type(classifier) is not LogisticRegression or set(fit_params) - {weight}:
        return pipeline.fit(X, y, **fit_params)
    rows = Pipeline(before).fit_transform(X, y) if before else X
    weights = fit_params.get(weight)
    fit_from_optimum(classifier, rows, y, weights, n_threads=int(cpu_count()))
    return pipeline
