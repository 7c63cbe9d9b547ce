"""Parquet files, one or a folder of them."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from training.data.header import check_header
from training.errors import DataError
from training.text import first_line


def read_parquet_file(path: Path) -> pd.DataFrame:
    """Read a Parquet file.

    Parameters
    ----------
    path : Path
        A .parquet file.

    Returns
    -------
    DataFrame, shape (n_rows, n_columns)
        Its columns, among them the named index that pandas writes.

    Raises
    ------
    DataError
        If the file is not a Parquet table, or the names of its columns repeat.
    """
    import pyarrow

    try:
        frame = pd.read_parquet(path, partitioning=None)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a Parquet table: {first_line(error)}") from None
    # pandas writes a named index as a column, and reads that column as an index.
    is_named = any(name is not None for name in frame.index.names)
    frame = frame.reset_index(drop=not is_named)
    frame.columns = frame.columns.map(str)
    check_header(path, list(frame.columns))
    return frame


def read_parquet_files(paths: Sequence[Path]) -> pd.DataFrame:
    """Read Parquet files as one table.

    Parameters
    ----------
    paths : sequence of Path
        One file or more, in the order of their rows.

    Returns
    -------
    DataFrame, shape (n_rows, n_columns)
        The rows of all files, with the columns in the first file's order.

    Raises
    ------
    DataError
        If a file is not a Parquet table, or two files differ in a column's name or type.
    """
    frames = [read_parquet_file(path) for path in paths]
    for path, frame in zip(paths[1:], frames[1:], strict=True):
        _check_same_columns((path, frame), (paths[0], frames[0]))
    return pd.concat([frame[frames[0].columns] for frame in frames], ignore_index=True)


def find_parquet_files(folder: Path) -> list[Path]:
    """Return the .parquet files below a folder, sorted by path.

    Files and folders whose names begin with "." or "_" are skipped; writers keep notes there.

    Raises
    ------
    DataError
        If there are none, or a folder's name holds the value of a column, as in "year=2024".
    """
    names = [file.relative_to(folder) for file in folder.rglob("*.parquet")]
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
    other: tuple[Path, pd.DataFrame], first: tuple[Path, pd.DataFrame]
) -> None:
    (path, frame), (first_path, first_frame) = other, first
    odd = sorted(set(frame.columns) ^ set(first_frame.columns))
    if odd:
        which = path if odd[0] in first_frame.columns else first_path
        raise DataError(f"{which} has no column {odd[0]!r}, which other files have")
    for name in first_frame.columns:
        if frame[name].dtype != first_frame[name].dtype:
            raise DataError(
                f"{path}: column {name!r} is {frame[name].dtype}, but in {first_path.name} it is "
                f"{first_frame[name].dtype}"
            )
