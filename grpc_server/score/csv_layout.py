"""How a CSV file is written: its encoding, its separator and its header, with the evidence."""

import codecs
import csv
import gzip
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from grpc_server.errors import TableError

SEPARATORS = (",", ";", "\t", "|")
# The header has to fit: 100,000 names of some dozen characters.
_HEAD_BYTES = 8 * 1024 * 1024
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Excel's own line before the header.
_EXCEL = re.compile(r"sep=(.)\r?\n")


@dataclass(frozen=True, slots=True)
class CsvRules:
    """What the caller says about CSV files.

    Parameters
    ----------
    separator : str
        One character; empty to find it in the header.
    encoding : str
        Name of a codec; empty for UTF-8, or what the file's first bytes say.
    gaps : frozenset of str
        Words for missing values.
    """

    separator: str
    encoding: str
    gaps: frozenset[str]


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How a file is written.

    Parameters
    ----------
    encoding : str
        Name of a codec.
    separator : str
        One character.
    names : tuple of str
        Names of the columns, as the header has them.
    n_skipped : int
        Lines before the header.
    line_bytes : float
        Mean size of the first lines, above 0.
    longest : int
        Size of the longest of them.
    """

    encoding: str
    separator: str
    names: tuple[str, ...]
    n_skipped: int
    line_bytes: float
    longest: int

    @property
    def note(self) -> str:
        """What is not plain about the file; empty for commas and UTF-8."""
        notes = []
        if self.separator != ",":
            notes.append(f"separator {self.separator!r}")
        if self.encoding not in ("utf-8", "utf-8-sig"):
            notes.append(f"encoding {self.encoding}")
        if self.n_skipped:
            notes.append("a line 'sep=' above the header")
        return ", ".join(notes)


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading; one that gzip has compressed is unpacked."""
    if path.suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    return open(path, "rb")


def find_layout(path: Path, rules: CsvRules, wanted: Collection[str]) -> CsvLayout:
    """Find how a file is written.

    Parameters
    ----------
    path : Path
        The file.
    rules : CsvRules
        What is known.
    wanted : collection of str
        Names that the header should have: they tell the separator.

    Returns
    -------
    CsvLayout
        The layout.

    Raises
    ------
    TableError
        If the file is empty, is in another encoding, or cannot be read.
    """
    try:
        with open_bytes(path) as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, EOFError) as error:
        raise TableError(f"{path} cannot be read: {error}") from None
    encoding = rules.encoding or _find_encoding(head)
    text = _decode(path, head, encoding)
    excel = _EXCEL.match(text)
    start = excel.end() if excel else 0
    separator = rules.separator or (excel and excel[1]) or ""
    if not text[start:].strip():
        raise TableError(f"{path} has no header; its first line must name the columns")
    separator = separator or _find_separator(text[start:], wanted)
    names = _read_header(text[start:], separator)
    lines = head.splitlines()[:1000]
    return CsvLayout(
        encoding,
        separator,
        names,
        1 if excel else 0,
        max(1.0, len(head) / max(1, head.count(b"\n"))),
        max(map(len, lines)),
    )


def _find_encoding(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    start = head[:4096]
    # Text of mostly ASCII in UTF-16 has a zero in every other byte.
    if start.count(0) > len(start) // 4:
        return "utf-16-le" if start[1:2] == b"\0" else "utf-16-be"
    return "utf-8"


def _decode(path: Path, head: bytes, encoding: str) -> str:
    try:
        # The end may be within a character.
        text: object = codecs.getincrementaldecoder(encoding)().decode(head)
    except (ValueError, LookupError, TypeError) as error:
        raise TableError(_tell_encoding(path, str(error))) from None
    if not isinstance(text, str):
        raise TableError(_tell_encoding(path, f"{encoding} is none of text"))
    return text


def _tell_encoding(path: Path, reason: str) -> str:
    return (
        f"{path} is not read as text ({reason[:120]}); state its encoding, such as "
        "--encoding cp1252"
    )


def _find_separator(text: str, wanted: Collection[str]) -> str:
    """Return the separator with which the header has the most of the wanted names."""
    known = set(wanted)

    def count_known(separator: str) -> tuple[int, int]:
        names = _read_header(text, separator)
        return len(known.intersection(names)), len(names)

    # The first of equals: the comma.
    return max(SEPARATORS, key=count_known)


def _read_header(text: str, separator: str) -> tuple[str, ...]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    previous = csv.field_size_limit(len(text) + 1)
    try:
        return tuple(name.strip() for name in next(rows, []))
    except csv.Error as error:
        raise TableError(f"the header cannot be read: {error}") from None
    finally:
        csv.field_size_limit(previous)
