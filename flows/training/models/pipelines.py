"""Builds the pipelines of both families.

A search pipeline takes a matrix of `training.data.encoding`. A final pipeline takes the user's
table with its column names, so that callers may send the columns in any order. LightGBM never sees
a name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)

from date_columns.cells import DateParts
from training.data.date_features import split_dates
from training.data.encoding import MAX_DENSE_INDICATORS, count_indicators, expand
from training.data.rows import Rows
from training.data.schema import TEMPORAL, Feature, Kind, Schema
from training.models.class_labels import encode_params
from training.models.early_stopping import EarlyStoppingClassifier
from training.models.families import LIGHTGBM, LOGISTIC_REGRESSION, Family
from training.search import TargetMeans
from training.search.pipeline_steps import steps_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PREPROCESS, COLUMNS, CLASSIFIER = "preprocess", "columns", "classifier"
ENCODE, MEANS, IMPUTE, SCALE = "encode", "means", "impute", "scale"
# Parts of the rows of a fit that get their target means from each other.
N_MEANS_PARTS = 5
# Tolerance of the final fit of a logistic regression, much finer than scikit-learn's 1e-4.
FINAL_TOLERANCE = 1e-8


@dataclass(frozen=True, slots=True)
class PipelineFactory:
    """Builds the pipelines of a family.

    Parameters
    ----------
    family : Family
        The family.
    schema : Schema
        Columns of the rows.
    seed : int
        Seed of everything that draws.
    early_stopping_rounds : int
        Rounds without a better loss after which LightGBM stops; 0 never stops it.
    """

    family: Family
    schema: Schema
    seed: int
    early_stopping_rounds: int = 0

    @property
    def parameter_prefix(self) -> str:
        """The prefix that makes a pipeline's parameter of a classifier's."""
        return f"{CLASSIFIER}__classifier__" if self._stops_early else f"{CLASSIFIER}__"

    @property
    def _stops_early(self) -> bool:
        return self.early_stopping_rounds > 0 and self.family == LIGHTGBM

    def make_classifier(self) -> Any:
        """Return the unfitted classifier alone."""
        if self.family == LOGISTIC_REGRESSION:
            # The solvers sag, saga and liblinear draw; they need the seed.
            return LogisticRegression(max_iter=2000, random_state=self.seed)
        from lightgbm import LGBMClassifier

        # The fit is the same to the last bit on any number of cores, and prints nothing.
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
        """Arrange the features of a data set for the search pipeline.

        Parameters
        ----------
        X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
            Features of a data set.

        Returns
        -------
        ndarray or csr_matrix of float64, shape (n_rows, n_columns)
            Features with the parts of dates; with indicators for logistic regression.
        """
        X = split_dates(X, self.schema)
        return expand(X, self.schema) if self.family == LOGISTIC_REGRESSION else X

    def make_search_pipeline(self) -> Pipeline:
        """Return an unfitted pipeline for matrices that `arrange` returns."""
        steps = [
            (PREPROCESS, self._preprocess_matrix()),
            (CLASSIFIER, self._final_step()),
        ]
        if self.schema.of_kind(Kind.MEANS):
            means = TargetMeans(self._make_encoder(), self.schema.means)
            steps.insert(0, (MEANS, means))
        return Pipeline(steps)

    def make_final_pipeline(self, params: Mapping[str, Any]) -> Pipeline:
        """Return an unfitted pipeline for the user's table, or for a sparse matrix.

        Parameters
        ----------
        params : mapping of str to object
            Parameters of the classifier, by the classifier's own names; weights of classes are by
            label.

        Returns
        -------
        Pipeline
            It learns codes. Its input is the output of `training.data.encoding.to_table`.
        """
        if self.schema.is_sparse:
            pipeline = self.make_search_pipeline()
        else:
            columns = ColumnTransformer(list(self._transform_columns()))
            pipeline = Pipeline([(COLUMNS, columns), (CLASSIFIER, self._final_step())])
        if self.family == LOGISTIC_REGRESSION and not {"solver", "tol"} & set(params):
            # The search scores models at their optimum, so the final fit has to reach it too.
            params = {"tol": FINAL_TOLERANCE, **params}
        params = encode_params(params, self.schema.class_labels)
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

    def _make_encoder(self) -> TargetEncoder:
        """Return an unfitted encoder of category codes by target means.

        In a fit, a row gets the means of rows in other parts of the data, so that its own label
        does not tell. KFold copes with classes of few rows.
        """
        return TargetEncoder(
            target_type="binary" if self.schema.is_binary else "multiclass",
            cv=KFold(N_MEANS_PARTS, shuffle=True, random_state=self.seed),
        )

    def _name_categories(self) -> dict[str, Any]:
        schema = self.schema
        n_categorical = len(schema.categorical)
        positions = list(range(schema.n_numeric, schema.n_numeric + n_categorical))
        # LightGBM warns at every alias of this parameter but its own name for it.
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
        if not any(f.nullable for f in self.schema.features if not f.categories):
            return scaler
        # A column without a value in a fold stays, so that the coefficients keep their places.
        imputer = SimpleImputer(strategy="median", keep_empty_features=True)
        return Pipeline([(IMPUTE, imputer), (SCALE, scaler)])

    def _transform_columns(self) -> Iterator[tuple[str, Any, list[str]]]:
        """Yield the transformers that turn a table into the search's matrix, kind by kind."""
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
        if kind == Kind.MEANS:
            codes = _encode_categories(features, as_indicators=False)
            steps = [(ENCODE, codes), (MEANS, self._make_encoder())]
            return Pipeline([*steps, (SCALE, numbers)] if numbers else steps)
        if kind in TEMPORAL:
            parts = _split_dates(kind, features)
            return Pipeline([(ENCODE, parts), (SCALE, numbers)]) if numbers else parts
        # True becomes 1, false 0, and all else NaN.
        codes = _encode_ordinal([np.array([False, True])] * len(features))
        return Pipeline([(ENCODE, codes), (SCALE, numbers)]) if numbers else codes


def _split_dates(kind: Kind, features: tuple[Feature, ...]) -> DateParts:
    # Plain lists and text, so that MLflow's format holds them without types of ours.
    return DateParts(
        str(kind.value), [f.format for f in features], [list(f.parts) for f in features]
    )


def _encode_categories(features: tuple[Feature, ...], *, as_indicators: bool) -> Any:
    """Return an encoder that treats unknown categories as missing."""
    categories = [
        # Whole numbers are doubles in a table, because pandas makes doubles of columns with gaps.
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
    """Return the further arguments of a pipeline's `fit`.

    Parameters
    ----------
    rows : Rows
        Rows to fit.

    Returns
    -------
    dict of str to ndarray
        The weights, float64, shape (n_rows,), by the name that `fit` takes; empty without weights.
    """
    if rows.weight is None:
        return {}
    return {f"{CLASSIFIER}__sample_weight": rows.weight}


def find_encoder(pipeline: Pipeline) -> TargetEncoder:
    """Return the fitted encoder of target means of a final pipeline that has one."""
    transformers = pipeline.named_steps[COLUMNS].named_transformers_
    encoder: TargetEncoder = transformers[Kind.MEANS].named_steps[MEANS]
    return encoder


def unwrap(pipeline: Pipeline) -> Pipeline:
    """Return a fitted pipeline with the plain classifier in place of an early-stopping one."""
    *steps, (name, classifier) = pipeline.steps
    if isinstance(classifier, EarlyStoppingClassifier):
        classifier = classifier.classifier_
    return Pipeline([*steps, (name, classifier)])


def find_transformers(
    pipeline: Pipeline,
) -> tuple[list[SimpleImputer], list[StandardScaler]]:
    """Find the fitted steps that impute and scale columns.

    Parameters
    ----------
    pipeline : Pipeline
        Fitted search pipeline or final pipeline.

    Returns
    -------
    imputers, scalers : list of SimpleImputer, list of StandardScaler
        Those of the columns that are not categorical, kind by kind.
    """
    if COLUMNS in pipeline.named_steps:
        by_kind = pipeline.named_steps[COLUMNS].named_transformers_
        fitted = [by_kind[k] for k in Kind if k != Kind.CATEGORICAL and k in by_kind]
    else:
        fitted = [pipeline.named_steps[PREPROCESS]]
    steps = [step for transformer in fitted for step in steps_of(transformer)]
    imputers = [step for step in steps if isinstance(step, SimpleImputer)]
    return imputers, [step for step in steps if isinstance(step, StandardScaler)]
