"""Tables of rows to score, whatever their files are."""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from grpc_server.errors import TableError

_DIGESTED_BYTES = 64 * 1024
# Cells that are in memory at once in one part, about.
PART_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells one content of a file from another, without reading it all.

    Parameters
    ----------
    name : str
        Name of the file, without its folder.
    n_bytes : int
        Its size.
    mtime_ns : int
        When it was last written, nanoseconds since the epoch.
    digest : str
        SHA-256 of its first and last 64 KiB, hexadecimal.
    """

    name: str
    n_bytes: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of one part.

    Parameters
    ----------
    number : int
        Number of the part in its table, from 0.
    first_row : int
        Number of its first row in the table's file, from 0.
    pieces : tuple of RecordBatch
        The rows, in order; all have the same columns.
    unread : tuple of UnreadRow
        Rows of the file that could not be read.
    """

    number: int
    first_row: int
    pieces: tuple[pa.RecordBatch, ...]
    unread: tuple["UnreadRow", ...] = ()

    @property
    def n_rows(self) -> int:
        """Number of rows that were read."""
        return sum(piece.num_rows for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class UnreadRow:
    """A row of a file that could not be read.

    Parameters
    ----------
    line : int
        Its line in the file, from 1; 0 if it is unknown.
    text : str
        The beginning of the line.
    reason : str
        What is wrong.
    """

    line: int
    text: str
    reason: str


class Table(Protocol):
    """A file of rows."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def identity(self) -> Identity:
        """Identity of the file before anything of it was read."""
        ...

    @property
    def label(self) -> str:
        """Name of the table for people and for names of parts: unique among the tables."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns; a name may occur twice."""
        ...

    @property
    def is_text(self) -> bool:
        """Whether cells are text without a type, as in CSV."""
        ...

    @property
    def n_rows(self) -> int | None:
        """Number of rows; None if it is unknown before they are read."""
        ...

    def find_type(self, name: str) -> pa.DataType:
        """Return the type of a column that occurs once."""
        ...

    def find_share_read(self) -> float:
        """Return the share of the file that has been read, [0, 1]."""
        ...

    def measure_rows(self, columns: Collection[str], most: int) -> int:
        """Return how many rows a part has, [1, most], so that it fits into `PART_BYTES`."""
        ...

    def read(
        self, columns: Collection[str], part_rows: int, done: Mapping[int, int]
    ) -> Iterator[Chunk]:
        """Read some columns, part by part.

        Parameters
        ----------
        columns : collection of str
            Columns to read, each of which occurs once.
        part_rows : int
            Most rows of a part, 1 or more.
        done : mapping of int to int
            Parts that exist, with their number of rows. They are left out.

        Yields
        ------
        Chunk
            A part. A table without rows has one part without rows.

        Raises
        ------
        TableError
            If the file is broken, or an existing part had other rows.
        """
        ...


def identify(path: Path) -> Identity:
    """Return the identity of a file.

    Raises
    ------
    TableError
        If it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            digest = hashlib.sha256(file.read(_DIGESTED_BYTES))
            file.seek(max(0, status.st_size - _DIGESTED_BYTES))
            digest.update(file.read(_DIGESTED_BYTES))
    except OSError as error:
        raise TableError(f"{path} cannot be read: {error.strerror or error}") from None
    return Identity(path.name, status.st_size, status.st_mtime_ns, digest.hexdigest())


def share_bytes(bytes_per_row: float, most: int) -> int:
    """Return how many rows of a size fit into a part, [1, most]."""
    return int(max(1, min(most, PART_BYTES // max(1.0, bytes_per_row))))
