"""Reads Parquet files by row groups."""

from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from grpc_server.errors import TableError
from grpc_server.score.cells import is_text
from grpc_server.score.tables import Chunk, identify, share_bytes

# Rows that are decoded at once: enough for speed, and few enough for the processor's caches.
_PIECE_ROWS = 16_384
_BUFFER_BYTES = 1024 * 1024
_CELL_BYTES = 8
# What a file may hold that is broken: pyarrow raises these.
_BROKEN = (pa.ArrowException, OSError, EOFError, UnicodeDecodeError)


class ParquetTable:
    """The row groups of a Parquet file, or some of them.

    Parameters
    ----------
    path : Path
        The file.
    label : str
        Name of the table.
    groups : tuple of (int, int) or None
        First row group, and the one after the last; None for all.
    encoded : collection of str
        Columns of text that may stay in dictionaries: little memory, and each text is read once.

    Raises
    ------
    TableError
        If the file is no Parquet file, or has not these row groups.
    """

    is_text = False

    def __init__(
        self,
        path: Path,
        label: str,
        groups: tuple[int, int] | None = None,
        encoded: Collection[str] = (),
    ) -> None:
        self.path = path
        self.label = label
        self.identity = identify(path)
        self._encoded = frozenset(encoded)
        try:
            with pq.ParquetFile(path) as file:
                self._metadata, self._schema = file.metadata, file.schema_arrow
        except _BROKEN as error:
            raise TableError(_tell_broken(path, error)) from None
        n_groups = self._metadata.num_row_groups
        first, stop = (0, n_groups) if groups is None else groups
        if not 0 <= first <= stop <= n_groups:
            raise TableError(
                f"{path} has {n_groups} row groups; {first}:{stop} are not among them"
            )
        self._groups = range(first, stop)
        self._counts = [self._metadata.row_group(g).num_rows for g in self._groups]
        # Rows of the file before the first group.
        self._first_row = sum(
            self._metadata.row_group(g).num_rows for g in range(first)
        )
        self._n_read = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns; see `Table`."""
        return tuple(self._schema.names)

    @property
    def n_rows(self) -> int:
        """Number of rows; see `Table`."""
        return sum(self._counts)

    @property
    def group_rows(self) -> list[int]:
        """Number of rows of each row group."""
        return list(self._counts)

    def find_type(self, name: str) -> pa.DataType:
        """Return the type of a column; see `Table`."""
        return self._schema.field(name).type

    def find_share_read(self) -> float:
        """Return the share of the rows that have been read; see `Table`."""
        return self._n_read / self.n_rows if self.n_rows else 1.0

    def measure_rows(self, columns: Collection[str], most: int) -> int:
        """Return how many rows a part has; see `Table`."""
        largest = float(_CELL_BYTES * len(columns))
        if any(not _is_plain(self.find_type(name)) for name in columns):
            # Text may be of any size.
            sizes = (self._metadata.row_group(g) for g in self._groups)
            largest += max(
                (g.total_byte_size / max(1, g.num_rows) for g in sizes), default=0
            )
        return share_bytes(largest, most)

    def read(
        self, columns: Collection[str], part_rows: int, done: Mapping[int, int]
    ) -> Iterator[Chunk]:
        """Read some columns, part by part; see `Table`."""
        n_rows = self.n_rows
        if not n_rows and 0 not in done:
            empty = pa.RecordBatch.from_pylist([], self._schema_of(columns))
            yield Chunk(0, self._first_row, (empty,))
        n_parts = -(-n_rows // part_rows)
        for number, count in done.items():
            if count != min(part_rows, n_rows - number * part_rows) and n_rows:
                raise TableError(f"{self.path}: part {number} has {count} other rows")
        number = 0
        while number < n_parts:
            end = number
            while end < n_parts and end not in done:
                end += 1
            if end > number:
                yield from self._read_run(columns, part_rows, number, end)
            number = end + 1

    def _schema_of(self, columns: Collection[str]) -> pa.Schema:
        return pa.schema([self._schema.field(name) for name in columns])

    def _read_run(
        self, columns: Collection[str], part_rows: int, first: int, end: int
    ) -> Iterator[Chunk]:
        """Read the parts of [first, end)."""
        start, stop = first * part_rows, min(end * part_rows, self.n_rows)
        position, pieces = start, []
        piece_rows = min(part_rows, _PIECE_ROWS)
        for piece in self._read_rows(columns, start, stop, piece_rows):
            while piece.num_rows:
                self._n_read = position
                room = part_rows - position % part_rows
                pieces.append(piece.slice(0, room))
                position += pieces[-1].num_rows
                piece = piece.slice(pieces[-1].num_rows)
                if position % part_rows == 0 or position == stop:
                    number = (position - 1) // part_rows
                    first_row = self._first_row + number * part_rows
                    yield Chunk(number, first_row, tuple(pieces))
                    pieces = []
        if position != stop:
            raise TableError(
                f"{self.path} is broken: it has {self._first_row + position} rows where its footer "
                f"says {self._first_row + stop}; write the file again"
            )

    def _read_rows(
        self, columns: Collection[str], start: int, stop: int, piece_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of [start, stop), of which the first row group may have more before."""
        ends = list(accumulate(self._counts))
        wanted = [
            number
            for number, end in enumerate(ends)
            if end > start and end - self._counts[number] < stop
        ]
        position = ends[wanted[0]] - self._counts[wanted[0]]
        try:
            with self._open(columns) as file:
                for piece in file.iter_batches(
                    batch_size=piece_rows,
                    row_groups=[self._groups[number] for number in wanted],
                    columns=list(columns),
                ):
                    skipped = max(0, start - position)
                    position += piece.num_rows
                    piece = piece.slice(skipped)
                    yield piece.slice(
                        0, max(0, piece.num_rows - max(0, position - stop))
                    )
        except pa.ArrowMemoryError:
            raise
        except _BROKEN as error:
            raise TableError(_tell_broken(self.path, error)) from None

    def _open(self, columns: Collection[str]) -> Any:
        texts = [
            name
            for name in columns
            if name in self._encoded and is_text(self.find_type(name))
        ]
        # Not mapped: a mapped file that is cut meanwhile ends the process.
        return pq.ParquetFile(
            self.path,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            memory_map=False,
            read_dictionary=texts,
        )


def _is_plain(type_: pa.DataType) -> bool:
    try:
        return bool(type_.bit_width <= 8 * _CELL_BYTES)
    except ValueError:
        return False


def _tell_broken(path: Path, error: Exception) -> str:
    words = " ".join(str(error).split())[:200]
    return f"{path} cannot be read as Parquet ({words}); write the file again"
