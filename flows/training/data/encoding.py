"""Turns tables into matrices of doubles, and back.

In a matrix, a truth value is 1 or 0, a date is seconds, and a category is its position in the
feature's list. NaN stands for a missing value, and for a category that is not in the list.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from date_columns.forms import DateForm
from training.data.cells import read_booleans, read_codes, read_numbers
from training.data.date_features import read_dates, write_dates
from training.data.schema import TEMPORAL, Feature, Kind, Schema
from training.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# A row with more indicators than this is kept sparse, because most of them are 0.
MAX_DENSE_INDICATORS = 100


def to_matrix(
    frame: pd.DataFrame, features: tuple[Feature, ...]
) -> NDArray[np.float64]:
    """Turn the columns of a table into a matrix.

    Parameters
    ----------
    frame : DataFrame, shape (n_rows, n_columns)
        Table with a column for each feature; other columns are ignored.
    features : tuple of Feature
        Columns to take.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_features)
        C-order.

    Raises
    ------
    DataError
        If a cell does not fit its column's kind. All such columns are named.
    """
    X = np.empty((len(frame), len(features)), dtype=np.float64)
    problems = []
    for position, feature in enumerate(features):
        try:
            X[:, position] = _read(frame[feature.name], feature)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("; ".join(problems))
    return X


def _read(column: "pd.Series[Any]", feature: Feature) -> NDArray[np.float64]:
    match feature.kind:
        case Kind.NUMERIC:
            return read_numbers(column)
        case Kind.BOOLEAN:
            return read_booleans(column)
        case Kind.DATE | Kind.TIME:
            return read_dates(column, DateForm(feature.kind, feature.format))
        case Kind.CATEGORICAL:
            return read_codes(column, feature.categories)


def to_table(
    X: "NDArray[np.float64] | csr_matrix", schema: Schema
) -> "pd.DataFrame | csr_matrix":
    """Turn rows into the input of a final pipeline: a table with column names, or a sparse matrix.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        Rows of `to_matrix`, or of a sparse data set.
    schema : Schema
        Columns of the rows.

    Returns
    -------
    DataFrame or csr_matrix, shape (n_rows, n_features)
        Cells as the user has them. Categories that are whole numbers become doubles, because pandas
        makes doubles of a column with gaps.
    """
    if schema.is_sparse:
        return X
    if len(schema.of_kind(Kind.NUMERIC)) == len(schema.features):
        return pd.DataFrame(X, columns=list(schema.feature_names))
    columns = {
        feature.name: _write(np.asarray(X[:, position]), feature)
        for position, feature in enumerate(schema.features)
    }
    return pd.DataFrame(columns)


def _write(values: NDArray[np.float64], feature: Feature) -> Any:
    if feature.kind == Kind.NUMERIC:
        return values
    if feature.kind in TEMPORAL:
        return write_dates(values, feature)
    if feature.kind == Kind.BOOLEAN:
        choices = np.array([False, True], dtype=object)
    else:
        choices = np.array(feature.categories, dtype=object)
    is_gap = np.isnan(values)
    cells = choices[np.where(is_gap, 0, values).astype(np.int64)]
    cells[is_gap] = None
    if feature.kind == Kind.BOOLEAN and not feature.nullable:
        return cells.astype(np.bool_)
    is_text = feature.kind == Kind.BOOLEAN or isinstance(feature.categories[0], str)
    return cells if is_text else cells.astype(np.float64)


def count_indicators(schema: Schema) -> int:
    """Return the number of indicators: columns of 0 and 1, one for each category."""
    return sum(len(feature.categories) for feature in schema.categorical)


def expand(
    X: "NDArray[np.float64] | csr_matrix", schema: Schema
) -> "NDArray[np.float64] | csr_matrix":
    """Replace the codes of each categorical column by indicators.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_numeric + n_categorical)
        Rows of `training.data.date_features.split_dates`, or of a sparse data set.
    schema : Schema
        Columns of the rows.

    Returns
    -------
    ndarray or csr_matrix of float64, shape (n_rows, n_numeric + n_indicators)
        The numbers as they are, then the indicators, feature by feature. A NaN
        has indicators of 0. Sparse if there are more than `MAX_DENSE_INDICATORS` indicators.
    """
    if not schema.categorical:
        return X
    n_numeric = schema.n_numeric
    if count_indicators(schema) > MAX_DENSE_INDICATORS:
        return _expand_sparse(X, schema)
    blocks = [
        X[:, [n_numeric + position]] == np.arange(len(feature.categories))
        for position, feature in enumerate(schema.categorical)
    ]
    return np.hstack([X[:, :n_numeric], *blocks])


def _expand_sparse(X: NDArray[np.float64], schema: Schema) -> "csr_matrix":
    from scipy.sparse import csr_matrix, hstack

    blocks = [csr_matrix(X[:, : schema.n_numeric])]
    for position, feature in enumerate(schema.categorical):
        codes = X[:, schema.n_numeric + position]
        rows = np.flatnonzero(~np.isnan(codes))
        columns = codes[rows].astype(np.int64)
        shape = (len(codes), len(feature.categories))
        blocks.append(csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape))
    return hstack(blocks, format="csr")
