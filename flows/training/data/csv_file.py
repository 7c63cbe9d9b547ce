"""CSV files: every cell as the text that it is."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from training.data.csv_layout import Format, Layout, find_layout
from training.data.header import check_header
from training.data.text_file import (
    HEAD_BYTES,
    decode_head,
    find_encoding,
    open_bytes,
    read_end,
    read_head,
    refuse_other_kinds,
)
from training.errors import DataError
from training.text import first_line

if TYPE_CHECKING:
    import pyarrow

_SEPARATOR_NAMES = {"\t": "tab"}


@dataclass(frozen=True, slots=True, eq=False)
class CsvTable:
    """The cells of a CSV file.

    Parameters
    ----------
    cells : DataFrame of str, shape (n_rows, n_columns)
        Text; nothing is missing yet.
    notes : tuple of str
        What was found that is not plain CSV, for the user.
    """

    cells: pd.DataFrame
    notes: tuple[str, ...]


def read_csv_file(path: Path) -> CsvTable:
    """Read a CSV file, compressed or not.

    Parameters
    ----------
    path : Path
        A file whose first line that is no remark names the columns.

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
        head = read_head(path)
        refuse_other_kinds(path, head)
        encoding = find_encoding(path, head)
        layout = find_layout(path, decode_head(head, encoding))
        frame = _read(path, encoding, layout)
        _check_last_quote(path, encoding, layout, frame)
    except (ValueError, OSError, EOFError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV table: {first_line(error)}") from None
    frame, left_out = _drop_unnamed(frame, layout.names)
    check_header(path, list(frame.columns))
    found = _describe(path, encoding, layout, frame)
    return CsvTable(frame, (*found, *left_out))


def _read(path: Path, encoding: str, layout: Layout) -> pd.DataFrame:
    import pyarrow
    from pyarrow import csv as arrow_csv

    handler = _RowHandler(layout)
    positions = [str(position) for position in range(len(layout.names))]
    if layout.is_empty and path.stat().st_size < HEAD_BYTES:
        return pd.DataFrame(columns=positions, dtype="str")
    options = {
        "read_options": arrow_csv.ReadOptions(
            encoding="utf8" if encoding.startswith("utf-8") else encoding,
            # Names may repeat here; the header is checked later.
            column_names=positions,
            block_size=HEAD_BYTES,
            skip_rows=layout.n_skipped,
            skip_rows_after_names=0 if layout.is_ragged else 1,
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
            return _to_frame(arrow_csv.read_csv(file, **options))
        except pyarrow.ArrowInvalid as error:
            raise DataError(
                f"{path} is not a CSV table: {handler.fault or _explain(error)}"
            ) from None


def _explain(error: Exception) -> str:
    if "straddling" in str(error):
        return "a row has over 16 MiB, as after a quote that nothing closes; correct it"
    return first_line(error)


def _to_frame(table: "pyarrow.Table") -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


class _RowHandler:
    """Decides about rows with more or fewer cells than the others; Arrow calls it.

    Parameters
    ----------
    layout : Layout
        The file's layout.

    Attributes
    ----------
    fault : str
        The first such row, in words; empty if there is none.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.fault = ""

    def __call__(self, row: Any) -> str:
        is_header = row.actual_columns == len(self._layout.header)
        if self._layout.is_ragged and is_header:
            return "skip"
        # Arrow passes no exception on from here.
        self.fault = self.fault or (
            f"its rows have {row.expected_columns} cells, but one has {row.actual_columns}: "
            f"{row.text[:100].strip()!r}; correct that row"
        )
        return "error"


def _check_last_quote(
    path: Path, encoding: str, layout: Layout, frame: pd.DataFrame
) -> None:
    """Refuse a file whose last cell begins with a quote that nothing closes; Arrow does not."""
    last = str(frame.iloc[-1, -1]) if len(frame) else ""
    is_long = "\n" in last or "\r" in last
    if is_long and not read_end(path, encoding).endswith(layout.format.quote):
        raise DataError(
            f"{path} is not a CSV table: nothing closes the quote before {last[:40]!r}; correct it"
        )


def _drop_unnamed(
    frame: pd.DataFrame, names: tuple[str, ...]
) -> tuple[pd.DataFrame, list[str]]:
    """Leave out columns without a name that hold row numbers, row names or nothing."""
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
    frame = frame.iloc[:, kept]
    frame.columns = pd.Index([names[position] for position in kept], dtype=object)
    return frame, notes


def _show_first(column: "pd.Series[str]") -> str:
    return f"begins with {column.iloc[0]!r}, and has " if len(column) else ""


def _describe(
    path: Path, encoding: str, layout: Layout, frame: pd.DataFrame
) -> list[str]:
    """Return a line that says how the file is read, if it is not plain CSV in UTF-8."""
    found = []
    form = layout.format
    if form != Format():
        name = _SEPARATOR_NAMES.get(form.separator, form.separator)
        found.append(f"separator {name!r}")
    if form.quote != '"' or form.escape:
        found.append(f"quote {form.quote!r}, escape {form.escape!r}")
    if not encoding.startswith("utf-8"):
        found.append(f"encoding {encoding}{_show_letters(frame)}")
    if layout.n_skipped:
        found.append(f"line {layout.n_skipped + 1} is the header")
    return [f"{path.name}: {', '.join(found)}"] if found else []


def _show_letters(frame: pd.DataFrame) -> str:
    """Return a cell with a letter beyond ASCII, by which the user sees whether all is well."""
    for name in frame.columns:
        foreign = frame[name][frame[name].str.contains(r"[^\x00-\x7f]")]
        if len(foreign):
            return f", as in {foreign.iloc[0][:40]!r}"
    return ""
