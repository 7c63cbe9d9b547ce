"""Matrices of doubles as .npy files: written in order, piece by piece, and then mapped.

::

    columns, one by one --write_columns--> column after column --write_rows--> row after row

Files are written, not mapped for writing: a full disk is then an error, and not a signal.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.disk import open_reserved

# Bytes of rows that are in memory at once.
BLOCK_BYTES = 2**24
DOUBLE = np.dtype(np.float64)
# More than the header of a matrix has.
HEADER_BYTES = 4096


def count_block_rows(n_features: int) -> int:
    """Return the rows of a block, 1 or more."""
    return max(1, BLOCK_BYTES // (max(n_features, 1) * DOUBLE.itemsize))


def write_columns(
    path: Path, shape: tuple[int, int], columns: Iterable[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Write a matrix column by column.

    Parameters
    ----------
    path : Path
        The .npy file.
    shape : tuple of int
        (n_rows, n_features).
    columns : iterable of ndarray of float64, shape (n_rows,)
        The columns, in order.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_features)
        Mapped from the file, read-only, in Fortran order.

    Raises
    ------
    DataError
        If the disk is full.
    """
    _write(path, shape, True, columns)
    return _open(path)


def write_rows(
    path: Path,
    X: NDArray[np.float64],
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Write rows of a matrix, block by block.

    Parameters
    ----------
    path : Path
        The .npy file. It has the same bytes as one that `numpy.save` writes.
    X : ndarray of float64, shape (n_rows, n_features)
        In any order.
    rows : ndarray of int64, shape (n_taken,), optional
        Positions of the rows to write; all by default.

    Returns
    -------
    ndarray of float64, shape (n_taken, n_features)
        Mapped from the file, read-only, in C-order.

    Raises
    ------
    DataError
        If the disk is full.
    """
    n_rows, n_features = len(X) if rows is None else len(rows), X.shape[1]
    size = count_block_rows(n_features)

    def take(begin: int) -> NDArray[np.float64]:
        block = slice(begin, begin + size)
        return np.ascontiguousarray(X[block if rows is None else rows[block]])

    blocks = (take(begin) for begin in range(0, n_rows, size))
    return write_blocks(path, (n_rows, n_features), blocks)


def write_joined(
    path: Path, parts: Iterable[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Write the rows of matrices of the same width, one below the other.

    Parameters
    ----------
    path : Path
        The .npy file.
    parts : iterable of ndarray of float64, shape (n_part_rows, n_features)
        The matrices.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_features)
        Mapped from the file, read-only, in C-order.
    """
    parts = list(parts)
    n_features = parts[0].shape[1]
    size = count_block_rows(n_features)
    blocks = (
        np.ascontiguousarray(part[begin : begin + size])
        for part in parts
        for begin in range(0, len(part), size)
    )
    return write_blocks(path, (sum(map(len, parts)), n_features), blocks)


def write_blocks(
    path: Path, shape: tuple[int, int], blocks: Iterable[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Write a matrix, given as blocks of its rows, shape (n_block_rows, n_features) each.

    Parameters
    ----------
    path : Path
        The .npy file.
    shape : tuple of int
        (n_rows, n_features).
    blocks : iterable of ndarray of float64
        The blocks, in order.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_features)
        Mapped from the file, read-only, in C-order.
    """
    _write(path, shape, False, blocks)
    return _open(path)


def _write(
    path: Path,
    shape: tuple[int, int],
    is_by_column: bool,
    blocks: Iterable[NDArray[np.float64]],
) -> None:
    header: dict[str, Any] = {
        "descr": np.lib.format.dtype_to_descr(DOUBLE),
        "fortran_order": is_by_column,
        "shape": shape,
    }
    n_bytes = shape[0] * shape[1] * DOUBLE.itemsize
    with open_reserved(path, n_bytes + HEADER_BYTES) as file:
        np.lib.format.write_array_header_1_0(file, header)
        end = file.tell() + n_bytes
        for block in blocks:
            file.write(np.ascontiguousarray(block, DOUBLE).data.cast("B"))
        assert file.tell() == end
        file.truncate()


def _open(path: Path) -> NDArray[np.float64]:
    matrix: NDArray[np.float64] = np.load(path, mmap_mode="r")
    return matrix
