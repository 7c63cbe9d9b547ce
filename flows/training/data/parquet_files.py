"""Parquet files, one or a folder of them: parts of one table."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from table_files.packed_file import PACKINGS
from table_files.text_file import find_other_kind
from training.data.disk import FileMarks
from training.data.header import check_header
from training.data.stored_table import StoredTable
from training.errors import DataError
from training.text import first_line

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet


def read_parquet_files(
    paths: Sequence[Path], only: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read Parquet files as one table.

    Parameters
    ----------
    paths : sequence of Path
        One file or more, in the order of their rows. Types may differ as they do when a writer
        saw other rows: a column may be empty, a whole number or a fraction, of 32 or of 64 bits.
    only : sequence of str, optional
        Columns to read; all by default.

    Returns
    -------
    DataFrame, shape (n_rows, n_columns)
        The rows of all files, with the columns in the first file's order, among them the named
        index that pandas writes. What pandas wrote as a category is one again, and whole numbers
        with gaps stay whole.

    Raises
    ------
    DataError
        If a file is not a Parquet table, or two files differ in a column's name or type.
    """
    import pyarrow

    tables = [_read(path, only) for path in paths]
    categories = {name for table in tables for name in _list_categories(table.schema)}
    periods = {
        name: frequency
        for table in tables
        for name, frequency in _list_periods(table.schema)
    }
    plain = [_decode(table) for table in tables]
    for path, table in zip(paths[1:], plain[1:], strict=True):
        _check_same_columns((path, table), (paths[0], plain[0]))
    try:
        table = pyarrow.concat_tables(plain, promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise DataError(
            f"{paths[0].parent}: the parts do not make one table: {first_line(error)}; write all "
            "parts with the same types"
        ) from None
    return _to_frame(table, categories, periods)


def open_parquet_files(paths: Sequence[Path]) -> StoredTable:
    """Open Parquet files as one table whose columns are read when they are asked for.

    Parameters
    ----------
    paths : sequence of Path
        As in `read_parquet_files`.

    Returns
    -------
    StoredTable, shape (n_rows, n_columns)
        The columns that `read_parquet_files` returns. A column cannot be read any more after a file
        has changed.

    Raises
    ------
    DataError
        As `read_parquet_files` does; faults of cells follow when their column is read.
    """
    marks = FileMarks.of(paths)
    heads, n_rows = zip(*map(_read_head, paths), strict=True)
    plain = list(map(_decode, heads))
    for path, head in zip(paths[1:], plain[1:], strict=True):
        _check_same_columns((path, head), (paths[0], plain[0]))
    load = partial(_load_column, tuple(paths), marks)
    names = plain[0].column_names
    return StoredTable({name: partial(load, name) for name in names}, sum(n_rows))


def count_bytes(paths: Sequence[Path]) -> int:
    """Return the bytes of the cells of Parquet files, without compression."""
    total = 0
    for path in paths:
        with _open(path) as file:
            groups = map(file.metadata.row_group, range(file.num_row_groups))
            # Of columns with few values, files hold positions of 4 bytes or fewer.
            n_cells = file.metadata.num_rows * file.metadata.num_columns
            total += max(sum(group.total_byte_size for group in groups), 8 * n_cells)
    return total


def _load_column(
    paths: tuple[Path, ...], marks: FileMarks, name: str
) -> "pd.Series[Any]":
    try:
        return read_parquet_files(paths, [name])[name]
    finally:
        # A file that changed may also be one that cannot be read.
        marks.check()


@contextmanager
def _open(path: Path) -> Iterator["parquet.ParquetFile"]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        fault = _find_fault(path) or first_line(error)
        raise DataError(f"{path} is not a Parquet table: {fault}") from None


def _find_fault(path: Path) -> str:
    """Say what a file is instead of Parquet; empty if its first bytes do not tell."""
    if not path.is_file():
        return "it is no file"
    with path.open("rb") as file:
        head = file.read(1000)
    if any(head.startswith(packing.mark) for packing in PACKINGS.values()):
        return "it is compressed as a whole; unpack it"
    if head.startswith(b"PAR1"):
        return "" if _has_end(path) else "its end is missing; copy it again"
    other = find_other_kind(head)
    return f"it is {other}" if other else ""


def _has_end(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return file.read() == b"PAR1"


def _read_head(path: Path) -> tuple["pyarrow.Table", int]:
    """Return a table without rows, and the number of rows in the file."""
    import pyarrow

    with _open(path) as file:
        table, n_rows = file.schema_arrow.empty_table(), file.metadata.num_rows
    for name, _ in _list_ranges(table.schema, n_rows):
        table = table.append_column(name, pyarrow.array([], pyarrow.int64()))
    return _leave_out_indexes(path, table), n_rows


def _read(path: Path, only: Sequence[str] | None) -> "pyarrow.Table":
    import pyarrow

    with _open(path) as file:
        names = file.schema_arrow.names
        wanted = names if only is None else [name for name in only if name in names]
        table = file.read(columns=None if only is None else wanted)
    if only is not None:
        # A name with a point may also mean a part of a column.
        table = table.select(wanted)
    for name, cells in _list_ranges(table.schema, len(table)):
        if only is None or name in only:
            table = table.append_column(name, pyarrow.array(cells))
    return _leave_out_indexes(path, table)


def _leave_out_indexes(path: Path, table: "pyarrow.Table") -> "pyarrow.Table":
    """Leave out an index without a name, which pandas writes if it is no range."""
    names = [name for name in table.column_names if not _is_unnamed_index(name)]
    check_header(path, names)
    return table.select(names)


def _list_ranges(schema: "pyarrow.Schema", n_rows: int) -> list[tuple[str, range]]:
    """Return named indexes that count up, of which pandas writes the ends only."""
    ranges = []
    for index in (schema.pandas_metadata or {}).get("index_columns", ()):
        if not isinstance(index, dict) or index["name"] is None:
            continue
        cells = range(index["start"], index["stop"], index["step"])
        # Other programs keep pandas' notes when they change the rows.
        if len(cells) == n_rows:
            ranges.append((str(index["name"]), cells))
    return ranges


def _is_unnamed_index(name: str) -> bool:
    prefix, suffix = "__index_level_", "__"
    number = name.removeprefix(prefix).removesuffix(suffix)
    return number.isdecimal() and name == f"{prefix}{number}{suffix}"


def _list_categories(schema: "pyarrow.Schema") -> set[str]:
    """Return the columns that hold categories; Parquet itself keeps those of text only."""
    from pyarrow import types

    stated = {
        str(column["field_name"])
        for column in (schema.pandas_metadata or {}).get("columns", ())
        if column["pandas_type"] == "categorical"
    }
    return stated | {field.name for field in schema if types.is_dictionary(field.type)}


def _list_periods(schema: "pyarrow.Schema") -> list[tuple[str, str]]:
    """Return the columns that hold pandas' periods, which Parquet keeps as numbers."""
    return [
        (str(column["field_name"]), str(column["numpy_type"]))
        for column in (schema.pandas_metadata or {}).get("columns", ())
        if str(column["numpy_type"]).startswith("period[")
    ]


def _decode(table: "pyarrow.Table") -> "pyarrow.Table":
    """Return a table without dictionaries, extensions and metadata, by which parts may differ."""
    import pyarrow
    from pyarrow import types

    fields = []
    for field in table.schema:
        kind = field.type
        if isinstance(kind, pyarrow.BaseExtensionType):
            kind = kind.storage_type
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_decimal(kind):
            kind = pyarrow.float64()
        if types.is_string(kind):
            kind = pyarrow.large_string()
        fields.append(pyarrow.field(field.name, kind))
    return table.cast(pyarrow.schema(fields))


def _to_frame(
    table: "pyarrow.Table", categories: set[str], periods: dict[str, str]
) -> pd.DataFrame:
    columns: dict[str, Any] = {}
    for name in table.column_names:
        cells = table[name]
        if name in periods:
            columns[name] = _to_periods(cells, periods[name])
        elif name in categories:
            columns[name] = cells.combine_chunks().dictionary_encode().to_pandas()
        else:
            columns[name] = _to_series(name, cells)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def _to_series(name: str, cells: "pyarrow.ChunkedArray") -> Any:
    import pyarrow

    try:
        return cells.to_pandas(types_mapper=_keep_whole(cells))
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        # Such as a date beyond the year 9999, which Python has not.
        raise DataError(
            f"column {name!r} has a cell that cannot be read ({first_line(error)}); correct it, or "
            "leave the column out of the file"
        ) from None


def _keep_whole(cells: "pyarrow.ChunkedArray") -> Any:
    """Return what makes whole numbers and truth values with gaps pandas' own types."""
    import pyarrow

    if not cells.null_count:
        return None
    kinds: dict[Any, Any] = {pyarrow.bool_(): pd.BooleanDtype()}
    for bits in (8, 16, 32, 64):
        kinds[getattr(pyarrow, f"int{bits}")()] = pd.Int64Dtype()
        kinds[getattr(pyarrow, f"uint{bits}")()] = getattr(pd, f"UInt{bits}Dtype")()
    return kinds.get


def _to_periods(cells: "pyarrow.ChunkedArray", dtype: str) -> "pd.Series[Any]":
    ordinals = cells.to_pandas()
    numbers = ordinals.fillna(0).astype("int64").to_numpy()
    periods = pd.arrays.PeriodArray(numbers, dtype=pd.PeriodDtype(dtype[7:-1]))
    return pd.Series(periods).mask(ordinals.isna())


def is_parquet(path: Path) -> bool:
    """Return whether the name of a file says that it is Parquet."""
    return path.suffix.lower() == ".parquet"


def find_parquet_files(folder: Path) -> list[Path]:
    """Return the .parquet files below a folder, sorted by path.

    Files and folders whose names begin with "." or "_" are skipped; writers keep notes there.

    Raises
    ------
    DataError
        If there are none, or a folder's name holds the value of a column, as in "year=2024".
    """
    # Spark calls the folder of a table so too.
    files = [file for file in folder.rglob("*") if not file.is_dir()]
    names = [file.relative_to(folder) for file in files if is_parquet(file)]
    names = [name for name in names if not any(part[0] in "._" for part in name.parts)]
    if not names:
        raise DataError(f"{folder} is a folder without .parquet files")
    for name in sorted(names):
        if any("=" in part for part in name.parts[:-1]):
            raise DataError(
                f"{folder / name}: its folder's name holds the value of a column; write all "
                "columns into the files"
            )
    return [folder / name for name in sorted(names)]


def _check_same_columns(
    other: "tuple[Path, pyarrow.Table]", first: "tuple[Path, pyarrow.Table]"
) -> None:
    import pyarrow

    (path, table), (first_path, first_table) = other, first
    odd = sorted(set(table.column_names) ^ set(first_table.column_names))
    if odd:
        which = path if odd[0] in first_table.column_names else first_path
        raise DataError(f"{which} has no column {odd[0]!r}, which other files have")
    for name in first_table.column_names:
        schemas = [part.select([name]).schema for part in (table, first_table)]
        try:
            pyarrow.unify_schemas(schemas, promote_options="permissive")
        except pyarrow.ArrowException:
            kinds = [_name(schema.field(name).type) for schema in schemas]
            raise DataError(
                f"{path}: column {name!r} is {kinds[0]}, but in {first_path.name} it is "
                f"{kinds[1]}; write all parts with the same type"
            ) from None


def _name(kind: "pyarrow.DataType") -> str:
    return "text" if str(kind) == "large_string" else str(kind)
