"""Rows by reference: written once, opened by every step, checked on the way.

Knows the file formats; where files lie and how they travel is the caller's.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that was stored.

    Parameters
    ----------
    url : str
        Where it is, for the store that it was put in.
    sha256 : str
        Digest of its bytes in lower-case hexadecimal digits.
    """

    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RowsRef:
    """Rows that were stored: features, and the codes of their labels.

    Parameters
    ----------
    X, y : FileRef
        Files of the features (.npy dense, .npz sparse) and of the codes.
    shape : tuple of int
        n_rows and n_features.
    weight, group : FileRef or None
        Files of the weights and of the numbers of the groups; None if there are none.
    """

    X: FileRef
    y: FileRef
    shape: tuple[int, int]
    weight: FileRef | None = None
    group: FileRef | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Features, and the codes of their labels.

    Parameters
    ----------
    X : ndarray or csr_matrix of float64, shape (n_rows, n_features)
        Read-only and mapped from the file where dense.
    y : ndarray of int64, shape (n_rows,)
        Position of each row's label in the class labels.
    weight : ndarray of float64, shape (n_rows,), or None
        How much each row counts in fits.
    group : ndarray of int64, shape (n_rows,), or None
        Which rows belong together.
    """

    X: "NDArray[np.float64] | csr_matrix"
    y: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None
    group: NDArray[np.int64] | None = None


def store_rows(
    rows: Rows, name: str, scratch: Path, put: Callable[[Path], str]
) -> RowsRef:
    """Write rows and hand the files to a store.

    Parameters
    ----------
    rows : Rows
        Rows to store.
    name : str
        Prefix of the files' names.
    scratch : Path
        Folder to write in.
    put : callable
        Stores a file and returns its URL.
    """
    from scipy.sparse import issparse, save_npz

    X_path = scratch / f"{name}-X.{'npz' if issparse(rows.X) else 'npy'}"
    if issparse(rows.X):
        save_npz(X_path, rows.X, compressed=False)
    else:
        np.save(X_path, rows.X)

    def keep(column: NDArray[Any] | None, kind: str) -> FileRef | None:
        if column is None:
            return None
        path = scratch / f"{name}-{kind}.npy"
        np.save(path, column)
        return _store(path, put)

    y = keep(rows.y, "y")
    assert y is not None
    return RowsRef(
        X=_store(X_path, put),
        y=y,
        shape=tuple(rows.X.shape),
        weight=keep(rows.weight, "weight"),
        group=keep(rows.group, "group"),
    )


def open_rows(ref: RowsRef, get: Callable[[str], Path]) -> Rows:
    """Open rows that were stored.

    Parameters
    ----------
    ref : RowsRef
        What `store_rows` returned.
    get : callable
        Returns a local path for a URL.

    Raises
    ------
    DataError
        If a file is not there or is not the one that was stored.
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


def _store(path: Path, put: Callable[[Path], str]) -> FileRef:
    return FileRef(put(path), _digest(path))


def _fetch(ref: FileRef, get: Callable[[str], Path]) -> Path:
    try:
        path = get(ref.url)
        actual = _digest(path)
    except OSError as error:
        raise DataError(
            f"the rows at {ref.url} cannot be read: {error.strerror}"
        ) from None
    if actual != ref.sha256:
        raise DataError(
            f"the rows at {ref.url} were changed after the run began; run again"
        )
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
