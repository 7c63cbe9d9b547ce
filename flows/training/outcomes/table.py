"""The table to train again on: what callers sent, and what became true."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from training.data.date_forms import read_dates
from training.data.gaps import GAPS, clear_gaps, trim
from training.data.read_column import is_text
from training.data.schema_file import Override
from training.data.text_columns import read_feature
from training.errors import DataError, TrainingError
from training.outcomes.joining import Joined
from training.outcomes.log_files import Cell, LogRow
from training.text import quote_list


def write_table(joined: Joined, target: str, path: Path) -> tuple[str, ...]:
    """Write features and true label as Parquet, under the names that training takes.

    Parameters
    ----------
    joined : Joined
        Rows and labels.
    target : str
        Name of the label's column.
    path : Path
        The file.

    Returns
    -------
    tuple of str
        A line on features that rows of some versions have not.

    Raises
    ------
    TrainingError
        If a feature has the name of the label's column.
    """
    rows = [row for row, _ in joined.rows]
    features = _turn(rows)
    if target in features:
        raise TrainingError(
            f"the label's column {target!r} is a feature too; rename it in the outcomes"
        )
    columns = {name: _to_array(cells) for name, cells in features.items()}
    columns[target] = pa.array([label for _, label in joined.rows], pa.string())
    pq.write_table(pa.table(columns), path)
    return _tell_partial(rows, list(features))


def _turn(rows: Sequence[LogRow]) -> dict[str, list[Cell]]:
    """Return the cells of each feature, None for rows whose version does not have it."""
    columns: dict[str, list[Cell]] = {}
    for number, row in enumerate(rows):
        for name, cell in zip(row.names, row.cells, strict=True):
            if name not in columns:
                columns[name] = [None] * len(rows)
            columns[name][number] = cell
    return columns


def _tell_partial(rows: Sequence[LogRow], names: Sequence[str]) -> tuple[str, ...]:
    layouts = {row.names for row in rows}
    partial = [name for name in names if not all(name in layout for layout in layouts)]
    if not partial:
        return ()
    return (
        f"{len(partial)} features are gaps in rows whose version does not have them: "
        f"{quote_list(partial)}",
    )


def _to_array(cells: Sequence[Cell]) -> pa.Array:
    """Return a column; if versions took it for different things, as text."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {int, float}:
        return pa.array([None if cell is None else float(cell) for cell in cells])
    if len(kinds) < 2 and str not in kinds:
        try:
            return pa.array(cells)
        except OverflowError:  # a whole number of more than 64 bits
            pass
    return _to_text([None if cell is None else _write(cell) for cell in cells])


def _to_text(cells: Sequence[str | None]) -> pa.Array:
    """Return text as a column that training takes for text or dates.

    Callers send numbers and truth values as such, so text stands for categories or dates. Those of
    one month may all look like numbers, and then only Parquet's own categories stay categories.
    """
    column: "pd.Series[str]" = pd.Series(
        pa.array(cells, pa.string()).to_pandas(), dtype="str"
    )
    if read_dates(column, Override()) is not None or _stays_text(column):
        return pa.array(cells, pa.string())
    present, _ = clear_gaps(trim(column), GAPS)
    return pa.array(present, pa.string(), from_pandas=True).dictionary_encode()


def _stays_text(column: "pd.Series[str]") -> bool:
    try:
        return is_text(read_feature(column, Override()).cells)
    except DataError:  # numbers, and texts among them that would be refused
        return False


def _write(cell: Any) -> str:
    """Return a cell as a table of text has it."""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)
