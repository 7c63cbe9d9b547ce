"""Turns tables into matrices of doubles, and back.

In a matrix, a truth value is 1 or 0, a date is seconds, and a category is its position in the
feature's list. NaN stands for a missing value, and for a category that is not in the list.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from date_columns.forms import DateForm
from training.data.cells import read_booleans, read_codes, read_numbers
from training.data.date_features import read_dates, write_dates
from training.data.matrix_file import write_columns
from training.data.schema import TEMPORAL, Feature, Kind, Schema
from training.data.stored_table import StoredTable, Table
from training.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# A row with more indicators than this is kept sparse, because most of them are 0.
MAX_DENSE_INDICATORS = 100


def to_matrix(frame: Table, features: tuple[Feature, ...]) -> NDArray[np.float64]:
    """Turn the columns of a table into a matrix.

    Parameters
    ----------
    frame : DataFrame or StoredTable, shape (n_rows, n_columns)
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
    for position, column in enumerate(_encode(frame, features)):
        X[:, position] = column
    return X


def store_matrix(
    table: StoredTable, features: tuple[Feature, ...], path: Path
) -> NDArray[np.float64]:
    """Turn the columns of a stored table into a matrix in a file.

    Parameters
    ----------
    table : StoredTable, shape (n_rows, n_columns)
        Table with a column for each feature; other columns are ignored.
    features : tuple of Feature
        Columns to take.
    path : Path
        The .npy file to write.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_features)
        The values of `to_matrix`, mapped from the file in Fortran order.

    Raises
    ------
    DataError
        As `to_matrix` does, and if the disk is full.
    """
    return write_columns(path, (len(table), len(features)), _encode(table, features))


def _encode(
    table: Table, features: tuple[Feature, ...]
) -> Iterator[NDArray[np.float64]]:
    """Yield the doubles of each column; raise DataError at the end if cells do not fit."""
    problems = []
    for feature in features:
        try:
            column = _read(table[feature.name], feature)
        except DataError as error:
            problems.append(str(error))
        else:
            yield column
    if problems:
        raise DataError("; ".join(problems))


def _read(column: "pd.Series[Any]", feature: Feature) -> NDArray[np.float64]:
    match feature.kind:
        case Kind.NUMERIC:
            return read_numbers(column)
        case Kind.BOOLEAN:
            return read_booleans(column)
        case Kind.DATE | Kind.TIME:
            return read_dates(column, DateForm(feature.kind, feature.format))
        case Kind.MEANS | Kind.CATEGORICAL:
            return read_codes(column, feature.categories)


def to_table(
    X: "NDArray[np.float64] | csr_matrix", schema: Schema, *, copy: bool = True
) -> "pd.DataFrame | csr_matrix":
    """Turn rows into the input of a final pipeline: a table with column names, or a sparse matrix.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        Rows of `to_matrix`, or of a sparse data set.
    schema : Schema
        Columns of the rows.
    copy : bool, default=True
        Whether a table of numbers is a copy. A view has another layout, by which sums of a column
        may differ in their last bits.

    Returns
    -------
    DataFrame or csr_matrix, shape (n_rows, n_features)
        Cells as the user has them. Categories that are whole numbers become doubles, because pandas
        makes doubles of a column with gaps.
    """
    if schema.is_sparse:
        return X
    if len(schema.of_kind(Kind.NUMERIC)) == len(schema.features):
        return pd.DataFrame(X, columns=list(schema.feature_names), copy=copy)
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
    X : ndarray or csr_matrix of float64, shape (n_rows, n_before + n_categorical)
        Rows of `training.data.date_features.split_dates`, or of a sparse data set.
    schema : Schema
        Columns of the rows.

    Returns
    -------
    ndarray or csr_matrix of float64, shape (n_rows, n_before + n_indicators)
        The columns before the categorical ones as they are, then the indicators, feature by
        feature. A NaN has indicators of 0. Sparse if there are more than `MAX_DENSE_INDICATORS`
        indicators.
    """
    if not schema.categorical:
        return X
    n_before = X.shape[1] - len(schema.categorical)
    if count_indicators(schema) > MAX_DENSE_INDICATORS:
        return _expand_sparse(X, schema)
    blocks = [
        X[:, [n_before + position]] == np.arange(len(feature.categories))
        for position, feature in enumerate(schema.categorical)
    ]
    return np.hstack([X[:, :n_before], *blocks])


def _expand_sparse(X: NDArray[np.float64], schema: Schema) -> "csr_matrix":
    from scipy.sparse import csr_matrix, hstack

    n_before = X.shape[1] - len(schema.categorical)
    blocks = [csr_matrix(X[:, :n_before])]
    for position, feature in enumerate(schema.categorical):
        codes = X[:, n_before + position]
        rows = np.flatnonzero(~np.isnan(codes))
        columns = codes[rows].astype(np.int64)
        shape = (len(codes), len(feature.categories))
        blocks.append(csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape))
    return hstack(blocks, format="csr")
