"""The two families: their names, their pipelines, and which parameters a grid may set.

A pipeline for the search takes a matrix, see `data.encoding`; the final one takes a table as the
user has it, with the real column names, so that the order of columns does not matter to who uses
it, and LightGBM never sees a name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from training.data.encoding import MAX_DENSE_INDICATORS, count_indicators, expand
from training.data.rows import Rows
from training.data.schema import Feature, Kind, Schema

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PREPROCESS, COLUMNS, CLASSIFIER = "preprocess", "columns", "classifier"
ENCODE, IMPUTE, SCALE = "encode", "impute", "scale"
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

    def fit(
        self, X: Any, y: ArrayLike, sample_weight: NDArray[np.float64] | None = None
    ) -> "EarlyStoppingClassifier":
        """Fit on all rows but the slice, and stop by the slice."""
        from lightgbm import early_stopping

        weight = np.ones(len(np.asarray(y))) if sample_weight is None else sample_weight
        X_fit, X_watch, y_fit, y_watch, w_fit, w_watch = train_test_split(
            *(X, y, weight),
            test_size=VALIDATION_FRACTION,
            random_state=self.seed,
            stratify=y,
        )
        self.classifier_ = clone(self.classifier).fit(
            X_fit,
            y_fit,
            sample_weight=None if sample_weight is None else w_fit,
            eval_X=(X_watch,),
            # LightGBM 4.7 encodes the labels that it fits, but not those that it watches.
            eval_y=(np.searchsorted(np.unique(y_fit), y_watch),),
            eval_sample_weight=None if sample_weight is None else [w_watch],
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
            **self._name_categories(),
        )

    def arrange(
        self, X: "NDArray[np.float64] | csr_matrix"
    ) -> "NDArray[np.float64] | csr_matrix":
        """Return the rows of a data set as the pipeline for the search takes them."""
        return expand(X, self.schema) if self.family == LOGISTIC_REGRESSION else X

    def make_search_pipeline(self) -> Pipeline:
        """Return an unfitted pipeline that takes what `arrange` returns."""
        return Pipeline(
            [(PREPROCESS, self._preprocess_matrix()), (CLASSIFIER, self._final_step())]
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
            columns = ColumnTransformer(list(self._transform_columns()))
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

    def _name_categories(self) -> dict[str, Any]:
        schema = self.schema
        positions = list(range(schema.n_numeric, len(schema.features)))
        # Of the names of this parameter, the one that LightGBM itself uses: at another it warns.
        return {"categorical_column": positions} if positions else {}

    def _preprocess_matrix(self) -> Any:
        schema = self.schema
        if self.family == LIGHTGBM or not schema.n_numeric:
            return "passthrough"
        if not schema.categorical:
            return self._preprocess_numbers(centre=not schema.is_sparse)
        is_wide = count_indicators(schema) > MAX_DENSE_INDICATORS
        numbers = self._preprocess_numbers(centre=not is_wide)
        return ColumnTransformer(
            [(Kind.NUMERIC, numbers, slice(0, schema.n_numeric))],
            remainder="passthrough",
            sparse_threshold=1.0,
        )

    def _preprocess_numbers(self, *, centre: bool) -> Any:
        scaler = StandardScaler(with_mean=centre)
        if not any(self.schema.nullable[: self.schema.n_numeric]):
            return scaler
        # Columns without a value in a fold are kept, so that the coefficients stay in place.
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        return Pipeline([(IMPUTE, imputer), (SCALE, scaler)])

    def _transform_columns(self) -> Iterator[tuple[str, Any, list[str]]]:
        """Yield what makes the matrix of the search of a table, kind by kind."""
        for kind in Kind:
            features = self.schema.of_kind(kind)
            if features:
                names = [feature.name for feature in features]
                yield kind.value, self._transform(kind, features), names

    def _transform(self, kind: Kind, features: tuple[Feature, ...]) -> Any:
        is_linear = self.family == LOGISTIC_REGRESSION
        if kind == Kind.CATEGORICAL:
            return _encode_categories(features, as_indicators=is_linear)
        numbers = self._preprocess_numbers(centre=True) if is_linear else None
        if kind == Kind.NUMERIC:
            return numbers or "passthrough"
        # 1 and 0, and NaN for what is neither.
        codes = _encode_ordinal([np.array([False, True])] * len(features))
        return Pipeline([(ENCODE, codes), (SCALE, numbers)]) if numbers else codes


def _encode_categories(features: tuple[Feature, ...], *, as_indicators: bool) -> Any:
    """Return an encoder that knows the categories, and takes all others for missing."""
    categories = [
        # Whole numbers are doubles in a table: a gap makes doubles of them anywhere.
        np.array(
            f.categories, dtype=object if isinstance(f.categories[0], str) else float
        )
        for f in features
    ]
    if as_indicators:
        return OneHotEncoder(categories=categories, handle_unknown="ignore")
    return _encode_ordinal(categories)


def _encode_ordinal(categories: list[NDArray[Any]]) -> OrdinalEncoder:
    return OrdinalEncoder(
        categories=categories, handle_unknown="use_encoded_value", unknown_value=np.nan
    )


def make_fit_params(rows: Rows) -> dict[str, NDArray[np.float64]]:
    """Return what a pipeline's `fit` takes beside the features and labels of rows."""
    if rows.weight is None:
        return {}
    return {f"{CLASSIFIER}__sample_weight": rows.weight}


def unwrap(pipeline: Pipeline) -> Pipeline:
    """Return a fitted pipeline with LightGBM's own classifier in place of the one that stops it."""
    *steps, (name, classifier) = pipeline.steps
    if isinstance(classifier, EarlyStoppingClassifier):
        classifier = classifier.classifier_
    return Pipeline([*steps, (name, classifier)])
