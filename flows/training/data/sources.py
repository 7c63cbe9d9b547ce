"""Where rows come from: a file or the embedded data set; their content is checked elsewhere."""

import gzip
import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

EMBEDDED = "breast_cancer"
MAX_SHOWN = 10
LEADING_ZERO = re.compile(r"\s*[+-]?0\d+\s*")
LEADING_ZERO_CELL = re.compile(rb'[,"]\s*[+-]?0\d+\s*[,"\r\n]')
# Beyond it, a double has no digit for each integer.
MAX_EXACT_INTEGER = 2**53


@dataclass(frozen=True, slots=True)
class RawTable:
    """Rows as they were read.

    Parameters
    ----------
    name : str
        Short name of the source.
    features : DataFrame or csr_matrix of float64, shape (n_rows, n_features)
        Everything but the label.
    labels : Series
        The label column, one per row.
    sha256 : str
        Digest of the file's bytes, of the embedded arrays' for the embedded data set, of a list of
        names and digests for a folder.
    """

    name: str
    features: "pd.DataFrame | csr_matrix"
    labels: pd.Series
    sha256: str


def read_source(source: str, target: str) -> RawTable:
    """Read the rows of a source.

    Parameters
    ----------
    source : str
        "breast_cancer", or the path of a .csv, .csv.gz, .parquet, .svmlight, .svm or .libsvm file,
        or of a folder of .parquet files.
    target : str
        Name of the label column; svmlight files have theirs in the format.

    Raises
    ------
    DataError
        If there is no such file, it is of another format or has no such column.
    """
    if source == EMBEDDED:
        return _read_embedded()
    path = Path(source)
    if path.is_dir():
        return _read_parquet_folder(path, target)
    reader = _find_reader(path)
    if not path.is_file():
        raise DataError(
            f"there is no file {source}; --data takes a path or the embedded data set {EMBEDDED}"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{source} is empty")
    return reader(path, target)


def _read_embedded() -> RawTable:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    digest = hashlib.sha256(
        data.data.to_numpy().tobytes() + data.target.to_numpy().tobytes()
    )
    return RawTable(EMBEDDED, data.data, data.target, digest.hexdigest())


def _find_reader(path: Path) -> Callable[[Path, str], RawTable]:
    name = path.name.lower().removesuffix(".gz")
    for suffixes, reader in _READERS.items():
        if name.endswith(suffixes):
            return reader
    known = ", ".join(suffix for suffixes in _READERS for suffix in suffixes)
    raise DataError(
        f"{path} is not one of {known} (or .gz of a text format), nor {EMBEDDED}"
    )


def _read_csv(path: Path, target: str) -> RawTable:
    try:
        # Read once as text to see the header as it is: pandas renames the second of two columns.
        header = list(
            pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0].fillna("")
        )
        _check_header(path, header)
        # Only an empty cell is missing: a country code NA is none.
        with warnings.catch_warnings():
            # A row with more cells than the header has would lose some.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                keep_default_na=False,
                na_values=["", "NaN", "nan"],
                index_col=False,
                # In pieces, a label 01 would be 1 in a piece of numbers and 01 in one with text.
                low_memory=False,
            )
            _check_long_integers(path, frame)
            _keep_leading_zeros(path, frame)
    except (ValueError, OSError, EOFError, pd.errors.ParserWarning) as error:
        raise DataError(f"{path} is not a CSV table: {_first_line(error)}") from None
    return _split_off_labels(path, frame, target)


def _read_parquet(path: Path, target: str) -> RawTable:
    return _split_off_labels(path, _read_parquet_file(path), target)


def _read_parquet_file(path: Path) -> pd.DataFrame:
    import pyarrow

    try:
        frame = pd.read_parquet(path, partitioning=None)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a Parquet table: {_first_line(error)}"
        ) from None
    # pandas writes an index with a name as a column, and reads it as an index.
    is_named = any(name is not None for name in frame.index.names)
    frame = frame.reset_index(drop=not is_named)
    frame.columns = frame.columns.map(str)
    _check_header(path, list(frame.columns))
    return frame


def _read_parquet_folder(folder: Path, target: str) -> RawTable:
    """Read the Parquet files of a folder as one table, in the order of their names."""
    files = _find_parquet_files(folder)
    frames = [_read_parquet_file(file) for file in files]
    for file, frame in zip(files[1:], frames[1:], strict=True):
        _check_same_columns((file, frame), (files[0], frames[0]))
    # In the first one's order, whatever the others'.
    table = pd.concat([frame[frames[0].columns] for frame in frames], ignore_index=True)
    return _split_off_labels(folder, table, target)


def _find_parquet_files(folder: Path) -> list[Path]:
    """Return the files below a folder, but those that are hidden or of whoever wrote the others."""
    names = [file.relative_to(folder) for file in folder.rglob("*.parquet")]
    names = [name for name in names if not any(part[0] in "._" for part in name.parts)]
    if not names:
        raise DataError(f"{folder} is a folder without .parquet files")
    for name in sorted(names):
        if any("=" in part for part in name.parts[:-1]):
            raise DataError(
                f"{folder / name}: its folder's name holds the value of a column; write the table "
                "anew with all columns in the files"
            )
    return [folder / name for name in sorted(names)]


def _check_same_columns(
    other: tuple[Path, pd.DataFrame], first: tuple[Path, pd.DataFrame]
) -> None:
    (file, frame), (first_file, first_frame) = other, first
    odd = sorted(set(frame.columns) ^ set(first_frame.columns))
    if odd:
        which = file if odd[0] in first_frame.columns else first_file
        raise DataError(f"{which} has no column {odd[0]!r}, which other files have")
    for name in first_frame.columns:
        if frame[name].dtype != first_frame[name].dtype:
            raise DataError(
                f"{file}: column {name!r} is {frame[name].dtype}, but in {first_file.name} it is "
                f"{first_frame[name].dtype}"
            )


def _read_svmlight(path: Path, target: str) -> RawTable:
    from sklearn.datasets import load_svmlight_file

    try:
        X, y = load_svmlight_file(str(path))
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path} is not an svmlight file: {_first_line(error)}"
        ) from None
    return RawTable(path.name, X, pd.Series(y), _digest(path))


def _split_off_labels(path: Path, frame: pd.DataFrame, target: str) -> RawTable:
    if target not in frame.columns:
        raise DataError(
            f"{path} has no column {target!r} for --target; its columns are "
            f"{shorten_list(map(str, frame.columns))}"
        )
    labels = frame.pop(target)
    return RawTable(path.name, frame, labels, _digest(path))


def _check_header(path: Path, header: list[str]) -> None:
    duplicates = sorted(name for name, count in Counter(header).items() if count > 1)
    if duplicates:
        raise DataError(
            f"{path} has the column {duplicates[0]!r} more than once; rename one"
        )
    if "" in header:
        raise DataError(
            f"{path}: column {header.index('') + 1} has no name in the first line"
        )


def _check_long_integers(path: Path, frame: pd.DataFrame) -> None:
    """Refuse integers that became doubles, for gaps in their column, and changed by that."""
    suspects = [
        name
        for name in frame.columns
        if pd.api.types.is_float_dtype(frame[name])
        and (frame[name].abs() >= MAX_EXACT_INTEGER).any()
    ]
    if not suspects:
        return
    cells = pd.read_csv(path, usecols=suspects, dtype=str, index_col=False)
    for name in suspects:
        for row, cell in enumerate(cells[name].fillna("")):
            digits = cell.strip().lstrip("+-")
            if digits.isdecimal() and int(digits) != int(float(digits)):
                raise DataError(
                    f"column {name!r}, row {row + 1}: {cell} has more digits than a double holds "
                    "(2**53); an identifier is no feature, so drop it"
                )


def _keep_leading_zeros(path: Path, frame: pd.DataFrame) -> None:
    """Put back the text of columns such as zip codes, whose 01234 pandas reads as 1234."""
    if not _has_leading_zero(path):
        return
    numeric = [n for n in frame.columns if pd.api.types.is_numeric_dtype(frame[n])]
    cells = pd.read_csv(path, usecols=numeric, dtype=str, index_col=False)
    for name in numeric:
        if cells[name].str.fullmatch(LEADING_ZERO).any():
            frame[name] = cells[name]


def _has_leading_zero(path: Path) -> bool:
    """Say whether any cell of a CSV file may be a whole number with a 0 before it."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return any(LEADING_ZERO_CELL.search(b"," + line) for line in file)


def _digest(path: Path) -> str:
    """Return the digest of a file's bytes; of a folder, that of its files' names and digests."""
    if path.is_dir():
        lines = [
            f"{_digest(file)}  {file.relative_to(path)}\n"
            for file in _find_parquet_files(path)
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shorten_list(names: "map[str] | list[str] | NDArray[np.str_]") -> str:
    """Return the first few names and how many there are beside."""
    names = list(names)
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


_READERS: dict[tuple[str, ...], Callable[[Path, str], RawTable]] = {
    (".csv",): _read_csv,
    (".parquet",): _read_parquet,
    (".svmlight", ".svm", ".libsvm"): _read_svmlight,
}
