"""Finds the tables of a file or a folder."""

from collections.abc import Collection
from pathlib import Path

from grpc_server.errors import TableError
from grpc_server.score.csv_table import CsvTable
from grpc_server.score.parquet_table import ParquetTable
from grpc_server.score.tables import Table
from table_files.csv_form import CSV_SUFFIXES, Known, is_csv_name
from table_files.packed_file import PACKINGS

_PARQUET = (".parquet", ".pq")


def list_files(source: Path) -> list[Path]:
    """List the files of a table.

    Parameters
    ----------
    source : Path
        A file, or a folder whose files are taken in the order of their names. Names that begin
        with a point or an underscore are left out, as Spark does, and so are folders.

    Returns
    -------
    list of Path
        One or more.

    Raises
    ------
    TableError
        If there is none, or one is of another kind.
    """
    try:
        if not source.is_dir():
            return [_check_suffix(source)]
        names = sorted(source.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise TableError(f"{source} cannot be read: {error.strerror}") from None
    seen = [path for path in names if path.name[0] not in "._" and not path.is_dir()]
    if not seen:
        raise TableError(
            f"{source} has no file; name a folder with files of {_list_suffixes()}"
        )
    return [_check_suffix(path) for path in seen]


def open_tables(
    files: Collection[Path],
    known: Known,
    features: Collection[str],
    keep: Collection[str],
    *,
    skips_unread: bool,
    groups: tuple[int, int] | None = None,
) -> list[Table]:
    """Open the tables of files.

    Parameters
    ----------
    files : collection of Path
        Files of Parquet or CSV.
    known : Known
        What is known of CSV files.
    features, keep : collection of str
        Columns of the model, and further columns that each table should have.
    skips_unread : bool
        Whether rows that cannot be read are left out.
    groups : tuple of (int, int) or None
        Row groups of the only file, see `ParquetTable`; None for all.

    Returns
    -------
    list of Table
        A table for each file.

    Raises
    ------
    TableError
        If a file is broken.
    """
    if groups is not None and (len(files) > 1 or not _is_parquet(next(iter(files)))):
        raise TableError("--row-groups needs a single Parquet file")
    tables: list[Table] = []
    for path in files:
        if _is_parquet(path):
            tables.append(
                ParquetTable(path, path.name, groups, set(features) - set(keep))
            )
        else:
            tables.append(
                CsvTable(path, path.name, known, {*features, *keep}, skips_unread)
            )
    return tables


def _is_parquet(path: Path) -> bool:
    return path.name.lower().endswith(_PARQUET)


def _check_suffix(path: Path) -> Path:
    if not _is_parquet(path) and not is_csv_name(path.name):
        raise TableError(f"{path} is of another kind; {_list_suffixes()} can be scored")
    if not path.exists():
        raise TableError(f"{path} does not exist")
    if not path.is_file():
        raise TableError(f"{path} is no regular file; copy its rows to one")
    return path


def _list_suffixes() -> str:
    texts, packed = ", ".join(CSV_SUFFIXES), ", ".join(PACKINGS)
    return f"{', '.join(_PARQUET)}, {texts} (text may end with {packed})"
