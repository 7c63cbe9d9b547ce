"""The two families: their names, their pipelines, and which parameters a grid may set.

A pipeline for the search takes arrays; the final one takes a table with the real column names, so
that the order of columns does not matter to who uses it, and LightGBM never sees a name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from training.dataset import Schema

PREPROCESS, COLUMNS, CLASSIFIER = "preprocess", "columns", "classifier"
IMPUTE, SCALE = "impute", "scale"
NUMERIC = "numeric"
# Share of a training fold that early stopping watches.
VALIDATION_FRACTION = 0.1
FINAL_TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of classifier: its name in files, and its name for people."""

    name: str
    display_name: str


LOGISTIC_REGRESSION = Family("logistic_regression", "Logistic Regression")
LIGHTGBM = Family("lightgbm", "LightGBM")
# In order of preference between equal scores: the simpler first.
FAMILIES: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in (LOGISTIC_REGRESSION, LIGHTGBM)}
)


class EarlyStoppingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Fits a LightGBM classifier that stops when a slice of its own training rows says so.

    The slice is drawn from the rows that `fit` is given, so in a search from the training fold: the
    fold that scores is never seen.

    Parameters
    ----------
    classifier : LGBMClassifier
        Classifier to fit; its `n_estimators` is the most it may take.
    rounds : int, default=10
        Rounds without a better loss after which it stops, 1 or more.
    seed : int, default=0
        Seed of the draw.

    Attributes
    ----------
    classifier_ : LGBMClassifier
        The fitted classifier; it predicts with its best iteration.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    """

    def __init__(self, classifier: Any, rounds: int = 10, seed: int = 0) -> None:
        self.classifier = classifier
        self.rounds = rounds
        self.seed = seed

    def fit(self, X: Any, y: ArrayLike) -> "EarlyStoppingClassifier":
        """Fit on all rows but the slice, and stop by the slice."""
        from lightgbm import early_stopping

        X_fit, X_watch, y_fit, y_watch = train_test_split(
            X, y, test_size=VALIDATION_FRACTION, random_state=self.seed, stratify=y
        )
        self.classifier_ = clone(self.classifier).fit(
            X_fit,
            y_fit,
            eval_X=(X_watch,),
            # LightGBM 4.7 encodes the labels that it fits, but not those that it watches.
            eval_y=(np.searchsorted(np.unique(y_fit), y_watch),),
            callbacks=[early_stopping(self.rounds, verbose=False)],
        )
        self.classes_ = self.classifier_.classes_
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict classes."""
        return np.asarray(self.classifier_.predict(X))

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict the probability of each class, shape (n_rows, n_classes)."""
        return np.asarray(self.classifier_.predict_proba(X))

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return raw scores, shape (n_rows,) for two classes, else (n_rows, n_classes)."""
        return np.asarray(self.classifier_.decision_function(X))


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides how a family's pipeline is built.

    Parameters
    ----------
    family : Family
        The family.
    schema : Schema
        Columns of the rows.
    seed : int
        Seed of everything that draws.
    early_stopping_rounds : int
        0 for none. LightGBM only.
    """

    family: Family
    schema: Schema
    seed: int
    early_stopping_rounds: int = 0

    @property
    def parameter_prefix(self) -> str:
        """What stands before a classifier's own parameter in a pipeline's."""
        return f"{CLASSIFIER}__classifier__" if self._stops_early else f"{CLASSIFIER}__"

    @property
    def _stops_early(self) -> bool:
        return self.early_stopping_rounds > 0 and self.family == LIGHTGBM

    def make_classifier(self) -> Any:
        """Return the bare classifier."""
        if self.family == LOGISTIC_REGRESSION:
            # The seed is for the solvers sag, saga and liblinear, which draw.
            return LogisticRegression(max_iter=2000, random_state=self.seed)
        from lightgbm import LGBMClassifier

        # Deterministic to the last bit on any number of cores; quiet, since the search reports.
        return LGBMClassifier(
            random_state=self.seed,
            n_jobs=1,
            deterministic=True,
            force_col_wise=True,
            verbose=-1,
        )

    def make_search_pipeline(self) -> Pipeline:
        """Return an unfitted pipeline that takes arrays."""
        return Pipeline(
            [(PREPROCESS, self._preprocess()), (CLASSIFIER, self._final_step())]
        )

    def make_final_pipeline(self, params: Mapping[str, Any]) -> Pipeline:
        """Return an unfitted pipeline that takes a table, or a sparse matrix as it is.

        Parameters
        ----------
        params : mapping of str to object
            Parameters of the classifier by their own names.
        """
        if self.schema.is_sparse:
            pipeline = self.make_search_pipeline()
        else:
            names = list(self.schema.feature_names)
            columns = ColumnTransformer([(NUMERIC, self._preprocess(), names)])
            pipeline = Pipeline([(COLUMNS, columns), (CLASSIFIER, self._final_step())])
        if self.family == LOGISTIC_REGRESSION and not {"solver", "tol"} & set(params):
            # The search scores models at their optimum, which lbfgs is to reach here too.
            params = {"tol": FINAL_TOLERANCE, **params}
        return pipeline.set_params(
            **{self.parameter_prefix + name: value for name, value in params.items()}
        )

    def _final_step(self) -> Any:
        classifier = self.make_classifier()
        if not self._stops_early:
            return classifier
        return EarlyStoppingClassifier(
            classifier, self.early_stopping_rounds, self.seed
        )

    def _preprocess(self) -> Any:
        if self.family == LIGHTGBM:
            return "passthrough"
        if self.schema.is_sparse:
            return StandardScaler(with_mean=False)
        if not any(self.schema.nullable):
            return StandardScaler()
        # Columns without a value in a fold are kept, so that the coefficients stay in place.
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        return Pipeline([(IMPUTE, imputer), (SCALE, StandardScaler())])


def unwrap(pipeline: Pipeline) -> Pipeline:
    """Return a fitted pipeline with LightGBM's own classifier in place of the one that stops it."""
    *steps, (name, classifier) = pipeline.steps
    if isinstance(classifier, EarlyStoppingClassifier):
        classifier = classifier.classifier_
    return Pipeline([*steps, (name, classifier)])
