"""The steps before a classifier, fitted and applied without a copy of the rows in memory.

The fitted steps and the rows are the same in every bit as those of the pipeline's own `fit`. So
only steps are taken that treat each column by itself, or each row.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, StandardScaler

from date_columns.cells import DateParts
from training.data.disk import Scratch
from training.data.matrix_file import count_block_rows, write_blocks
from training.search.pipeline_steps import steps_of

# Their fit learns nothing from the rows: the categories and the formats are given.
_FIXED = (FunctionTransformer, OrdinalEncoder, DateParts)
_BY_COLUMN = (SimpleImputer, StandardScaler)
# Rows from which the steps learn the names of the columns.
_N_HEAD_ROWS = 100


def fit_transform_stored(
    before: Pipeline, X: Any, scratch: Scratch | None
) -> NDArray[np.float64] | None:
    """Fit the steps before a classifier, and write the rows that they return into a file.

    Parameters
    ----------
    before : Pipeline
        Unfitted; it is fitted in place.
    X : DataFrame or csr_matrix, shape (n_rows, n_features)
        Rows to learn from.
    scratch : Scratch or None
        Where the rows are kept, and from which size on.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_columns), or None
        Mapped from the file. None if the rows are few or a step needs all of them at once; then
        nothing is fitted.

    Raises
    ------
    DataError
        If the disk is full.
    """
    if scratch is None or not isinstance(X, pd.DataFrame) or len(before.steps) != 1:
        return None
    columns = before.steps[0][1]
    if X.size * 8 < scratch.large_bytes or not isinstance(columns, ColumnTransformer):
        return None
    transformers = [transformer for _, transformer, _ in columns.transformers]
    are_fixed = all(_consists_of(t, _FIXED) for t in transformers)
    if not are_fixed and not (
        len(transformers) == 1 and _consists_of(transformers[0], _BY_COLUMN)
    ):
        return None
    head = columns.fit_transform(X.iloc[:_N_HEAD_ROWS])
    if not are_fixed:
        _learn_by_column(transformers[0], columns.transformers_[0][1], X)
    path = scratch.folder / "transformed.npy"
    # The rows of an earlier fit may still be mapped; they last as long as the map.
    path.unlink(missing_ok=True)
    shape = (len(X), head.shape[1])
    return write_blocks(path, shape, _transform(columns, X, shape[1]))


def _consists_of(transformer: Any, kinds: tuple[type, ...]) -> bool:
    if transformer == "passthrough":
        return FunctionTransformer in kinds
    return all(isinstance(step, kinds) for step in steps_of(transformer))


def _transform(
    columns: ColumnTransformer, X: pd.DataFrame, n_columns: int
) -> Iterator[NDArray[np.float64]]:
    size = count_block_rows(n_columns)
    for begin in range(0, len(X), size):
        yield np.asarray(columns.transform(X.iloc[begin : begin + size]))


def _learn_by_column(unfitted: Any, fitted: Any, X: pd.DataFrame) -> None:
    """Give fitted steps what each column alone teaches them."""
    parts = [steps_of(clone(unfitted).fit(X[[name]])) for name in X.columns]
    for position, step in enumerate(steps_of(fitted)):
        of_columns = [part[position] for part in parts]
        for name in ("statistics_", "mean_", "var_", "scale_"):
            if getattr(step, name, None) is not None:
                learned = [getattr(part, name) for part in of_columns]
                setattr(step, name, np.concatenate(learned))
        if isinstance(step, StandardScaler):
            step.n_samples_seen_ = of_columns[0].n_samples_seen_
