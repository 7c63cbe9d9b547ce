"""What stands before a logistic regression: nothing, or steps that impute and scale columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from training.search.values import CannotShare


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """How columns are imputed and scaled.

    Parameters
    ----------
    imputer : SimpleImputer or None
        What fills gaps, with a mean or a median.
    scaler : StandardScaler or None
        What scales the columns after that.
    n_columns : int
        As many columns, the first ones, are imputed and scaled; the others are left as they are.
    """

    imputer: SimpleImputer | None
    scaler: StandardScaler | None
    n_columns: int


def steps_of(estimator: Any) -> list[Any]:
    """Return the steps of an estimator, nested pipelines resolved and idle steps left out."""
    if type(estimator) is not Pipeline:
        return [] if estimator in (None, "passthrough") else [estimator]
    return [step for _, inner in estimator.steps for step in steps_of(inner)]


def read_preparation(steps: list[Any], n_features: int) -> Preparation:
    """Return what the steps before a classifier do.

    Parameters
    ----------
    steps : list of estimator
        Unfitted.
    n_features : int
        Columns of the rows that they are given.

    Raises
    ------
    CannotShare
        If it is not known what they do.
    """
    n_columns = n_features
    if [type(step) for step in steps] == [ColumnTransformer]:
        steps, n_columns = _read_columns(steps[0], n_features)
    kinds = {type(step): step for step in steps}
    imputer, scaler = kinds.get(SimpleImputer), kinds.get(StandardScaler)
    if imputer is not None and _is_unusual(imputer):
        raise CannotShare("the imputer fills gaps in a way of its own")
    if steps not in ([], [scaler], [imputer, scaler]):
        name = type(steps[0]).__name__
        raise CannotShare(f"{name} stands before LogisticRegression")
    return Preparation(imputer, scaler, n_columns)


def _read_columns(
    transformer: ColumnTransformer, n_features: int
) -> tuple[list[Any], int]:
    """Return the steps for the first columns, and how many these are."""
    if len(transformer.transformers) != 1 or transformer.remainder != "passthrough":
        raise CannotShare("the ColumnTransformer does more than to prepare columns")
    if transformer.transformer_weights is not None:
        raise CannotShare("the ColumnTransformer weighs columns")
    ((_, inner, columns),) = transformer.transformers
    if inner == "drop":
        raise CannotShare("the ColumnTransformer drops columns")
    if not _is_beginning(columns):
        raise CannotShare("the ColumnTransformer prepares other columns than the first")
    return steps_of(inner), len(range(n_features)[columns])


def _is_beginning(columns: Any) -> bool:
    """Say whether columns are a slice with a number of columns from the first on."""
    return (
        isinstance(columns, slice)
        and columns.start in (None, 0)
        and columns.step in (None, 1)
        and isinstance(columns.stop, int | np.integer | None)
    )


def _is_unusual(imputer: SimpleImputer) -> bool:
    known = imputer.strategy in ("mean", "median") and imputer.missing_values is np.nan
    return imputer.add_indicator or not known
