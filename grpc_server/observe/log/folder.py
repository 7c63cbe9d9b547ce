"""The files of the prediction log: their names, their owners, and their room.

::

    created as NAME.jsonl.part, locked ── full or old ──> NAME.jsonl ── no room ──> deleted
                  │                                          ^
                  └── its process dies ── the next finds it unlocked
"""

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG

PART = ".part"
_NAME = re.compile(
    r"predictions-\d{8}T\d{6}\.\d{6}Z-\d+-[0-9a-f]{8}\.jsonl(\.part)?", re.ASCII
)
_FILE_MODE, _FOLDER_MODE = 0o640, 0o750
_MAX_ATTEMPTS = 10


class NoRoom(Exception):
    """The files of the folder have the most bytes that they may."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file of the folder.

    Parameters
    ----------
    name : str
        Name of the file.
    size : int
        Bytes.
    """

    name: str
    size: int

    @property
    def is_part(self) -> bool:
        """Whether it is not finished."""
        return self.name.endswith(PART)


class LogFolder:
    """The folder of the log, which several processes may share.

    Parameters
    ----------
    path : Path
        The folder.
    file_bytes : int
        Most bytes of one file.
    total_bytes : int
        Most bytes of all files.
    """

    def __init__(self, path: Path, file_bytes: int, total_bytes: int) -> None:
        self.path = path
        self._file_bytes = file_bytes
        self._total_bytes = total_bytes

    def make(self) -> None:
        """Make the folder, if it is missing.

        Raises
        ------
        OSError
            If it cannot be made.
        """
        self.path.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)

    def create(self) -> tuple[int, str]:
        """Create a file, and lock it.

        Returns
        -------
        descriptor : int
            Descriptor of the file, which holds the lock.
        name : str
            Its name.

        Raises
        ------
        OSError
            If the folder takes no file.
        """
        with self._open() as folder:
            for _ in range(_MAX_ATTEMPTS):
                name = _make_name()
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                file = os.open(name, flags, _FILE_MODE, dir_fd=folder)
                try:
                    os.fchmod(file, _FILE_MODE)  # whatever the umask is
                    # Another process may have taken the new file for one without an owner.
                    if _lock(file) and _is_at(file, name, folder):
                        return file, name
                except OSError:
                    os.close(file)
                    raise
                os.close(file)
        raise OSError("other processes take each new file")

    def finish(self, descriptor: int, name: str) -> None:
        """Give a file the name of a finished one, once it is on the disk.

        Raises
        ------
        OSError
            If it cannot be renamed.
        """
        os.fsync(descriptor)
        with self._open() as folder:
            _finish(descriptor, name, folder)

    def holds(self, descriptor: int, name: str) -> bool:
        """Tell whether the file is still in the folder under its name."""
        try:
            with self._open() as folder:
                return _is_at(descriptor, name, folder)
        except OSError:
            return False

    def adopt(self) -> list[str]:
        """Finish the files of processes that have died, and return their names.

        Raises
        ------
        OSError
            If the folder cannot be read, or takes no change.
        """
        adopted = []
        with self._open() as folder:
            for file in _list(folder):
                if file.is_part and _adopt(file.name, folder):
                    adopted.append(file.name)
        return adopted

    def make_room(self) -> list[str]:
        """Delete the oldest finished files until the others may grow to their full size.

        Returns
        -------
        list of str
            Names of the deleted files.

        Raises
        ------
        NoRoom
            If there is not enough room, though no finished file is left.
        OSError
            If the folder cannot be read, or takes no change.
        """
        deleted = []
        with self._open() as folder:
            files = _list(folder)
            finished = [file for file in files if not file.is_part]
            n_parts = len(files) - len(finished)
            excess = sum(f.size for f in finished) + n_parts * self._file_bytes
            excess -= self._total_bytes
            for file in finished:
                if excess <= 0:
                    break
                try:
                    os.unlink(file.name, dir_fd=folder)
                    deleted.append(file.name)
                except FileNotFoundError:
                    pass  # another process was faster
                except PermissionError:
                    continue  # a file of another user: the next one has to make room
                excess -= file.size
        if excess > 0:
            raise NoRoom
        return deleted

    @contextmanager
    def _open(self) -> Iterator[int]:
        # The folder itself may be a link: whoever starts the server names it. Nothing in it is
        # followed.
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield folder
        finally:
            os.close(folder)


def _make_name() -> str:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return f"predictions-{now}-{os.getpid()}-{secrets.token_hex(4)}.jsonl{PART}"


def _list(folder: int) -> list[LogFile]:
    """Return the files of the log, the oldest first; other files are left alone."""
    files = []
    for name in sorted(os.listdir(folder)):
        if not _NAME.fullmatch(name):
            continue
        with suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if S_ISREG(status.st_mode):
                files.append(LogFile(name, status.st_size))
    return files


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: int, name: str, folder: int) -> bool:
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file))


def _adopt(name: str, folder: int) -> bool:
    """Finish a file if its process is dead; return whether it was."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    except (FileNotFoundError, PermissionError):
        # A file of another user, whom the server ran as before, must not keep new ones out.
        return False
    try:
        if not (_lock(file) and _is_at(file, name, folder)):
            return False
        if os.fstat(file).st_size == 0:
            os.unlink(name, dir_fd=folder)
        else:
            _finish(file, name, folder)
        return True
    except PermissionError:
        return False
    finally:
        os.close(file)


def _finish(file: int, name: str, folder: int) -> None:
    """Rename a file."""
    os.rename(name, name.removesuffix(PART), src_dir_fd=folder, dst_dir_fd=folder)
