"""Reads the rows of a source: a file, a folder, or the embedded data set.

`training.data.dataset` checks their content.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from table_files.csv_form import CSV_SUFFIXES
from table_files.packed_file import open_bytes, strip_packing
from table_files.text_file import find_other_kind, read_head
from training.data.csv_file import read_csv_file
from training.data.digests import hash_file
from training.data.disk import FileMarks, Scratch
from training.data.embedded import EMBEDDED, load_embedded
from training.data.parquet_files import (
    count_bytes,
    find_parquet_files,
    open_parquet_files,
    read_parquet_files,
)
from training.data.stored_table import Table
from training.errors import DataError
from training.text import first_line, quote_list

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


# A model has a few numbers for each column, and a file that lists them.
MAX_SPARSE_COLUMNS = 2**20


@dataclass(frozen=True, slots=True)
class RawTable:
    """Rows as they were read.

    Parameters
    ----------
    name : str
        Short name of the source.
    features : DataFrame, StoredTable or csr_matrix of float64, shape (n_rows, n_features)
        All columns but the label.
    labels : Series, shape (n_rows,)
        The label column.
    sha256 : str
        SHA-256 in lower-case hexadecimal digits: of the file's bytes, of the embedded data set's
        arrays, or of a list of a folder's files and their digests.
    notes : tuple of str
        What was found in the file, for the user.
    """

    name: str
    features: "Table | csr_matrix"
    labels: pd.Series
    sha256: str
    notes: tuple[str, ...] = ()


def read_source(source: str, target: str, scratch: Scratch | None = None) -> RawTable:
    """Read the rows of a source.

    Parameters
    ----------
    source : str
        Name of the embedded data set, or the path of a .csv, .tsv, .parquet, .svmlight, .svm or
        .libsvm file, or of a folder of .parquet files.
    target : str
        Name of the label column. It is ignored for svmlight files, whose format has a label.
    scratch : Scratch, optional
        Where a large table is kept while it is read; without it, all is in memory.

    Returns
    -------
    RawTable
        The rows.

    Raises
    ------
    DataError
        If the file does not exist, has another format or does not have the column.
    """
    if source == EMBEDDED:
        return _read_embedded()
    path = Path(source)
    _refuse_no_file(source, path)
    if path.is_dir():
        return _read_parquet_folder(path, target, scratch)
    reader = _find_reader(path)
    if not path.is_file():
        raise DataError(
            f"there is no file {source!r}; --data takes a path or the embedded data set {EMBEDDED}"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{source} is empty")
    return reader(path, target, scratch)


def _refuse_no_file(source: str, path: Path) -> None:
    """Refuse what is neither a path of a file or a folder nor one that might be."""
    if not source.strip():
        raise DataError(
            f"--data is empty; it takes a path or the embedded data set {EMBEDDED}"
        )
    try:
        is_other = path.exists() and not path.is_file() and not path.is_dir()
    except OSError as error:
        raise DataError(
            f"--data {source[:100]!r} is no path: {error.strerror}"
        ) from None
    if is_other:
        raise DataError(
            f"{source} is a pipe or a device, which can be read only once; save the table as a file"
        )


def _read_embedded() -> RawTable:
    features, labels = load_embedded()
    digest = hashlib.sha256(features.to_numpy().tobytes() + labels.to_numpy().tobytes())
    return RawTable(EMBEDDED, features, labels, digest.hexdigest())


def _find_reader(path: Path) -> "_Reader":
    name = strip_packing(path.name).lower()
    for suffixes, reader in _READERS.items():
        if name.endswith(suffixes):
            return reader
    known = ", ".join(suffix for suffixes in _READERS for suffix in suffixes)
    raise DataError(
        f"{path} is not one of {known} (text may end with .gz, .bz2, .xz or .zip), nor {EMBEDDED}; "
        "save the table as CSV in UTF-8 or as Parquet"
    )


def _read_csv(path: Path, target: str, scratch: Scratch | None) -> RawTable:
    marks = FileMarks.of([path])
    table = read_csv_file(path, scratch)
    raw = _split_off_labels(path, table.cells, target, table.notes)
    marks.check()
    return raw


def _read_parquet(path: Path, target: str, scratch: Scratch | None) -> RawTable:
    return _split_off_labels(path, _read_parts([path], scratch), target)


def _read_parquet_folder(
    folder: Path, target: str, scratch: Scratch | None
) -> RawTable:
    frame = _read_parts(find_parquet_files(folder), scratch)
    return _split_off_labels(folder, frame, target)


def _read_parts(paths: Sequence[Path], scratch: Scratch | None) -> Table:
    if scratch is None or count_bytes(paths) < scratch.large_bytes:
        return read_parquet_files(paths)
    return open_parquet_files(paths)


def _read_svmlight(path: Path, target: str, _: Scratch | None) -> RawTable:
    from sklearn.datasets import load_svmlight_file

    try:
        with open_bytes(path) as file:
            X, y = load_svmlight_file(file)
    except OverflowError:
        raise DataError(
            f"{path.name} has an index beyond 2,147,483,647; the limit is {MAX_SPARSE_COLUMNS:,} "
            "columns. Hash to fewer, or number the columns that occur without holes"
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path} is not an svmlight file: {_find_fault(path, error)}"
        ) from None
    return RawTable(path.name, X, pd.Series(y), hash_file(path))


def _find_fault(path: Path, error: Exception) -> str:
    """Say what is wrong with an svmlight file: what it is instead, or what the reader says."""
    try:
        other = find_other_kind(read_head(path))
    except (ValueError, OSError):
        # The first error says the same.
        other = ""
    return f"it is {other}" if other else first_line(error)


def _split_off_labels(
    path: Path, frame: Table, target: str, notes: tuple[str, ...] = ()
) -> RawTable:
    if target not in frame.columns:
        raise DataError(
            f"{path} has no column {target!r} for --target; its columns are "
            f"{quote_list(frame.columns)}"
        )
    labels = frame.pop(target)
    return RawTable(path.name, frame, labels, _hash(path), notes)


def _hash(path: Path) -> str:
    """Return the digest of a file, or that of a folder's list of files and digests."""
    if not path.is_dir():
        return hash_file(path)
    lines = [
        f"{hash_file(file)}  {file.relative_to(path)}\n"
        for file in find_parquet_files(path)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


_Reader = Callable[[Path, str, Scratch | None], RawTable]
_READERS: dict[tuple[str, ...], _Reader] = {
    CSV_SUFFIXES: _read_csv,
    (".parquet",): _read_parquet,
    (".svmlight", ".svm", ".libsvm"): _read_svmlight,
}
