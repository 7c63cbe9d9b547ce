"""Text files as they are found: compressed or not, in one of several encodings."""

import codecs
import re
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
# How other kinds of files begin, what they are, and what to do. A name of a column, such as PAR1,
# is no such beginning.
_OTHER_KINDS = (
    (ZIP, "a workbook of a spreadsheet", _EXPORT),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _EXPORT),
    (b"PAR1\x15", "a Parquet file", "rename it so that its name ends with .parquet"),
    (b"%PDF", "a PDF document", _EXPORT),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"BZh91AY&SY", "packed twice", "unpack it once"),
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
    (b"{\\rtf", "an RTF document", _EXPORT),
    (b"{", "JSON", _EXPORT),
    (b"ARROW1\0", "an Arrow file", "write it as Parquet, or as CSV in UTF-8"),
    (b"Obj\x01", "an Avro file", "write it as Parquet, or as CSV in UTF-8"),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "an array of NumPy", _EXPORT),
    (b"RDX3\n", "a file of R", _EXPORT),
    (b"RDA3\n", "a file of R", _EXPORT),
    (b"<stata_dta>", "a file of Stata", _EXPORT),
    (b"7z\xbc\xaf", "a 7z archive", "unpack the table"),
    (b"Rar!\x1a", "a RAR archive", "unpack the table"),
    (b"\x04\x22\x4d\x18", "an lz4 file", "unpack it, or compress it with gzip"),
    (b"outs:\n", "a pointer of DVC, not the table", "fetch the table with dvc pull"),
    (
        b"/annex/objects/",
        "a pointer of git-annex, not the table",
        "fetch the table with git annex get",
    ),
)
_JSON_LIST = re.compile(rb"\[\s*[{\[]")
# Files of market data have such names in their header: <TICKER>,<DATE>,<CLOSE>.
_MARKUP = re.compile(rb"<(?:!--|[a-z][a-z0-9]*(?:\s[^>]*)?>(?![,;\t|\r\n]|$))")
# Where a tar archive says that it is one.
_TAR = slice(257, 262)


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
    found = find_other_kind(head)
    if found:
        raise TableFileError(f"it is {found}")
    # What unpacks to a hundred times its size is not read to its end.
    if len(head) == HEAD_BYTES and b"\n" not in head and b"\r" not in head:
        raise TableFileError("its first line has over 16 MiB; it should name columns")


def find_other_kind(head: bytes) -> str:
    """Return what a file is that begins so, and what to do; empty if it may be text with cells."""
    start = head[:1000].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for mark, kind, cure in _OTHER_KINDS:
        if head.startswith(mark) or start.startswith(mark.lower()):
            return f"{kind}; {cure}"
    if head[_TAR] == b"ustar":
        return "a tar archive; unpack the table"
    if _JSON_LIST.match(start):
        return f"JSON; {_EXPORT}"
    return "an HTML page; download the table itself" if _MARKUP.match(start) else ""


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
            if encoding == "cp1252":
                _refuse_stray_line(path)
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


def _refuse_stray_line(path: Path) -> None:
    """Refuse a file most of whose letters beyond ASCII are in lines of UTF-8, but not all."""
    n_good, broken = 0, []
    with open_bytes(path) as file:
        lines = iter(lambda: file.readline(CHUNK_BYTES), b"")
        for number, line in enumerate(lines, 1):
            if line.isascii():
                continue
            try:
                line.decode()
                n_good += 1
            except UnicodeDecodeError:
                broken.append(number)
    if n_good > len(broken):
        raise TableFileError(
            f"it is in UTF-8, but {len(broken)} of its lines are not, "
            f"first line {broken[0]}; save those in UTF-8"
        )


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
