"""Follows files that belong together: their content is read again when they change.

::

    read ── unchanged ──> the same content
      │
    changed ── can be used ─────────> the new content
      ├─ cannot be used ────────────> the old content, until the files change again
      └─ cannot be read just now ───> the old content, and another try at the next look
"""

import logging
import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Generic, TypeAlias, TypeVar

from grpc_server.errors import FollowedFileError
from grpc_server.file_marks import Mark, mark

_Marks: TypeAlias = tuple[Mark | None, ...]
_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class FollowedFiles(Generic[_T]):
    """The newest content of the files that can be used; for any thread.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    read : callable
        Reads and checks the files.
    what : str
        What the files hold, for the log.
    count_failure : callable
        Called for each change of the files that was refused.
    look_seconds : float
        Time between two looks at the files, 0 or more: a call must not wait for a slow disk each
        time.

    Raises
    ------
    FollowedFileError
        If the files cannot be used; `read` raises it.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], _T],
        what: str,
        count_failure: Callable[[], None],
        look_seconds: float = 0.0,
    ) -> None:
        self._paths, self._read, self._what = tuple(paths), read, what
        self._count_failure = count_failure
        self._look_seconds = look_seconds
        self._lock = threading.Lock()
        self._marks = self._mark_all()
        # The files that were refused last, if any were.
        self._refused: _Marks | None = None
        self._content = read()
        self._look_at = monotonic() + look_seconds

    def get(self) -> _T:
        """Return the content; the files are read if it is time to look, and they have changed."""
        if monotonic() >= self._look_at:
            with self._lock:
                self._look_at = monotonic() + self._look_seconds
                self._look()
        return self._content

    def _look(self) -> None:
        marks = self._mark_all()
        if marks == self._marks:
            return
        try:
            self._content = self._read()
        except FollowedFileError as error:
            self._refuse(marks, error)
            if not error.may_pass:
                self._marks = marks
        else:
            self._marks, self._refused = marks, None
            _log.info(f"{self._what} read again", extra={"fields": self._fields()})

    def _refuse(self, marks: _Marks, error: FollowedFileError) -> None:
        """Say once what is wrong with files that may be tried again."""
        if marks != self._refused:
            fields = {"reason": str(error)}
            _log.error(f"{self._what} refused, old kept", extra={"fields": fields})
            self._count_failure()
        self._refused = marks

    def _fields(self) -> dict[str, str]:
        return {"files": ", ".join(map(str, self._paths))}

    def _mark_all(self) -> _Marks:
        return tuple(mark(path) for path in self._paths)


def read_bounded(path: Path, max_bytes: int, kind: type[FollowedFileError]) -> bytes:
    """Read a file that people write.

    Parameters
    ----------
    path : Path
        The file.
    max_bytes : int
        Most bytes of such a file: a larger one is a mistake, and would cost memory.
    kind : type of FollowedFileError
        Class of the errors.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    FollowedFileError
        If the file cannot be read, is larger, or is a pipe or a device.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise kind(f"{path} is a pipe or a device; name a regular file")
            content = file.read(max_bytes + 1)
    except OSError as error:
        # A descriptor may be free again later, without a change of the file.
        raise kind(f"cannot read {path}: {error.strerror}", may_pass=True) from None
    if len(content) > max_bytes:
        raise kind(f"{path} has over {max_bytes} bytes; it is no such file")
    return content


def _open_at_once(path: str, flags: int) -> int:
    # The thread that answers calls reads files, too: it must not wait for a pipe's other end.
    return os.open(path, flags | os.O_NONBLOCK)
