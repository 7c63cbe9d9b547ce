"""Keeps the metric values of one process in files, which the supervisor reads.

prometheus_client maps its files into memory and extends them without reserving disk space. When the
disk is full, the kernel ends the process with SIGBUS. This module reserves the space before it
writes. Values without space stay in memory, and are written once there is space.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from time import monotonic

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict, mmap_key

# First size of a file: some 300 series. A file doubles when it is full.
_FIRST_BYTES = 64 * 1024
# Most bytes of an entry besides its key: its length, padding, value and time.
_ENTRY_BYTES = 32
# Time between two attempts on a full disk: each is a system call, on the thread that counts.
RETRY_SECONDS = 5.0


class MetricFiles:
    """The values of one process: one file for each kind of metric.

    Parameters
    ----------
    folder : Path
        Folder of the files.
    number : int
        Number of the process. Its successor continues with the same files.

    Attributes
    ----------
    lock : threading.Lock
        Lock of all values; callers of `read` and `write` must hold it.
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
        """Keep the values of all metrics created from now on here."""
        values.ValueClass = partial(_Value, self)

    def why_incomplete(self) -> str | None:
        """Return the reason why values are missing from the files, None if none is missing."""
        return self._reason

    def retry(self) -> None:
        """Write the values that had no space, unless the disk was full a moment ago."""
        with self.lock:
            self._write_rest()

    def read(self, kind: str, key: str) -> float:
        """Return the value of a key; create it with 0 if it is missing."""
        try:
            return self._table(kind).get(key)
        except OSError as error:
            self._unwritten[kind, key] = 0.0
            self._note_full(error)
            return 0.0

    def write(self, kind: str, key: str, value: float) -> None:
        """Set the value of a key that was read before."""
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
    """A file of values whose disk space is reserved."""

    def __init__(self, path: Path) -> None:
        with open(path, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, _FIRST_BYTES)
        super().__init__(str(path))  # type: ignore[no-untyped-call]

    def get(self, key: str) -> float:
        """Return the value of a key; create it with 0 if it is missing."""
        value, _ = self.read_value(key)  # type: ignore[no-untyped-call]
        return float(value)

    def set(self, key: str, value: float) -> None:
        """Set the value of an existing key."""
        self.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        """Reserve disk space if the file has to grow, then create an entry.

        Raises
        ------
        OSError
            If the disk is full; the file is unchanged.
        """
        end = self._used + len(key.encode()) + _ENTRY_BYTES
        capacity = self._capacity
        while capacity < end:
            capacity *= 2
        if capacity > self._capacity:
            os.posix_fallocate(self._f.fileno(), 0, capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]


class _Value:
    """One number of a metric, with the interface of prometheus_client's own values."""

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
        """Do nothing: the files cannot hold exemplars."""

    def get_exemplar(self) -> None:
        """Return None: there are no exemplars."""
