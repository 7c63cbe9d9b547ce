"""Stored rows come back unchanged, or not at all."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix, issparse

from training.data.rows import Rows, open_rows, store_rows
from training.errors import DataError


class FolderStore:
    """Keeps files in a folder under their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, path: Path) -> str:
        shutil.copy(path, self.folder)
        return path.name

    def get(self, url: str) -> Path:
        return self.folder / url


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    (tmp_path / "store").mkdir()
    return FolderStore(tmp_path / "store")


DENSE = Rows(np.array([[1.5, np.nan], [3.0, -0.0]]), np.array([0, 1]))


def test_dense_rows_come_back_mapped_and_read_only(
    store: FolderStore, tmp_path: Path
) -> None:
    ref = store_rows(DENSE, "train", tmp_path, store.put)

    rows = open_rows(ref, store.get)

    assert ref.shape == (2, 2)
    assert isinstance(rows.X, np.memmap) and not rows.X.flags.writeable
    np.testing.assert_array_equal(rows.X, DENSE.X)
    np.testing.assert_array_equal(rows.y, DENSE.y)


def test_sparse_rows_stay_sparse(store: FolderStore, tmp_path: Path) -> None:
    X = csr_matrix(np.array([[0.0, 2.0], [3.0, 0.0]]))
    ref = store_rows(Rows(X, DENSE.y), "train", tmp_path, store.put)

    rows = open_rows(ref, store.get)

    assert issparse(rows.X)
    assert (rows.X != X).nnz == 0


def test_rows_that_were_changed_are_refused(store: FolderStore, tmp_path: Path) -> None:
    ref = store_rows(DENSE, "train", tmp_path, store.put)
    np.save(store.get(ref.y.url), np.array([1, 0]))

    with pytest.raises(DataError, match="train-y.npy were changed after the run began"):
        open_rows(ref, store.get)


def test_rows_that_are_gone_are_named(store: FolderStore, tmp_path: Path) -> None:
    ref = store_rows(DENSE, "train", tmp_path, store.put)
    store.get(ref.X.url).unlink()

    with pytest.raises(DataError, match="train-X.npy cannot be read: No such file"):
        open_rows(ref, store.get)
