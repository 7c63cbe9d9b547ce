"""A column after reading, and whether it was text."""

from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class ReadColumn:
    """A column after reading.

    Parameters
    ----------
    cells : Series, shape (n_rows,)
        Integers, doubles, truth values, dates or text; missing where there is a gap.
    notes : tuple of str
        What was decided, with the evidence.
    decimal : str
        The decimal mark that the cells leave no doubt about, "." or ","; else empty.
    kind : str
        "date" or "time" if the column holds them; else empty.
    format : str
        The format of such a column, see `date_columns.forms`.
    """

    cells: "pd.Series[Any]"
    notes: tuple[str, ...] = ()
    decimal: str = ""
    kind: str = ""
    format: str = ""


def is_text(column: "pd.Series[Any]") -> bool:
    """Return whether all present cells of a column, shape (n_rows,), are text."""
    if isinstance(column.dtype, pd.StringDtype):
        return True
    return (
        column.dtype == object
        and pd.api.types.infer_dtype(column, skipna=True) == "string"
    )
