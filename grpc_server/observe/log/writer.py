"""Writes lines to the files of the log; what cannot be written is dropped and counted."""

import errno
import logging
import os
from collections.abc import Callable
from time import monotonic, time

from grpc_server.observe.log.folder import LogFolder, NoRoom
from grpc_server.observe.reports import Reporter

# Lines that are written at once.
_PORTION_BYTES = 1024 * 1024
# Time after a failure during which nothing is tried: each attempt may take long.
RETRY_SECONDS = 1.0
_REASONS = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EFBIG: "disk_full",  # a limit of the process
    errno.EROFS: "read_only",
    errno.EACCES: "read_only",
    errno.EPERM: "read_only",
    errno.ENOENT: "no_folder",
    errno.ENOTDIR: "no_folder",
    errno.ESTALE: "no_folder",
}
NO_ROOM, TOO_LARGE, IO_ERROR = "no_room", "too_large", "io_error"

_log = logging.getLogger(__name__)


class LogWriter:
    """Writes the lines of calls, for one thread.

    Parameters
    ----------
    folder : LogFolder
        Where the files are.
    file_bytes : int
        Most bytes of one file.
    file_seconds : float
        Age at which a file is finished.
    reporter : Reporter
        Counts rows, bytes and what was dropped.
    clock : callable
        Returns the time in seconds, from any beginning.
    """

    def __init__(
        self,
        folder: LogFolder,
        file_bytes: int,
        file_seconds: float,
        reporter: Reporter,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._file_seconds = file_seconds
        self._reporter = reporter
        self._clock = clock
        self._lines: list[bytes] = []
        self._n_bytes = 0
        # Calls are numbered; a call of many lines is dropped once, however it is cut.
        self._call = self._first_call = 0
        self._dropped_call = -1
        self._file: _OpenFile | None = None
        self._trouble = ""
        self._retry_at = 0.0

    def begin_call(self) -> None:
        """Count the lines that follow to another call."""
        self._call += 1
        if not self._lines:
            self._first_call = self._call

    def add(self, line: bytes) -> None:
        """Add a line, which `flush` writes at the latest."""
        if len(line) > self._file_bytes:
            self._drop(TOO_LARGE, self._call)
            return
        if self._n_bytes + len(line) > min(_PORTION_BYTES, self._file_bytes):
            self.flush()
        self._lines.append(line)
        self._n_bytes += len(line)

    def flush(self) -> None:
        """Write the lines, or drop them."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        content, self._n_bytes = b"".join(lines), 0
        first, self._first_call = self._first_call, self._call
        reason = self._trouble if self._clock() < self._retry_at else None
        reason = reason or self._try_to_write(content)
        if reason:
            self._drop(reason, first)
        else:
            self._reporter.add("rows", len(lines))
            self._reporter.add("bytes", len(content))
            self._reporter.set("last_write", time())

    def tick(self) -> None:
        """Write the lines; finish a file that is old, and give up one that has vanished."""
        self.flush()
        file = self._file
        if file is None:
            return
        if not self._folder.holds(file.descriptor, file.name):
            self._say("prediction log file vanished", {"file": file.name})
            self._file = None
            os.close(file.descriptor)
        elif self._clock() - file.opened_at >= self._file_seconds:
            self._finish()

    def close(self) -> None:
        """Write the lines, and finish the file."""
        self._retry_at = 0.0
        self.flush()
        self._finish()

    def _try_to_write(self, content: bytes) -> str | None:
        """Write lines as a whole or not at all; return the reason if they were not written."""
        try:
            if self._file is not None and self._file.size + len(content) > (
                self._file_bytes
            ):
                self._finish()
            if self._file is None:
                self._file = self._open()
            self._file.append(content)
        except NoRoom:
            return self._note_trouble(NO_ROOM, "")
        except OSError as error:
            if self._file is not None and self._file.is_torn:
                self._finish()
            reason = _REASONS.get(error.errno or 0, IO_ERROR)
            return self._note_trouble(reason, str(error))
        if self._trouble:
            self._trouble = ""
            _log.info("prediction log is written again")
        return None

    def _open(self) -> "_OpenFile":
        descriptor, name = self._folder.create()
        file = _OpenFile(descriptor, name, self._clock())
        try:
            self._take_in()
        except (NoRoom, OSError):
            file.abandon(self._folder)
            raise
        return file

    def _take_in(self) -> None:
        """Finish what dead processes left, and delete the oldest files if there is no room."""
        for name in self._folder.adopt():
            self._say("prediction log of a dead process finished", {"file": name})
        for name in self._folder.make_room():
            self._reporter.add("deleted_files")
            self._say("prediction log file deleted for room", {"file": name})

    def _finish(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            self._folder.finish(file.descriptor, file.name)
        except OSError as error:
            # Whoever opens the next file finishes it.
            self._say("prediction log file left", {"reason": str(error)})
        finally:
            os.close(file.descriptor)

    def _drop(self, reason: str, first_call: int) -> None:
        n_calls = self._call - first_call + 1
        if self._dropped_call >= first_call:
            n_calls -= self._dropped_call - first_call + 1
        self._dropped_call = self._call
        if n_calls > 0:
            self._reporter.add(f"dropped.{reason}", n_calls)

    def _note_trouble(self, reason: str, error: str) -> str:
        self._retry_at = self._clock() + RETRY_SECONDS
        if self._trouble != reason:
            self._trouble = reason
            fields = {
                "reason": reason,
                "error": error,
                "folder": str(self._folder.path),
            }
            _log.error("prediction log cannot be written", extra={"fields": fields})
        return reason

    def _say(self, event: str, fields: dict[str, object]) -> None:
        _log.warning(event, extra={"fields": fields})


class _OpenFile:
    """The file that is being written."""

    def __init__(self, descriptor: int, name: str, opened_at: float) -> None:
        self.descriptor = descriptor
        self.name = name
        self.opened_at = opened_at
        self.size = 0
        self.is_torn = False

    def append(self, content: bytes) -> None:
        """Append lines; after an error the file is as it was, or torn at its end."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except OSError:
            self._cut()
            raise
        self.size += len(content)

    def _cut(self) -> None:
        """Take the begun line away."""
        try:
            os.ftruncate(self.descriptor, self.size)
            os.lseek(self.descriptor, self.size, os.SEEK_SET)
        except OSError:
            self.is_torn = True

    def abandon(self, folder: LogFolder) -> None:
        """Delete the file, which is empty."""
        try:
            os.unlink(folder.path / self.name)
        except OSError as error:
            # It is empty; whoever opens the next file deletes it.
            fields = {"file": self.name, "reason": str(error)}
            _log.warning("prediction log file left", extra={"fields": fields})
        finally:
            os.close(self.descriptor)
