"""Files as they are found on disk: plain, or compressed by gzip, bzip2, xz or zip."""

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from table_files.errors import TableFileError

ZIP = b"PK\x03\x04"
# What begins a workbook of Excel or of OpenDocument, which are zip archives too.
_IN_WORKBOOKS = ("[Content_Types].xml", "mimetype")
_OF_MAC_OS = "__MACOSX/"
# What the libraries raise on damage, a password, or a method that they do not know.
_DAMAGE = (
    EOFError,
    gzip.BadGzipFile,
    NotImplementedError,
    RuntimeError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Packing:
    """A way to compress a file.

    Parameters
    ----------
    name : str
        Its name, for messages.
    mark : bytes
        The first bytes of such a file.
    open : callable
        Takes the file, open at its first byte, and opens what was compressed.
    """

    name: str
    mark: bytes
    open: Callable[[IO[bytes]], IO[bytes]]


def _open_member(file: IO[bytes]) -> IO[bytes]:
    """Open the only file of a zip archive; TableFileError if there are several or none."""
    archive = zipfile.ZipFile(file)
    names = [
        name
        for name in archive.namelist()
        if not name.endswith("/") and not name.startswith(_OF_MAC_OS)
    ]
    if any(name in names for name in _IN_WORKBOOKS):
        file.seek(0)
        return file
    if len(names) != 1:
        raise TableFileError(
            f"it is a zip archive of {len(names)} files; unpack the one with the table"
        )
    return archive.open(names[0])


PACKINGS: Mapping[str, Packing] = {
    ".gz": Packing("gzip", b"\x1f\x8b", lambda file: cast(IO[bytes], gzip.open(file))),
    ".bz2": Packing("bzip2", b"BZh", bz2.open),
    ".xz": Packing("xz", b"\xfd7zXZ\x00", lzma.open),
    ".zip": Packing("zip", ZIP, _open_member),
}


def strip_packing(name: str) -> str:
    """Return the name of a file without an ending that says that it is compressed."""
    for suffix in PACKINGS:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, and unpack it on the way if its first bytes say that it is compressed.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    file object
        Its bytes, unpacked piece by piece; its descriptor is that of the file on the disk. Reading
        raises OSError if the file is damaged or has a password.

    Raises
    ------
    OSError
        If the file cannot be read.
    TableFileError
        If only its name says that it is compressed, or it is an archive of several files.
    """
    packing = _find_packing(path)
    named = PACKINGS.get(path.suffix.lower())
    if named not in (None, packing):
        raise TableFileError(
            f"its name ends with {path.suffix}, but it is not compressed with {named.name}; rename "
            "it, or download it again"
        )
    if packing is None:
        return path.open("rb")
    return io.BufferedReader(_Unpacked(packing, path))


def is_packed(path: Path) -> bool:
    """Return whether the first bytes of a file say that it is compressed."""
    return _find_packing(path) is not None


def _find_packing(path: Path) -> Packing | None:
    with path.open("rb") as file:
        head = file.read(max(len(packing.mark) for packing in PACKINGS.values()))
    found = (p for p in PACKINGS.values() if head.startswith(p.mark))
    return next(found, None)


class _Unpacked(io.RawIOBase):
    """What a compressed file holds; whatever is wrong with it is an OSError."""

    def __init__(self, packing: Packing, path: Path) -> None:
        self._name = packing.name
        self._packed = path.open("rb")
        try:
            self._file = packing.open(self._packed)
        except BaseException as error:
            self._packed.close()
            if not isinstance(error, _DAMAGE):
                raise
            raise self._explain(error) from None

    def fileno(self) -> int:
        return self._packed.fileno()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        try:
            content = self._file.read(len(buffer))
        except _DAMAGE as error:
            raise self._explain(error) from None
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            self._packed.close()
        super().close()

    def _explain(self, error: Exception) -> OSError:
        return OSError(f"its {self._name} data cannot be unpacked: {error}")
