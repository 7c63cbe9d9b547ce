"""The steps before a classifier: none, or steps that impute and scale the first columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from training.search.values import CannotShare


@dataclass(frozen=True, slots=True, eq=False)
class Preprocessing:
    """How columns are imputed and scaled.

    Parameters
    ----------
    imputer : SimpleImputer or None
        Fills missing values with a mean or a median.
    scaler : StandardScaler or None
        Scales the columns after that.
    n_columns : int
        The first `n_columns` columns are imputed and scaled; the others pass unchanged.
    """

    imputer: SimpleImputer | None
    scaler: StandardScaler | None
    n_columns: int


def steps_of(estimator: Any) -> list[Any]:
    """Return the steps of an estimator, without nesting and without steps that do nothing.

    Parameters
    ----------
    estimator : estimator, None or "passthrough"
        A pipeline, or a single step.

    Returns
    -------
    list of estimator
        The pipeline's own objects, in order.
    """
    if type(estimator) is not Pipeline:
        return [] if estimator in (None, "passthrough") else [estimator]
    return [step for _, inner in estimator.steps for step in steps_of(inner)]


def read_preprocessing(steps: list[Any], n_features: int) -> Preprocessing:
    """Return what the steps before a classifier do.

    Parameters
    ----------
    steps : list of estimator
        Unfitted.
    n_features : int
        Columns of the rows that enter the first step.

    Returns
    -------
    Preprocessing

    Raises
    ------
    CannotShare
        If the steps do anything but impute and scale the first columns.
    """
    n_columns = n_features
    if [type(step) for step in steps] == [ColumnTransformer]:
        steps, n_columns = _read_columns(steps[0], n_features)
    kinds = {type(step): step for step in steps}
    imputer, scaler = kinds.get(SimpleImputer), kinds.get(StandardScaler)
    if imputer is not None and _is_unusual(imputer):
        raise CannotShare("SimpleImputer does more than fill nan by a mean or a median")
    if steps not in ([], [scaler], [imputer, scaler]):
        names = ", ".join(type(step).__name__ for step in steps)
        raise CannotShare(
            f"{names} before LogisticRegression is neither StandardScaler "
            "nor SimpleImputer with StandardScaler"
        )
    return Preprocessing(imputer, scaler, n_columns)


def _read_columns(
    transformer: ColumnTransformer, n_features: int
) -> tuple[list[Any], int]:
    """Return the steps for the first columns, and the number of these columns."""
    n_transformers, remainder = len(transformer.transformers), transformer.remainder
    if n_transformers != 1 or remainder != "passthrough":
        raise CannotShare(
            f"ColumnTransformer has {n_transformers} transformers and "
            f"remainder={remainder!r}, not one and 'passthrough'"
        )
    if transformer.transformer_weights is not None:
        raise CannotShare("ColumnTransformer has transformer_weights")
    ((_, inner, columns),) = transformer.transformers
    if inner == "drop":
        raise CannotShare("ColumnTransformer drops columns")
    if not _is_beginning(columns):
        raise CannotShare(
            f"ColumnTransformer transforms the columns {columns!r}, "
            "not a slice from the first column on"
        )
    return steps_of(inner), len(range(n_features)[columns])


def _is_beginning(columns: Any) -> bool:
    """Say whether columns are a slice of positions from the first column on."""
    return (
        isinstance(columns, slice)
        and columns.start in (None, 0)
        and columns.step in (None, 1)
        and isinstance(columns.stop, int | np.integer | None)
    )


def _is_unusual(imputer: SimpleImputer) -> bool:
    known = imputer.strategy in ("mean", "median") and imputer.missing_values is np.nan
    return imputer.add_indicator or not known
