"""The columns of a table as they were read, with what was decided about each."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from training.data.date_forms import read_dates
from training.data.dates import is_temporal, write_dates
from training.data.disk import Scratch
from training.data.read_column import ReadColumn
from training.data.schema import WITH_CATEGORIES
from training.data.schema_file import DROP, Override
from training.data.stored_table import (
    Builder,
    FrameBuilder,
    StoredBuilder,
    Table,
)
from training.data.text_columns import read_feature, read_label
from training.errors import DataError


def read_columns(
    frame: Table,
    overrides: Mapping[str, Override],
    roles: tuple[str, ...],
    scratch: Scratch | None = None,
) -> tuple[Table, dict[str, Override], tuple[str, ...]]:
    """Read the text of a table as what it is.

    Parameters
    ----------
    frame : DataFrame or StoredTable, shape (n_rows, n_columns)
        Table without its label. All rows are there, because all cells decide.
    overrides : mapping of str to Override
        The user's settings, by column.
    roles : tuple of str
        Columns that steer training and are no features.
    scratch : Scratch, optional
        Where the columns of a stored table are kept.

    Returns
    -------
    DataFrame or StoredTable, shape (n_rows, n_columns)
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
    builder = _make_builder(frame, scratch)
    read = _read_all(frame, overrides, roles, "", builder)
    marks = {column.decimal for column in read.values()} - {""}
    if marks == {","}:
        # Then 1.234 and 1,234 are read by what the other columns show.
        builder = _make_builder(frame, scratch)
        read = _read_all(frame, overrides, roles, ",", builder)
    notes = tuple(note for column in read.values() for note in column.notes)
    settings = {**overrides, **_find_dates(read, overrides)}
    return builder.finish(), settings, notes


def _make_builder(frame: Table, scratch: Scratch | None) -> Builder:
    if isinstance(frame, pd.DataFrame):
        return FrameBuilder(frame.index)
    assert scratch is not None
    return StoredBuilder(frame, scratch.folder)


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
    frame: Table,
    overrides: Mapping[str, Override],
    roles: tuple[str, ...],
    decimal: str,
    builder: Builder,
) -> dict[str, ReadColumn]:
    columns: dict[str, ReadColumn] = {}
    problems: list[str] = []
    for label, column in frame.items():
        name = str(label)
        override = overrides.get(name, Override())
        try:
            read = _read(column, override, name in roles, decimal)
            kept = builder.add(name, read.cells, column)
            columns[name] = replace(read, cells=kept)
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
    if override.kind in WITH_CATEGORIES and is_temporal(column):
        return ReadColumn(write_dates(column))
    if is_role:
        return read_label(column, override.gaps)
    dates = read_dates(column, override)
    return read_feature(column, override, decimal) if dates is None else dates
