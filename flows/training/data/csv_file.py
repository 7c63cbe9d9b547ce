"""CSV files: every cell as the text that it is."""

import csv
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from table_files.csv_form import CsvForm, find_csv_form
from table_files.packed_file import is_packed, open_bytes
from table_files.text_file import HEAD_BYTES, read_end, read_head
from training.data.disk import Scratch, told_full_disk
from training.data.header import check_header
from training.data.stored_table import StoredTable, Table
from training.errors import DataError
from training.text import first_line

if TYPE_CHECKING:
    import pyarrow

# How many times as large the text of a compressed file is, at a guess.
PACKED_RATIO = 5


@dataclass(frozen=True, slots=True, eq=False)
class CsvTable:
    """The cells of a CSV file.

    Parameters
    ----------
    cells : DataFrame or StoredTable of str, shape (n_rows, n_columns)
        Text; nothing is missing yet.
    notes : tuple of str
        What was found that is not plain CSV, for the user.
    """

    cells: Table
    notes: tuple[str, ...]


def read_csv_file(path: Path, scratch: Scratch | None = None) -> CsvTable:
    """Read a CSV file, compressed or not.

    Parameters
    ----------
    path : Path
        A file whose first line that is no remark names the columns.
    scratch : Scratch, optional
        Where the cells of a large file are kept.

    Returns
    -------
    CsvTable
        Its cells. An unnamed first column with row numbers or row names is left out.

    Raises
    ------
    DataError
        If the file is not a CSV table.
    """
    try:
        form = find_csv_form(path, read_head(path))
        folder = _find_folder(path, scratch)
        frame = _read(path, form, folder)
        _check_last_quote(path, form, frame)
    except (ValueError, OSError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV table: {first_line(error)}") from None
    _refuse_second_header(path, frame, form.layout.names)
    kept, left_out = _leave_out_unnamed(frame, form.layout.names)
    names = [form.layout.names[position] for position in kept]
    check_header(path, names)
    frame = _name_columns(frame, kept, names)
    example = "" if form.is_utf8 else _show_letters(frame)
    found = form.describe(example)
    notes = [f"{path.name}: {found}"] if found else []
    return CsvTable(frame, (*notes, *left_out))


def _find_folder(path: Path, scratch: Scratch | None) -> Path | None:
    """Return the folder for the cells of a large file; None for a small one."""
    if scratch is None:
        return None
    n_bytes = path.stat().st_size * (PACKED_RATIO if is_packed(path) else 1)
    return scratch.folder if n_bytes >= scratch.large_bytes else None


def _read(path: Path, form: CsvForm, folder: Path | None) -> Table:
    import pyarrow
    from pyarrow import csv as arrow_csv

    handler, layout = _RowHandler(), form.layout
    positions = [str(position) for position in range(len(layout.names))]
    if layout.is_empty:
        return pd.DataFrame(columns=positions, dtype="str")
    options = {
        "read_options": arrow_csv.ReadOptions(
            encoding="utf8" if form.is_utf8 else form.encoding,
            # Names may repeat here; the header is checked later.
            column_names=positions,
            block_size=HEAD_BYTES,
            skip_rows=layout.n_skipped,
        ),
        "parse_options": arrow_csv.ParseOptions(
            delimiter=layout.format.separator,
            quote_char=layout.format.quote,
            double_quote=not layout.format.escape,
            escape_char=layout.format.escape or False,
            newlines_in_values=True,
            invalid_row_handler=handler,
        ),
        "convert_options": arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(positions, pyarrow.large_string()),
            strings_can_be_null=False,
        ),
    }
    with open_bytes(path) as file:
        try:
            if folder is not None:
                return _store(arrow_csv.open_csv(file, **options), folder)
            return _to_frame(arrow_csv.read_csv(file, **options))
        except pyarrow.ArrowInvalid as error:
            raise DataError(
                f"{path} is not a CSV table: {handler.fault or _explain(error)}"
            ) from None


def _store(reader: Any, folder: Path) -> StoredTable:
    """Write the cells into a file, batch by batch; a column of it is mapped when it is read."""
    import pyarrow

    path, n_rows = folder / "cells.arrow", 0
    with (
        told_full_disk(folder),
        reader,
        pyarrow.OSFile(str(path), "wb") as sink,
        pyarrow.ipc.new_file(sink, reader.schema) as writer,
    ):
        for batch in reader:
            writer.write_batch(batch)
            n_rows += len(batch)
    load = partial(_load_column, path)
    return StoredTable(
        {name: partial(load, name) for name in reader.schema.names}, n_rows
    )


def _load_column(path: Path, name: str) -> "pd.Series[Any]":
    import pyarrow

    with pyarrow.memory_map(str(path)) as source:
        table = pyarrow.ipc.open_file(source).read_all()
        return _to_frame(table.select([name]))[name]


def _explain(error: Exception) -> str:
    if "straddling" in str(error):
        return "a row has over 16 MiB, as after a quote that nothing closes; correct it"
    return first_line(error)


def _to_frame(table: "pyarrow.Table") -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


class _RowHandler:
    """Refuses rows with more or fewer cells than the others; Arrow calls it.

    Attributes
    ----------
    fault : str
        The first such row, in words; empty if there is none.
    """

    def __init__(self) -> None:
        self.fault = ""

    def __call__(self, row: Any) -> str:
        # Arrow passes no exception on from here.
        self.fault = self.fault or (
            f"its rows have {row.expected_columns} cells, but one has {row.actual_columns}: "
            f"{row.text[:100].strip()!r}; correct that row"
        )
        return "error"


def _check_last_quote(path: Path, form: CsvForm, frame: Table) -> None:
    """Refuse a file whose last cell begins with a quote that nothing closes; Arrow does not."""
    last = str(frame[frame.columns[-1]].iloc[-1]) if len(frame) else ""
    if "\n" in last or "\r" in last:
        form.check_end(last, read_end(path, form.encoding))


def _refuse_second_header(path: Path, frame: Table, header: tuple[str, ...]) -> None:
    """Refuse a table with its header among its rows; a model would learn it as a class."""
    if len(header) != len(frame.columns):
        return
    rows = np.arange(len(frame))
    for name, cell in zip(frame.columns, header, strict=True):
        rows = rows[(frame[name].iloc[rows] == cell).to_numpy(dtype=bool)]
        if not len(rows):
            return
    raise DataError(
        f"{path} is not a CSV table: row {rows[0] + 1} is the header again, as in files that were "
        "joined; remove such rows"
    )


def _leave_out_unnamed(
    frame: Table, names: tuple[str, ...]
) -> tuple[list[int], list[str]]:
    """Return the columns to keep: not those without a name that number rows or are empty."""
    kept, notes = list(range(len(names))), []
    if names[0] == "" and len(names) > 1 and frame["0"].is_unique:
        kept.remove(0)
        notes.append(
            f"column 1 has no name and {_show_first(frame['0'])}no two equal cells, as row numbers "
            "have: left out"
        )
    last = len(names) - 1
    if names[-1] == "" and last in kept and not frame[str(last)].str.strip().any():
        kept.remove(last)
        notes.append(
            f"column {last + 1} has neither a name nor a cell, as a separator at the end of each "
            "line makes: left out"
        )
    return kept, notes


def _name_columns(frame: Table, kept: list[int], names: list[str]) -> Table:
    """Return some columns under their names; so far, they have numbers."""
    if isinstance(frame, StoredTable):
        return frame.rename(dict(zip(map(str, kept), names, strict=True)))
    frame = frame.iloc[:, kept]
    frame.columns = pd.Index(names, dtype=object)
    return frame


def _show_first(column: "pd.Series[str]") -> str:
    return f"begins with {column.iloc[0]!r}, and has " if len(column) else ""


def _show_letters(frame: Table) -> str:
    """Return a cell with a letter beyond ASCII, by which the user sees whether all is well."""
    for name in frame.columns:
        column = frame[name]
        foreign = column[column.str.contains(r"[^\x00-\x7f]")]
        if len(foreign):
            return f", as in {foreign.iloc[0][:40]!r}"
    return ""
