"""Room on the disk, claimed before it is needed, and files that change while they are read."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from training.errors import DataError

GIB = 2**30
# Bytes of cells from which a table is read column by column. A smaller one is read at once, which
# takes half the time.
LARGE_TABLE_BYTES = 2**27
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where a large table is kept while it is read.

    Parameters
    ----------
    folder : Path
        Folder for files, with room for two copies of the table.
    large_bytes : int
        Bytes of cells from which a table is large.
    """

    folder: Path
    large_bytes: int = LARGE_TABLE_BYTES


@contextmanager
def told_full_disk(folder: Path, n_bytes: int = 0) -> Iterator[None]:
    """Turn the error of a full disk into one that says how much room is needed.

    Parameters
    ----------
    folder : Path
        Folder that is written to.
    n_bytes : int
        Bytes that are needed, if that is known.

    Raises
    ------
    DataError
        If the disk, a quota or a limit of the file's size leaves no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        free = shutil.disk_usage(folder).free / GIB
        needed = f"; {n_bytes / GIB:.2f} GiB are needed" if n_bytes else ""
        raise DataError(
            f"the temporary folder {folder} has no room ({error.strerror}, {free:.2f} GiB are "
            f"free{needed}); make room, or set TMPDIR to a folder with more"
        ) from None


@contextmanager
def open_reserved(path: Path, n_bytes: int) -> Iterator[IO[bytes]]:
    """Open a new file whose room on the disk is claimed at once.

    A map of a file without room would end the process when the disk is full.

    Parameters
    ----------
    path : Path
        The file; it is replaced, and removed if an error ends the writing.
    n_bytes : int
        Its size, 1 or more.

    Yields
    ------
    file
        Open for writing.

    Raises
    ------
    DataError
        If there is no room.
    """
    try:
        with told_full_disk(path.parent, n_bytes), path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, n_bytes)
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class FileMarks:
    """What shows that files are the same as before.

    Parameters
    ----------
    marks : tuple of (Path, tuple of int)
        Each file with its size, its time of change in ns, and its number on the disk.
    """

    marks: tuple[tuple[Path, tuple[int, int, int]], ...]

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "FileMarks":
        """Look at files."""
        return cls(tuple((path, _mark(path)) for path in paths))

    def check(self) -> None:
        """Raise DataError, which names the file, if one is gone or not the same."""
        for path, mark in self.marks:
            try:
                is_same = _mark(path) == mark
            except FileNotFoundError:
                is_same = False
            if not is_same:
                raise DataError(
                    f"{path} changed while it was read; run again when nothing writes to it"
                )


def _mark(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
