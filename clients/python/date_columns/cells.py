"""Reads whole columns of pandas, and splits them in a pipeline of scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from date_columns.forms import DATE, LAST_SECONDS, DateForm
from date_columns.parts import PARTS

_MICROS = 1_000_000
# Bounds of the years 1 to 9999, as in `DateForm`.
_MIN_SECONDS, _MAX_SECONDS = -62_135_596_800, 253_402_300_800
_MAX_SHOWN = 3


def read_seconds(
    column: "pd.Series[Any]", form: DateForm
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read a column of dates or times of day.

    Parameters
    ----------
    column : Series, shape (n_rows,)
        Text, numbers such as 20240131, objects of `datetime`, or of pandas' types for dates.
    form : DateForm
        The form of text.

    Returns
    -------
    seconds : ndarray of float64, shape (n_rows,)
        As `DateForm.read` has them; NaN for a gap and for a cell that is none of the form.
    broken : ndarray of bool, shape (n_rows,)
        Which cells are none of the form.
    """
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.start_time
    if _is_typed(column) and form.kind == DATE and _has_zone(column) == form.has_zone:
        return _read_typed(column)
    codes, cells = pd.factorize(column.astype(object))
    read = [form.read(cell) for cell in cells]
    values = np.array([*read, None], dtype=np.float64)
    seconds = values[codes]
    return seconds, np.isnan(seconds) & (codes >= 0)


def _is_typed(column: "pd.Series[Any]") -> bool:
    """Return whether a column is of NumPy's type of dates, or of pandas' with a zone."""
    return (
        _has_zone(column)
        or isinstance(column.dtype, np.dtype)
        and (column.dtype.kind == "M")
    )


def _has_zone(column: "pd.Series[Any]") -> bool:
    return isinstance(column.dtype, pd.DatetimeTZDtype)


def _read_typed(
    column: "pd.Series[Any]",
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    is_present = column.notna().to_numpy(dtype=bool)
    if _has_zone(column):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    micros = column.to_numpy().astype("datetime64[us]").astype(np.int64)
    whole = micros // _MICROS
    seconds = whole.astype(np.float64) + (micros - whole * _MICROS) / 1e6
    seconds = np.minimum(seconds, LAST_SECONDS)
    fits = is_present & (whole >= _MIN_SECONDS) & (whole < _MAX_SECONDS)
    return np.where(fits, seconds, np.nan), is_present & ~fits


class DateParts(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Replaces each column of dates by the numbers that a model gets of it.

    Parameters
    ----------
    kind : {"date", "time"}
        What the columns hold.
    formats : sequence of str, shape (n_columns,)
        Format of each column, see `DateForm`.
    parts : sequence of sequence of str, shape (n_columns,)
        Names of each column's parts, in `date_columns.parts.PARTS`.
    """

    def __init__(
        self, kind: str, formats: Sequence[str], parts: Sequence[Sequence[str]]
    ) -> None:
        self.kind = kind
        self.formats = formats
        self.parts = parts

    def fit(self, X: pd.DataFrame, y: object = None) -> "DateParts":
        """Learn nothing but the names of the columns.

        Parameters
        ----------
        X : DataFrame, shape (n_rows, n_columns)
            The columns.
        y : object, optional
            Ignored.

        Returns
        -------
        DateParts
            This transformer.
        """
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: pd.DataFrame) -> NDArray[np.float64]:
        """Split the columns.

        Parameters
        ----------
        X : DataFrame, shape (n_rows, n_columns)
            The columns, as `read_seconds` takes them.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_parts)
            The parts of the first column, then those of the next; NaN for gaps.

        Raises
        ------
        ValueError
            If a cell is no date of its column's form.
        """
        forms = [DateForm(self.kind, format_) for format_ in self.formats]
        columns = [
            part
            for position, form in enumerate(forms)
            for part in self._split(X.iloc[:, position], form, self.parts[position])
        ]
        return np.column_stack(columns)

    def _split(
        self, column: "pd.Series[Any]", form: DateForm, names: Sequence[str]
    ) -> list[NDArray[np.float64]]:
        seconds, broken = read_seconds(column, form)
        if broken.any():
            shown = ", ".join(map(repr, column[broken][:_MAX_SHOWN].tolist()))
            raise ValueError(
                f"column {column.name!r} has {int(broken.sum())} cells that are not allowed, such "
                f"as {shown}; it takes {form.allowed}"
            )
        return [PARTS[self.kind][name](seconds) for name in names]
