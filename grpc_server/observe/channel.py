"""The way of records to one observer: a thread that feeds its process, and starts it again.

::

    start ──> feed, every 50 ms ── the process ends ──> wait 0.5, 1 ... 30 s ──> start
                │                                         records are dropped and counted
              close: send the rest, for a bounded time ──> end
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Event, Lock, Thread
from time import monotonic

from grpc_server.observe.backlog import Backlog, count_bytes
from grpc_server.observe.process import (
    ObserverGone,
    ObserverProcess,
    ObserverProgram,
)
from grpc_server.observe.records import ModelFacts, RawRecord, frame, frame_model
from grpc_server.observe.reports import Report
from grpc_server.observe.tap import Outlet

FEED_SECONDS = 0.05
# Longest time that a stop waits for an observer.
CLOSE_SECONDS = 3.0
_FIRST_BACKOFF_SECONDS = 0.5
_MAX_BACKOFF_SECONDS = 30.0
# A process that ran longer has not died of its start.
_STEADY_SECONDS = 60.0
# Frames that are sent as one: fewer system calls, and no copy of a large message.
_CHUNK_BYTES = 256 * 1024
# Models that may still answer: the current one, one before for open streams, others beside it.
_MAX_MODELS = 8
# Time between two lines of the log about the same trouble.
_QUIET_SECONDS = 60.0
# Reasons for which the channel itself drops records.
QUEUE_FULL, OBSERVER_GONE = "queue_full", "observer_gone"

_log = logging.getLogger(__name__)


class Channel:
    """Feeds one observer from its own thread.

    Parameters
    ----------
    program : ObserverProgram
        The observer.
    take_report : callable
        Receives each report of the observer, on the feeding thread.
    count_dropped : callable
        Counts records that the observer never handled, by reason: "queue_full" or
        "observer_gone"; on the feeding thread.
    count_restart : callable
        Counts an end of the process that nobody asked for.
    backlog : Backlog or None
        Records that wait; None for one of the usual size.
    """

    def __init__(
        self,
        program: ObserverProgram,
        take_report: Callable[[Report], None],
        count_dropped: Callable[[str, int], None],
        count_restart: Callable[[], None],
        backlog: Backlog | None = None,
    ) -> None:
        self._program = program
        self._take_report = take_report
        self._count_dropped = count_dropped
        self._count_restart = count_restart
        self._backlog = backlog or Backlog()
        self.outlet = Outlet(self._backlog, program.share)
        self._models = _Models()
        self._process: ObserverProcess | None = None
        self._backoff = _Backoff()
        self._said = _Quiet()
        self._closing = Event()
        self._close_by = float("inf")
        self._thread = Thread(target=self._run, name=program.name, daemon=True)

    @property
    def pid(self) -> int | None:
        """Number of the observer's process, None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start to feed."""
        self._thread.start()

    def announce(self, facts: ModelFacts) -> None:
        """Tell the observer of a model, before the first call that it answers."""
        self._models.add(facts)

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Send what is left, end the process, and wait for it at most some seconds."""
        self._close_by = monotonic() + seconds
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(seconds + 2.0)

    def _run(self) -> None:
        while not self._closing.wait(FEED_SECONDS):
            self._turn()
        self._turn()
        process = self._process
        if process is not None:
            process.finish(max(0.1, self._close_by - monotonic()))
            self._drop(OBSERVER_GONE, process.n_open)

    def _turn(self) -> None:
        """Bring one backlog of records to the process, or drop it."""
        self._drop(QUEUE_FULL, self._backlog.take_dropped())
        process = self._process or self._try_to_start()
        records = self._backlog.take()
        if process is None:
            self._drop(OBSERVER_GONE, len(records))
            return
        try:
            self._feed(process, records)
        except ObserverGone as error:
            self._bury(process, str(error))

    def _feed(self, process: ObserverProcess, records: list[RawRecord]) -> None:
        # Counted first: if the process has ended, all of them are lost.
        process.n_open += len(records)
        process.read_reports()
        for chunk in self._chunks(records):
            unsent = memoryview(chunk)
            while unsent:
                unsent = process.send(unsent, FEED_SECONDS)
                self._drop(QUEUE_FULL, self._backlog.take_dropped())
                if monotonic() > self._close_by:
                    return

    def _chunks(self, records: list[RawRecord]) -> Iterator[bytes]:
        """Yield frames: first the models, which were announced before their first call."""
        yield from self._models.take_unsent()
        begin = size = 0
        for end, record in enumerate(records, 1):
            size += count_bytes(record)
            if size >= _CHUNK_BYTES or end == len(records):
                yield frame(records[begin:end])
                begin, size = end, 0

    def _try_to_start(self) -> ObserverProcess | None:
        if self._closing.is_set() or not self._backoff.is_over():
            return None
        try:
            self._process = ObserverProcess.start(self._program, self._take_report)
        except OSError as error:
            self._backoff.note_end()
            self._say("observer cannot be started", {"reason": error.strerror})
            return None
        self._backoff.note_start()
        self._models.forget_sent()
        return self._process

    def _bury(self, process: ObserverProcess, error: str) -> None:
        self._process = None
        reason = process.end()
        self._drop(OBSERVER_GONE, process.n_open)
        self._count_restart()
        seconds = self._backoff.note_end()
        fields = {"reason": reason, "error": error, "restart_seconds": seconds}
        self._say("observer ended", fields)

    def _drop(self, reason: str, n_records: int) -> None:
        if n_records > 0:
            self._count_dropped(reason, n_records)
            if reason == QUEUE_FULL:
                self._say("observer is behind, records dropped", {"records": n_records})

    def _say(self, event: str, fields: dict[str, object]) -> None:
        if self._said.may_say(event):
            named = {"observer": self._program.name, **fields}
            _log.error(event, extra={"fields": named})


class _Models:
    """The models of which an observer must know, from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        # Two models may have one version: an observer has to know of both.
        self._frames: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._unsent: list[bytes] = []

    def add(self, facts: ModelFacts) -> None:
        framed, key = frame_model(facts), (facts.version, facts.sha256)
        with self._lock:
            self._frames.pop(key, None)
            self._frames[key] = framed
            while len(self._frames) > _MAX_MODELS:
                self._frames.popitem(last=False)
            self._unsent = [*self._unsent, framed][-_MAX_MODELS:]

    def take_unsent(self) -> list[bytes]:
        with self._lock:
            unsent, self._unsent = self._unsent, []
        return unsent

    def forget_sent(self) -> None:
        """Send all again: another process knows none."""
        with self._lock:
            self._unsent = list(self._frames.values())


class _Backoff:
    """When the next process may start."""

    def __init__(self) -> None:
        self._n_quick_ends = 0
        self._started_at = 0.0
        self._may_start_at = 0.0

    def is_over(self) -> bool:
        return monotonic() >= self._may_start_at

    def note_start(self) -> None:
        self._started_at = monotonic()

    def note_end(self) -> float:
        """Return the seconds until the next start."""
        now = monotonic()
        is_steady = now - self._started_at > _STEADY_SECONDS
        self._n_quick_ends = 0 if is_steady else min(self._n_quick_ends + 1, 16)
        seconds = _FIRST_BACKOFF_SECONDS * 2.0 ** max(0, self._n_quick_ends - 1)
        seconds = min(seconds, _MAX_BACKOFF_SECONDS)
        self._may_start_at = now + seconds
        return seconds


class _Quiet:
    """Keeps the log from repeating itself."""

    def __init__(self) -> None:
        self._said_at: dict[str, float] = {}

    def may_say(self, event: str) -> bool:
        now = monotonic()
        if now - self._said_at.get(event, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        self._said_at[event] = now
        return True
