"""The records that wait for an observer: bounded, so that a slow one takes no memory."""

from threading import Lock

from grpc_server.observe.records import RawRecord

# Most records that wait, and their most bytes: about a second of calls at full load.
MAX_RECORDS = 20_000
MAX_BYTES = 32 * 1024 * 1024
# What Python takes for a record besides its messages.
_RECORD_BYTES = 400


def count_bytes(record: RawRecord) -> int:
    """Return the memory of a record in bytes."""
    return len(record[-2]) + len(record[-1]) + _RECORD_BYTES


class Backlog:
    """Records between the threads that answer calls and the thread that feeds an observer.

    Parameters
    ----------
    max_records : int
        Most records that wait, > 0.
    max_bytes : int
        Most bytes of them, > 0.
    """

    def __init__(
        self, max_records: int = MAX_RECORDS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._max_records = max_records
        self._max_bytes = max_bytes
        # Held for a moment only: neither side blocks the other.
        self._lock = Lock()
        self._records: list[RawRecord] = []
        self._n_bytes = 0
        self._n_dropped = 0

    def put(self, record: RawRecord) -> None:
        """Let a record wait; drop and count it if there is no room."""
        size = count_bytes(record)
        with self._lock:
            if (
                len(self._records) >= self._max_records
                or self._n_bytes + size > self._max_bytes
            ):
                self._n_dropped += 1
                return
            self._records.append(record)
            self._n_bytes += size

    def take(self) -> list[RawRecord]:
        """Take all records, the oldest first."""
        with self._lock:
            records, self._records = self._records, []
            self._n_bytes = 0
        return records

    def take_dropped(self) -> int:
        """Return how many records were dropped since the last call."""
        with self._lock:
            n_dropped, self._n_dropped = self._n_dropped, 0
        return n_dropped
