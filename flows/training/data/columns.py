"""The columns of a table as they were read, with what was decided about each."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from training.data.date_forms import read_dates
from training.data.dates import is_temporal, write_dates
from training.data.read_column import ReadColumn
from training.data.schema import Kind
from training.data.schema_file import DROP, Override
from training.data.text_columns import read_feature, read_label
from training.errors import DataError


def read_columns(
    frame: pd.DataFrame, overrides: Mapping[str, Override], roles: tuple[str, ...]
) -> tuple[pd.DataFrame, dict[str, Override], tuple[str, ...]]:
    """Read the text of a table as what it is.

    Parameters
    ----------
    frame : DataFrame, shape (n_rows, n_columns)
        Table without its label. All rows are there, because all cells decide.
    overrides : mapping of str to Override
        The user's settings, by column.
    roles : tuple of str
        Columns that steer training and are no features.

    Returns
    -------
    DataFrame, shape (n_rows, n_columns)
        The same columns: numbers, truth values, text and what Parquet has beside them.
    dict of str to Override
        The settings, with the kind and the format of columns that were found to hold dates.
    tuple of str
        What was decided, with the evidence, a line each.

    Raises
    ------
    DataError
        If a column holds numbers, and cells that are neither numbers nor gaps. All such columns are
        named.
    """
    read = _read_all(frame, overrides, roles, "")
    marks = {column.decimal for column in read.values()} - {""}
    if marks == {","}:
        # Then 1.234 and 1,234 are read by what the other columns show.
        read = _read_all(frame, overrides, roles, ",")
    cells = {name: column.cells for name, column in read.items()}
    notes = tuple(note for column in read.values() for note in column.notes)
    settings = {**overrides, **_find_dates(read, overrides)}
    return pd.DataFrame(cells, index=frame.index), settings, notes


def _find_dates(
    read: Mapping[str, ReadColumn], overrides: Mapping[str, Override]
) -> dict[str, Override]:
    return {
        name: replace(
            overrides.get(name, Override()), kind=column.kind, format=column.format
        )
        for name, column in read.items()
        if column.kind
    }


def _read_all(
    frame: pd.DataFrame,
    overrides: Mapping[str, Override],
    roles: tuple[str, ...],
    decimal: str,
) -> dict[str, ReadColumn]:
    columns: dict[str, ReadColumn] = {}
    problems: list[str] = []
    for position, name in enumerate(map(str, frame.columns)):
        override = overrides.get(name, Override())
        try:
            columns[name] = _read(
                frame.iloc[:, position], override, name in roles, decimal
            )
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("; ".join(problems))
    return columns


def _read(
    column: "pd.Series[Any]", override: Override, is_role: bool, decimal: str
) -> ReadColumn:
    if override.kind == DROP:
        return ReadColumn(column)
    if override.kind == Kind.CATEGORICAL and is_temporal(column):
        return ReadColumn(write_dates(column))
    if is_role:
        return read_label(column, override.gaps)
    dates = read_dates(column, override)
    return read_feature(column, override, decimal) if dates is None else dates
