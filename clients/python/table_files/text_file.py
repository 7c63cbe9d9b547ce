"""Text files as they are found: compressed or not, in one of several encodings."""

import codecs
from collections.abc import Iterator
from pathlib import Path

from table_files.errors import TableFileError
from table_files.packed_file import ZIP, open_bytes

CHUNK_BYTES = 2**20
# Enough for the header and the first row of very wide tables.
HEAD_BYTES = 2**24
# Marks at the beginning of a file; the codecs remove them.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EXPORT = "export the table as CSV in UTF-8"
# How other kinds of files begin, what they are, and what to do.
_OTHER_KINDS = (
    (ZIP, "a workbook of a spreadsheet", _EXPORT),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _EXPORT),
    (b"PAR1", "a Parquet file", "rename it so that its name ends with .parquet"),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"SQLite format 3", "an SQLite database", _EXPORT),
    (b"BZh", "packed twice", "unpack it once"),
    (b"\xfd7zXZ", "packed twice", "unpack it once"),
    (b"\x1f\x8b", "packed twice", "unpack it once"),
    (b"(\xb5/\xfd", "a zstd file", "unpack it, or compress it with gzip"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS, not the table",
        "fetch the table with git lfs pull",
    ),
    (b"<!doctype html", "an HTML page", "download the table itself"),
    (b"<html", "an HTML page", "download the table itself"),
    (b"<?xml", "an XML document", _EXPORT),
    (b"{", "JSON", _EXPORT),
    (b"[{", "JSON", _EXPORT),
)


def read_head(path: Path) -> bytes:
    """Return the first `HEAD_BYTES` of a file, unpacked; all of it if it is shorter."""
    with open_bytes(path) as file:
        return file.read(HEAD_BYTES)


def refuse_other_kinds(head: bytes) -> None:
    """Raise TableFileError if a file is of another kind than text with cells.

    Parameters
    ----------
    head : bytes
        Its first bytes, unpacked: up to `HEAD_BYTES`.
    """
    start = head[:100].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for mark, kind, cure in _OTHER_KINDS:
        if head.startswith(mark) or start.startswith(mark.lower()):
            raise TableFileError(f"it is {kind}; {cure}")
    # What unpacks to a hundred times its size is not read to its end.
    if len(head) == HEAD_BYTES and b"\n" not in head and b"\r" not in head:
        raise TableFileError("its first line has over 16 MiB; it should name columns")


def find_encoding(path: Path, head: bytes) -> str:
    """Find the encoding of a text file.

    Parameters
    ----------
    path : Path
        The file. All of it is read, because its only letter beyond ASCII may be its last.
    head : bytes
        Its first bytes, unpacked.

    Returns
    -------
    str
        "utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be" or "cp1252".

    Raises
    ------
    TableFileError
        If it is none of them.
    """
    marked = [name for mark, name in _MARKS if head.startswith(mark)]
    # Of text in UTF-16, most characters of which are Western, every second byte is mostly 0.
    halves = {"utf-16-be": head[:1000:2], "utf-16-le": head[1:1000:2]}
    wide = [name for name, half in halves.items() if 2 * half.count(0) > len(half)]
    for encoding in marked[:1] or wide or ("utf-8", "cp1252"):
        if _decodes(path, encoding):
            return encoding
    raise TableFileError(
        "its text is neither UTF-8 nor UTF-16 nor cp1252; save it as UTF-8"
    )


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for chunk in _chunks(path):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def read_end(path: Path, encoding: str) -> str:
    """Return the last characters of a file, without line ends."""
    decoder = codecs.getincrementaldecoder(encoding)()
    end = ""
    for chunk in _chunks(path):
        end = (end + decoder.decode(chunk))[-100:]
    return end.rstrip("\r\n")


def _chunks(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def decode_head(head: bytes, encoding: str) -> str:
    """Decode the first bytes of a file; a line that they cut is left out.

    Parameters
    ----------
    head : bytes
        Up to `HEAD_BYTES`.
    encoding : str
        Return value of `find_encoding`, or another name of a codec.

    Returns
    -------
    str
        Whole lines, or all if the file is not longer.

    Raises
    ------
    TableFileError
        If the bytes are none of this encoding, or it is none of text.
    """
    try:
        text: object = codecs.getincrementaldecoder(encoding)().decode(head)
    except (ValueError, LookupError, TypeError) as error:
        raise TableFileError(_refuse_encoding(encoding, str(error)[:120])) from None
    if not isinstance(text, str):
        raise TableFileError(_refuse_encoding(encoding, "it is none of text"))
    if len(head) < HEAD_BYTES:
        return text
    end = max(text.rfind("\n"), text.rfind("\r"))
    return text[: end + 1]


def _refuse_encoding(encoding: str, reason: str) -> str:
    return (
        f"it is not read in {encoding} ({reason}); state its encoding, such as cp1252"
    )
