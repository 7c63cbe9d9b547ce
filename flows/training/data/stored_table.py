"""A table whose columns are in files, so that one column at a time is in memory.

All cells of a column decide what it is. So a table is cut into columns, not into pieces of rows,
and everything that reads a column sees all of it, as it does in a DataFrame.
"""

import pickle
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.disk import told_full_disk

Load = Callable[[], "pd.Series[Any]"]


class StoredTable:
    """Columns in files. It answers as a DataFrame does, as far as the readers of columns ask.

    Parameters
    ----------
    loads : mapping of str to callable
        Functions that read a column, shape (n_rows,), by name, in the table's order.
    n_rows : int
        Number of rows.
    rows : ndarray of int64, shape (n_taken,), optional
        Positions of the rows that the table has; all by default.
    dtypes : mapping of str to dtype, optional
        Types of the columns, if they are known.
    """

    def __init__(
        self,
        loads: Mapping[str, Load],
        n_rows: int,
        rows: NDArray[np.int64] | None = None,
        dtypes: Mapping[str, Any] | None = None,
    ) -> None:
        self._loads, self._n_rows, self._rows = dict(loads), n_rows, rows
        self._dtypes = dict(dtypes or {})

    def __len__(self) -> int:
        return self._n_rows if self._rows is None else len(self._rows)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return len(self), len(self._loads)

    @property
    def columns(self) -> "pd.Index[Any]":
        """Names of the columns."""
        return pd.Index(list(self._loads), dtype=object)

    @property
    def dtypes(self) -> dict[str, Any]:
        """Types of the columns, by name."""
        return {name: self._dtypes[name] for name in self._loads}

    def __getitem__(self, name: str) -> "pd.Series[Any]":
        """Read a column; its index numbers the rows of the source from 0."""
        column = self._loads[name]()
        return column if self._rows is None else column.iloc[self._rows]

    def items(self) -> Iterator[tuple[str, "pd.Series[Any]"]]:
        """Read the columns, one after the other."""
        return ((name, self[name]) for name in self._loads)

    def pop(self, name: str) -> "pd.Series[Any]":
        """Read a column, and leave it out from then on."""
        column = self[name]
        del self._loads[name]
        return column

    def find_load(self, name: str) -> Load:
        """Return what reads a column."""
        return partial(self.__getitem__, name)

    def rename(self, names: Mapping[str, str]) -> "StoredTable":
        """Return a table with some columns, given by their names, under other names."""
        loads = {
            new: partial(_load_as, self.find_load(old), new)
            for old, new in names.items()
        }
        return StoredTable(loads, len(self))

    def take(self, rows: NDArray[np.int64]) -> "StoredTable":
        """Return a table with the rows at some positions, shape (n_taken,)."""
        kept = rows if self._rows is None else self._rows[rows]
        return StoredTable(self._loads, self._n_rows, kept, self._dtypes)


Table = pd.DataFrame | StoredTable


def take_rows(table: Table, rows: NDArray[np.int64]) -> Table:
    """Return the rows of a table at some positions, shape (n_taken,)."""
    return table.iloc[rows] if isinstance(table, pd.DataFrame) else table.take(rows)


class FrameBuilder:
    """Collects columns in memory.

    Parameters
    ----------
    index : Index
        Index of the frame.
    """

    def __init__(self, index: "pd.Index[Any]") -> None:
        self._index = index
        self._cells: dict[str, pd.Series[Any]] = {}

    def add(
        self, name: str, cells: "pd.Series[Any]", source: "pd.Series[Any]"
    ) -> "pd.Series[Any]":
        """Keep the cells, shape (n_rows,), that were read from a column; return them."""
        self._cells[name] = cells
        return cells

    def finish(self) -> Table:
        """Return the table."""
        return pd.DataFrame(self._cells, index=self._index)


class StoredBuilder:
    """Collects columns in files.

    Parameters
    ----------
    table : StoredTable
        Table that the columns are read from. A column that stays as it is is not written again.
    folder : Path
        Folder for the files. Files of an earlier builder are replaced.
    """

    def __init__(self, table: StoredTable, folder: Path) -> None:
        self._table, self._folder = table, folder
        self._loads: dict[str, Load] = {}
        self._dtypes: dict[str, Any] = {}

    def add(
        self, name: str, cells: "pd.Series[Any]", source: "pd.Series[Any]"
    ) -> "pd.Series[Any]":
        """Keep the cells, shape (n_rows,), that were read from a column; return none of them."""
        self._dtypes[name] = cells.dtype
        if cells is source:
            self._loads[name] = self._table.find_load(name)
        else:
            path = self._folder / f"column-{len(self._loads)}.pickle"
            with told_full_disk(self._folder), path.open("wb") as file:
                pickle.dump(cells, file, protocol=5)
            self._loads[name] = partial(_load, path)
        # A view would keep the whole column in memory.
        return cells.iloc[:0].copy()

    def finish(self) -> Table:
        """Return the table."""
        return StoredTable(self._loads, len(self._table), None, self._dtypes)


Builder = FrameBuilder | StoredBuilder


def _load_as(load: Load, name: str) -> "pd.Series[Any]":
    return load().rename(name)


def _load(path: Path) -> "pd.Series[Any]":
    # The file is this run's own, in a folder of its own.
    with path.open("rb") as file:
        column: pd.Series[Any] = pickle.load(file)
    return column
