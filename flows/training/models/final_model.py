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

from training.data.disk import Scratch
from training.data.splitting import Folds
from training.models.averaging import Model, assemble
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
from training.models.streamed_fit import fit_transform_stored
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


def has_shifted_probabilities(post_fit: PostFit, class_weight: Any) -> bool:
    """Tell whether weights by class shift the probabilities, and nothing puts them right.

    Parameters
    ----------
    post_fit : PostFit
        The steps after the fit.
    class_weight : object
        Weights by class of a member, or None.

    Returns
    -------
    bool
        True if they are shifted.
    """
    return class_weight is not None and post_fit.calibration == NO_CALIBRATION


def correct_class_weight(
    post_fit: PostFit, class_weight: Any, *, can_calibrate: bool
) -> PostFit:
    """Let the probabilities of a model with weights by class be calibrated.

    Such weights make a model expect other shares of the classes than the table has. So its
    probabilities are too large for the classes that weigh more. A calibration puts them right.

    Parameters
    ----------
    post_fit : PostFit
        What the user asked for.
    class_weight : object
        Weights by class of a member, or None.
    can_calibrate : bool
        Whether each row counts once and has an out-of-fold prediction.

    Returns
    -------
    PostFit
        With a calibration, if the model needs one and can have one.
    """
    is_shifted = has_shifted_probabilities(post_fit, class_weight)
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
    pipeline : Pipeline or VotingClassifier
        The part that computes raw scores, unwrapped: one pipeline, or the average of several.
    calibrators : tuple
        scikit-learn's fitted maps from raw scores to probabilities; empty without calibration.
    threshold : float
        Threshold between two classes, [0, 1].
    """

    predictor: BaseEstimator
    pipeline: Model
    calibrators: tuple[Any, ...]
    threshold: float


def fit_final_model(
    pipeline: Model,
    post_fit: PostFit,
    folds: Folds,
    *,
    X: Any,
    y: NDArray[np.int64],
    class_labels: Labels,
    fit_params: Mapping[str, Any] | None = None,
    scratch: Scratch | None = None,
) -> FinalModel:
    """Fit a pipeline, its calibration and its threshold.

    Parameters
    ----------
    pipeline : Pipeline or VotingClassifier
        Unfitted, from `training.models.averaging.make_average`.
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
    scratch : Scratch, optional
        Where large rows are kept after the steps before the classifier. The model is the same.

    Returns
    -------
    FinalModel
        The fitted model. It predicts labels, and its classes are in the order of the codes.
    """
    predictor: BaseEstimator
    if post_fit.calibration == NO_CALIBRATION:
        fitted = predictor = fit_model(pipeline, X, y, fit_params or {}, scratch)
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
    if threshold != BINARY_THRESHOLD or _may_miss_threshold(fitted, calibrators, y):
        labels = np.asarray(class_labels)[y]
        predictor = apply_threshold(predictor, threshold, X=X, labels=labels)
    return FinalModel(predictor, fitted, calibrators, threshold)


def fit_model(
    model: Model,
    X: Any,
    y: NDArray[np.int64],
    fit_params: Mapping[str, Any],
    scratch: Scratch | None = None,
) -> Model:
    """Fit a pipeline, or each pipeline of an average, and unwrap it.

    Parameters
    ----------
    model : Pipeline or VotingClassifier
        Unfitted, from `training.models.averaging.make_average`.
    X, y, fit_params, scratch
        As in `fit_final_model`.

    Returns
    -------
    Pipeline or VotingClassifier
        The fitted model, which answers with codes.
    """
    if isinstance(model, Pipeline):
        return unwrap(_fit_pipeline(model, X, y, fit_params, scratch))
    fitted = [
        unwrap(_fit_pipeline(pipeline, X, y, fit_params, scratch))
        for _, pipeline in model.estimators
    ]
    return assemble(fitted, model.weights, np.unique(y))


def _may_miss_threshold(
    model: Model, calibrators: tuple[Any, ...], y: NDArray[np.int64]
) -> bool:
    """Tell whether a model of two classes may decide otherwise than by the threshold.

    The two means of an average are rounded each by itself. So the second may be a little above
    0.5, and the first no smaller, which `predict` would take.
    """
    return not isinstance(model, Pipeline) and not calibrators and y.max() == 1


def _fit_pipeline(
    pipeline: Pipeline,
    X: Any,
    y: NDArray[np.int64],
    fit_params: Mapping[str, Any],
    scratch: Scratch | None,
) -> Pipeline:
    """Fit a pipeline; a logistic regression begins at its optimum, which takes a fraction.

    The steps before the classifier learn and transform the rows as in the pipeline's own `fit`.
    """
    *before, (name, classifier) = pipeline.steps
    weight = f"{name}__sample_weight"
    weights = fit_params.get(weight)
    stored = None
    if before and not set(fit_params) - {weight}:
        stored = fit_transform_stored(Pipeline(before), X, scratch)
    if type(classifier) is not LogisticRegression or set(fit_params) - {weight}:
        if stored is None:
            return pipeline.fit(X, y, **fit_params)
        given = {} if weights is None else {"sample_weight": weights}
        classifier.fit(stored, y, **given)
        return pipeline
    rows = stored
    if rows is None:
        rows = Pipeline(before).fit_transform(X, y) if before else X
    fit_from_optimum(classifier, rows, y, weights, n_threads=int(cpu_count()))
    return pipeline
