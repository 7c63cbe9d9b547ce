"""Values of metrics in files of one process, which the supervisor reads.

prometheus_client writes its files through memory and lets them grow without room on the disk. When
the disk is full, the kernel then ends the process with SIGBUS. Here the disk gives the room before
anything is written. Values without room stay in memory, and are written once there is some.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from time import monotonic

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict, mmap_key

# Room for some 300 series at first; a file doubles when they are more.
_FIRST_BYTES = 64 * 1024
# What an entry takes besides its key, at most: its length, padding, value and time.
_ENTRY_BYTES = 32
# A full disk is asked again after so long: asking is a system call, on the thread that counts.
RETRY_SECONDS = 5.0


class MetricFiles:
    """The values of one process: one file for each kind of metric.

    Parameters
    ----------
    folder : Path
        Where the files are.
    number : int
        Number of the process. The process that takes its place goes on with the same files.

    Attributes
    ----------
    lock : threading.Lock
        One for all values; to be held by the caller of `read` and `write`.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._number = number
        self._table_by_kind: dict[str, _Table] = {}
        self._unwritten: dict[tuple[str, str], float] = {}
        self._retry_at = 0.0
        self._reason: str | None = None
        self.lock = Lock()

    def keep_all_values(self) -> None:
        """Let the values of all metrics that are made from now on be kept here."""
        values.ValueClass = partial(_Value, self)

    def why_incomplete(self) -> str | None:
        """Return why some values are not in the files, None if all are."""
        return self._reason

    def retry(self) -> None:
        """Write what had no room, unless the disk was full a moment ago."""
        with self.lock:
            self._write_rest()

    def read(self, kind: str, key: str) -> float:
        """Return the value of a key, which is 0 and is made if there is none."""
        try:
            return self._table(kind).get(key)
        except OSError as error:
            self._unwritten[kind, key] = 0.0
            self._note_full(error)
            return 0.0

    def write(self, kind: str, key: str, value: float) -> None:
        """Set the value of a key that has been read."""
        if (kind, key) in self._unwritten:
            self._unwritten[kind, key] = value
            self._write_rest()
        else:
            self._table_by_kind[kind].set(key, value)

    def _table(self, kind: str) -> "_Table":
        if kind not in self._table_by_kind:
            path = self._folder / f"{kind}_{self._number}.db"
            self._table_by_kind[kind] = _Table(path)
        return self._table_by_kind[kind]

    def _write_rest(self) -> None:
        if not self._unwritten or monotonic() < self._retry_at:
            return
        try:
            for (kind, key), value in list(self._unwritten.items()):
                table = self._table(kind)
                table.get(key)
                table.set(key, value)
                del self._unwritten[kind, key]
        except OSError as error:
            self._note_full(error)
        else:
            self._reason = None

    def _note_full(self, error: OSError) -> None:
        self._reason = error.strerror or str(error)
        self._retry_at = monotonic() + RETRY_SECONDS


class _Table(MmapedDict):
    """A file of values that has its room on the disk."""

    def __init__(self, path: Path) -> None:
        with open(path, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, _FIRST_BYTES)
        super().__init__(str(path))  # type: ignore[no-untyped-call]

    def get(self, key: str) -> float:
        """Return the value of a key, which is 0 and is made if there is none."""
        value, _ = self.read_value(key)  # type: ignore[no-untyped-call]
        return float(value)

    def set(self, key: str, value: float) -> None:
        """Set the value of a key that there is."""
        self.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        """Make an entry, and before it the room that the file grows by.

        Raises
        ------
        OSError
            If the disk has no such room; the file is as it was.
        """
        end = self._used + len(key.encode()) + _ENTRY_BYTES
        capacity = self._capacity
        while capacity < end:
            capacity *= 2
        if capacity > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


class _Value:
    """One number of a metric, with the methods that prometheus_client's own values have."""

    def __init__(
        self,
        files: MetricFiles,
        kind: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: object,
    ) -> None:
        self._files = files
        self._kind = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
        self._key = mmap_key(
            metric_name, name, list(labelnames), list(labelvalues), help_text
        )
        self._lock = files.lock
        with self._lock:
            self._value = files.read(self._kind, self._key)

    def inc(self, amount: float) -> None:
        """Add to the number."""
        with self._lock:
            self._value += amount
            self._files.write(self._kind, self._key, self._value)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Change the number."""
        with self._lock:
            self._value = value
            self._files.write(self._kind, self._key, value)

    def get(self) -> float:
        """Return the number."""
        return self._value

    def set_exemplar(self, exemplar: object) -> None:
        """Keep none: the files have no place for it."""

    def get_exemplar(self) -> None:
        """Return None: none is kept."""
