"""What a model gets of columns of dates and times: seconds in the matrix become several numbers."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from date_columns.cells import read_seconds
from date_columns.forms import DateForm
from date_columns.parts import PARTS
from training.data.cells import refuse
from training.data.schema import TEMPORAL, Feature, Kind, Schema

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def read_dates(column: "pd.Series[Any]", form: DateForm) -> NDArray[np.float64]:
    """Read a column of dates or times of day.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        Text in this form, or types of dates.
    form : DateForm
        Form of the column.

    Returns
    -------
    ndarray of float64, shape (n_rows,)
        Seconds since 1970-01-01T00:00:00Z, or since midnight; NaN where a cell is missing.

    Raises
    ------
    DataError
        If a cell is not of this form.
    """
    seconds, broken = read_seconds(column, form)
    refuse(column, broken, f"is not {form.allowed}")
    return seconds


def choose_parts(form: DateForm, seconds: NDArray[np.float64]) -> tuple[str, ...]:
    """Choose what a model gets of a column: the time itself, and the parts of it that vary.

    Parameters
    ----------
    form : DateForm
        Form of the column.
    seconds : ndarray of float64, shape (n_rows,)
        The column, NaN for gaps.

    Returns
    -------
    tuple of str
        Names in `date_columns.parts.PARTS`, one or more.
    """
    present = seconds[~np.isnan(seconds)]
    (always, _), *others = PARTS[form.kind].items()
    varying = [name for name, part in others if present.size and np.ptp(part(present))]
    return (always, *varying)


def split_dates(
    X: "NDArray[np.float64] | csr_matrix", schema: Schema
) -> "NDArray[np.float64] | csr_matrix":
    """Turn columns into the numbers of a model: a date becomes several, the others stay.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_columns)
        Rows of a data set.
    schema : Schema
        Their columns.

    Returns
    -------
    ndarray or csr_matrix of float64, shape (n_rows, n_numbers)
        C-order; `X` itself if there is no date.
    """
    if not schema.temporal:
        return X
    columns = [
        column
        for position, feature in enumerate(schema.features)
        for column in _split(np.asarray(X[:, position]), feature)
    ]
    return np.column_stack(columns)


def _split(values: NDArray[np.float64], feature: Feature) -> list[NDArray[np.float64]]:
    if feature.kind not in TEMPORAL:
        return [values]
    return [PARTS[feature.kind][name](values) for name in feature.parts]


def write_texts(values: NDArray[np.float64], feature: Feature) -> NDArray[Any]:
    """Return seconds, shape (n_rows,), as text in ISO 8601; None for gaps."""
    form = DateForm(feature.kind, feature.format)
    texts = [
        None if is_gap else form.write(value)
        for value, is_gap in zip(values.tolist(), np.isnan(values))
    ]
    return np.array(texts, dtype=object)


def write_dates(values: NDArray[np.float64], feature: Feature) -> Any:
    """Return seconds, shape (n_rows,), as the cells of a table, which are read as the same seconds.

    Dates are of pandas' type with microseconds, in UTC if the column has zones; times are text.
    """
    if feature.kind == Kind.TIME:
        return write_texts(values, feature)
    form = DateForm(feature.kind, feature.format)
    is_gap = np.isnan(values)
    filled = np.where(is_gap, 0.0, values)
    whole = np.floor(filled)
    micros = whole.astype(np.int64) * 1_000_000
    micros += np.round((filled - whole) * 1e6).astype(np.int64)
    moments = micros.astype("datetime64[us]")
    moments[is_gap] = np.datetime64("NaT")
    column = pd.Series(moments)
    return column.dt.tz_localize("UTC") if form.has_zone else column
