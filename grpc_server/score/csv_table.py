"""Reads CSV files in blocks; each cell stays text."""

import codecs
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import csv

from grpc_server.errors import TableError
from grpc_server.score.tables import (
    PART_BYTES,
    Chunk,
    UnreadRow,
    identify,
    share_bytes,
)
from table_files.csv_form import CsvForm, Known, find_csv_form
from table_files.errors import TableFileError
from table_files.packed_file import open_bytes
from table_files.text_file import HEAD_BYTES, read_head

_BLOCK_BYTES = 4 * 1024 * 1024
_LINES_PER_BLOCK = 4
_MEASURED_LINES = 1000
_SHOWN_CHARACTERS = 80
_END_BYTES = 400
_MAX_UNREAD = 1000


class CsvTable:
    """A CSV file, compressed or not.

    Parameters
    ----------
    path : Path
        The file.
    label : str
        Name of the table.
    known : Known
        What is known of the file.
    wanted : collection of str
        Names of columns to read. Others are taken without the spaces at their ends.
    skips_unread : bool
        Whether rows with more or fewer cells than the header are left out; else they are an error.

    Raises
    ------
    TableError
        If the file is no CSV table.
    """

    is_text = True
    n_rows = None

    def __init__(
        self,
        path: Path,
        label: str,
        known: Known,
        wanted: Collection[str],
        skips_unread: bool,
    ) -> None:
        self.path = path
        self.label = label
        self.identity = identify(path)
        self.form, self._lines = _find_form(path, known)
        self.names = tuple(
            name if name in wanted else name.strip() for name in self.form.layout.names
        )
        self._skips_unread = skips_unread
        self._n_bytes = max(1, self.identity.n_bytes)
        self._tell: Callable[[], int] = lambda: 0

    def find_type(self, name: str) -> pa.DataType:
        """Return the type of a column: text; see `Table`."""
        return pa.string()

    def find_share_read(self) -> float:
        """Return the share of the bytes that have been read; see `Table`."""
        return min(1.0, self._tell() / self._n_bytes)

    def measure_rows(self, columns: Collection[str], most: int) -> int:
        """Return how many rows a part has; see `Table`."""
        return share_bytes(self._lines.mean_bytes, most)

    def read(
        self, columns: Collection[str], part_rows: int, done: Mapping[int, int]
    ) -> Iterator[Chunk]:
        """Read some columns, part by part; see `Table`."""
        unread: list[UnreadRow] = []
        cutter = _Cutter(part_rows)
        try:
            for piece in self._read_pieces(columns, unread):
                for chunk in cutter.add(piece, unread):
                    if self._is_pending(chunk, done):
                        yield chunk
        except pa.ArrowMemoryError:
            raise
        except TableFileError as error:
            raise TableError(f"{self.path} is not a CSV table: {error}") from None
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise TableError(self._tell_broken(error)) from None
        last = cutter.finish(unread)
        if last is not None and self._is_pending(last, done):
            yield last

    def _is_pending(self, chunk: Chunk, done: Mapping[int, int]) -> bool:
        n_done = done.get(chunk.number)
        if n_done is not None and n_done != chunk.n_rows + len(chunk.unread):
            raise TableError(
                f"{self.path}: part {chunk.number} had {n_done} rows, and now has {chunk.n_rows}; "
                "remove the output folder, and score again"
            )
        return n_done is None

    def _read_pieces(
        self, columns: Collection[str], unread: list[UnreadRow]
    ) -> Iterator[pa.RecordBatch]:
        # Positions stand for names, which may occur twice or be empty in columns that are not read.
        positions = {str(self.names.index(name)): name for name in columns}
        last = str(len(self.names) - 1)
        taken = list(dict.fromkeys([*positions, last]))
        schema = pa.schema([(position, pa.string()) for position in taken])
        # A first piece without rows, for a file that has none.
        pieces: Iterable[pa.RecordBatch] = [pa.RecordBatch.from_pylist([], schema)]
        with open_bytes(self.path) as file:
            self._tell = _make_tell(file)
            text, end = _TextStream(file, self.form), ""
            if not self.form.layout.is_empty:
                pieces = chain(pieces, self._open(text, schema, unread))
            for piece in pieces:
                if piece.num_rows:
                    end = piece[last][-1].as_py() or ""
                yield piece.select(list(positions)).rename_columns(
                    [*positions.values()]
                )
            self.form.check_end(end, text.end)

    def _open(
        self, text: "_TextStream", schema: pa.Schema, unread: list[UnreadRow]
    ) -> Any:
        return csv.open_csv(
            text,
            read_options=self._read_options(),
            parse_options=self._parse_options(unread),
            convert_options=csv.ConvertOptions(
                column_types=schema,
                include_columns=schema.names,
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=True,
            ),
        )

    def _read_options(self) -> Any:
        return csv.ReadOptions(
            use_threads=False,
            block_size=max(
                _BLOCK_BYTES, min(_LINES_PER_BLOCK * self._lines.longest, HEAD_BYTES)
            ),
            skip_rows=self.form.layout.n_skipped,
            column_names=list(map(str, range(len(self.names)))),
        )

    def _parse_options(self, unread: list[UnreadRow]) -> Any:
        def note(row: Any) -> str:
            if not self._skips_unread:
                return "error"
            text = row.text if len(unread) < _MAX_UNREAD else ""
            reason = f"{row.actual_columns} cells came; the header has {row.expected_columns}"
            unread.append(UnreadRow(row.number or 0, text[:_SHOWN_CHARACTERS], reason))
            return "skip"

        form = self.form.layout.format
        return csv.ParseOptions(
            delimiter=form.separator,
            quote_char=form.quote,
            double_quote=not form.escape,
            escape_char=form.escape or False,
            newlines_in_values=True,
            # In a file of one column, an empty line is a missing value.
            ignore_empty_lines=len(self.names) > 1,
            invalid_row_handler=note,
        )

    def _tell_broken(self, error: Exception) -> str:
        words = " ".join(str(error).split())[:300]
        cure = "correct the file"
        if "columns" in words:
            cure = "correct the line, or leave such rows out by --on-bad-row skip"
        elif isinstance(error, UnicodeError) or "UTF8" in words:
            cure = "state its encoding, such as --encoding cp1252"
        elif "block" in words:
            cure = "a row is longer than expected; look for a quote that does not end"
        return f"{self.path} cannot be read as CSV ({words}); {cure}"


class _Cutter:
    """Cuts pieces into parts, which depend on the file alone."""

    def __init__(self, part_rows: int) -> None:
        self._part_rows = part_rows
        self._number, self._first_row = 0, 0
        self._pieces: list[pa.RecordBatch] = []
        self._empty: pa.RecordBatch | None = None
        self._n_rows, self._n_bytes = 0, 0

    def add(self, piece: pa.RecordBatch, unread: list[UnreadRow]) -> Iterator[Chunk]:
        """Take a piece; yield the parts that are complete."""
        self._empty = piece.slice(0, 0)
        bytes_per_row = piece.nbytes / max(1, piece.num_rows)
        while piece.num_rows:
            taken = piece.slice(0, self._part_rows - self._n_rows)
            piece = piece.slice(taken.num_rows)
            self._pieces.append(taken)
            self._n_rows += taken.num_rows
            self._n_bytes += int(bytes_per_row * taken.num_rows)
            if self._n_rows == self._part_rows or self._n_bytes >= PART_BYTES:
                yield self._cut(unread)

    def finish(self, unread: list[UnreadRow]) -> Chunk | None:
        """Return the last part, None if there is none; a table without rows has an empty one."""
        if self._pieces or unread or not self._number:
            return self._cut(unread)
        return None

    def _cut(self, unread: list[UnreadRow]) -> Chunk:
        pieces = tuple(self._pieces) or (self._empty,)
        chunk = Chunk(self._number, self._first_row, pieces, tuple(unread))
        self._number += 1
        self._first_row += self._n_rows + len(unread)
        self._pieces, self._n_rows, self._n_bytes = [], 0, 0
        unread.clear()
        return chunk


class _TextStream:
    """A file of any encoding, as UTF-8 for Arrow.

    Parameters
    ----------
    file : binary file
        The file.
    form : CsvForm
        How it is written.
    """

    closed = False

    def __init__(self, file: IO[bytes], form: CsvForm) -> None:
        self._file = file
        # Arrow checks UTF-8 itself, and leaves its mark out.
        make = codecs.getincrementaldecoder(form.encoding)
        self._decoder = None if form.is_utf8 else make()
        self._end = b""

    @property
    def end(self) -> str:
        """The last characters that were read, without line ends."""
        return self._end.decode(errors="replace").rstrip("\r\n")

    def read(self, n_bytes: int = -1) -> bytes:
        """Return about `n_bytes` bytes, none at the end."""
        content = self._read(n_bytes)
        self._end = (self._end + content[-_END_BYTES:])[-_END_BYTES:]
        return content

    def _read(self, n_bytes: int) -> bytes:
        if self._decoder is None:
            return self._file.read(n_bytes)
        while True:
            raw = self._file.read(max(4, n_bytes // 4) if n_bytes > 0 else -1)
            text = self._decoder.decode(raw, final=not raw)
            if text or not raw:
                return text.encode()

    def close(self) -> None:
        """Leave the file open: its owner closes it."""


@dataclass(frozen=True, slots=True)
class _Lines:
    """Sizes of the first lines in bytes: of all on average, and of the longest."""

    mean_bytes: float
    longest: int

    @classmethod
    def of(cls, head: bytes) -> "_Lines":
        n_lines = max(1, head.count(b"\n"), head.count(b"\r"))
        first = islice(re.finditer(rb"[^\r\n]+", head), _MEASURED_LINES)
        return cls(max(1.0, len(head) / n_lines), max(len(line[0]) for line in first))


def _find_form(path: Path, known: Known) -> tuple[CsvForm, _Lines]:
    try:
        head = read_head(path)
        return find_csv_form(path, head, known), _Lines.of(head)
    except (ValueError, OSError) as error:
        raise TableError(f"{path} is not a CSV table: {error}") from None


def _make_tell(file: IO[bytes]) -> Callable[[], int]:
    """Return a function that tells how far the file on disk has been read, from any thread."""
    descriptor = file.fileno()

    def tell() -> int:
        try:
            return os.lseek(descriptor, 0, os.SEEK_CUR)
        except OSError:  # closed at its end
            return 1 << 62

    return tell
