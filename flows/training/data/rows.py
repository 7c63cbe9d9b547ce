"""Rows as files: written once, then opened and checked by every step.

The module knows the file formats. The caller decides where files are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.data.digests import hash_file
from training.data.disk import Scratch
from training.data.matrix_file import write_joined, write_rows
from training.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that was stored.

    Parameters
    ----------
    url : str
        Address in the store that keeps it.
    sha256 : str
        SHA-256 of its bytes in lower-case hexadecimal digits.
    """

    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RowsRef:
    """A reference to `Rows` that were stored.

    Parameters
    ----------
    X, y : FileRef
        Files of the features (.npy if dense, .npz if sparse) and of the codes.
    shape : tuple of int
        (n_rows, n_features).
    weight, group : FileRef or None
        Files of the weights and of the group numbers; None if there are none.
    """

    X: FileRef
    y: FileRef
    shape: tuple[int, int]
    weight: FileRef | None = None
    group: FileRef | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Features and labels of some rows of a data set.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        Features. Rows that `open_rows` returns are read-only; if dense, they are mapped from the
        file.
    y : ndarray of int64, shape (n_rows,)
        Codes of the labels: positions in the class labels.
    weight : ndarray of float64, shape (n_rows,), or None
        How much each row counts in fits, 0 or more.
    group : ndarray of int64, shape (n_rows,), or None
        Number of each row's group, which is the same in every run.
    """

    X: "NDArray[np.float64] | csr_matrix"
    y: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None
    group: NDArray[np.int64] | None = None


def store_rows(
    rows: Rows,
    name: str,
    scratch: Path,
    put: Callable[[Path], str],
    taken: NDArray[np.int64] | None = None,
) -> RowsRef:
    """Write rows to files and put the files into a store.

    Parameters
    ----------
    rows : Rows
        Rows to store.
    name : str
        Prefix of the files' names.
    scratch : Path
        Folder to write the files to.
    put : callable
        Stores a file and returns its URL.
    taken : ndarray of int64, shape (n_taken,), optional
        Positions of the rows to store; all by default.

    Returns
    -------
    RowsRef
        The argument of `open_rows`.

    Raises
    ------
    DataError
        If the disk is full.
    """
    from scipy.sparse import issparse, save_npz

    X_path = scratch / f"{name}-X.{'npz' if issparse(rows.X) else 'npy'}"
    n_rows = len(rows.y) if taken is None else len(taken)
    if issparse(rows.X):
        X = rows.X if taken is None else rows.X[taken]
        save_npz(X_path, X, compressed=False)
    else:
        write_rows(X_path, rows.X, taken)

    def keep(column: NDArray[Any] | None, kind: str) -> FileRef | None:
        if column is None:
            return None
        path = scratch / f"{name}-{kind}.npy"
        np.save(path, column if taken is None else column[taken])
        return _store(path, put)

    y = keep(rows.y, "y")
    assert y is not None
    return RowsRef(
        X=_store(X_path, put),
        y=y,
        shape=(n_rows, rows.X.shape[1]),
        weight=keep(rows.weight, "weight"),
        group=keep(rows.group, "group"),
    )


def open_rows(ref: RowsRef, get: Callable[[str], Path]) -> Rows:
    """Open rows that were stored.

    Parameters
    ----------
    ref : RowsRef
        Return value of `store_rows`.
    get : callable
        Returns a local path for a URL.

    Returns
    -------
    Rows
        The rows; dense features are mapped from the file.

    Raises
    ------
    DataError
        If a file is gone, or differs from the one that was stored.
    """
    from scipy.sparse import load_npz

    X_path = _fetch(ref.X, get)
    is_sparse = X_path.suffix == ".npz"
    X = load_npz(X_path) if is_sparse else np.load(X_path, mmap_mode="r")
    columns = [
        None if column is None else np.load(_fetch(column, get))
        for column in (ref.weight, ref.group)
    ]
    return Rows(X, np.load(_fetch(ref.y, get)), *columns)


def join_rows(first: Rows, second: Rows, *, scratch: Scratch | None = None) -> Rows:
    """Put two parts of a data set together.

    Parameters
    ----------
    first, second : Rows
        The parts: both dense or both sparse, and both with a weight or a group or without.
    scratch : Scratch, optional
        Where dense features are kept if they are large. Without it, all is in memory.

    Returns
    -------
    Rows
        A copy: the rows of the first part, then those of the second.

    Raises
    ------
    DataError
        If the disk is full.
    """
    from scipy.sparse import issparse, vstack

    def join(name: str) -> NDArray[Any] | None:
        parts = [getattr(first, name), getattr(second, name)]
        return None if parts[0] is None else np.concatenate(parts)

    parts = [first.X, second.X]
    if issparse(first.X):
        X = vstack(parts, format="csr")
    elif scratch is None or sum(part.nbytes for part in parts) < scratch.large_bytes:
        X = np.concatenate(parts)
    else:
        X = write_joined(scratch.folder / "joined.npy", parts)
    y = join("y")
    assert y is not None
    return Rows(X, y, join("weight"), join("group"))


def _store(path: Path, put: Callable[[Path], str]) -> FileRef:
    return FileRef(put(path), hash_file(path))


def _fetch(ref: FileRef, get: Callable[[str], Path]) -> Path:
    try:
        path = get(ref.url)
        actual = hash_file(path)
    except OSError as error:
        raise DataError(
            f"the rows at {ref.url} cannot be read: {error.strerror}"
        ) from None
    if actual != ref.sha256:
        raise DataError(
            f"the rows at {ref.url} were changed after the run began; run again"
        )
    return path
