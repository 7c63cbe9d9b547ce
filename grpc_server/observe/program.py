"""The loop of an observer process: reads records, handles them, and reports."""

import logging
import os
import resource
import select
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Protocol

from grpc_server.observe.records import MODEL, FrameReader, ModelFacts, Record
from grpc_server.observe.reports import HANDLED, Reporter

# Records that the observer failed at; the log has the first error of each minute.
FAILED = "dropped.failed"
TICK_SECONDS = 0.25
_READ_BYTES = 1024 * 1024
_QUIET_SECONDS = 60.0
# Memory beyond what Python and its libraries take: the decoded rows of the largest messages.
_MEMORY_BYTES = 1024 * 1024 * 1024
_LOWEST_PRIORITY = 19

_log = logging.getLogger(__name__)


class Observer(Protocol):
    """What an observer process does with the records; for one thread.

    An error that `handle` raises costs its record only.
    """

    def learn(self, facts: ModelFacts) -> None:
        """Learn of a model, before the first record that it answered."""
        ...

    def handle(self, record: Record) -> None:
        """Handle an answered call or chunk."""
        ...

    def tick(self) -> None:
        """Do what is due: called after each portion of records, and four times a second."""
        ...

    def close(self) -> None:
        """Finish: no record will come any more."""
        ...


def run_observer(
    connection: socket.socket, make_observer: Callable[[Reporter], Observer]
) -> None:
    """Observe until the server closes its end of the socket, or dies.

    Parameters
    ----------
    connection : socket.socket
        Socket to the server.
    make_observer : callable
        Makes the observer, which counts with the reporter that it is given.
    """
    _step_back()
    connection.setblocking(False)
    reporter = Reporter(connection)
    observer = make_observer(reporter)
    _Loop(connection, reporter, observer).run()
    observer.close()
    reporter.send()


class _Loop:
    def __init__(
        self, connection: socket.socket, reporter: Reporter, observer: Observer
    ) -> None:
        self._connection = connection
        self._reporter = reporter
        self._observer = observer
        self._reader = FrameReader()
        self._said_at = -_QUIET_SECONDS

    def run(self) -> None:
        while True:
            readable, _, _ = select.select([self._connection], [], [], TICK_SECONDS)
            if readable:
                content = self._read()
                if not content:
                    return
                for record in self._reader.feed(content):
                    self._handle(record)
            self._guard(self._observer.tick)
            self._reporter.send()

    def _read(self) -> bytes:
        """Return what has come; empty at the end."""
        try:
            return self._connection.recv(_READ_BYTES)
        except ConnectionError:
            return b""

    def _handle(self, record: Record) -> None:
        if record.kind == MODEL:
            self._guard(lambda: self._observer.learn(ModelFacts.decode(record.request)))
            return
        if not self._guard(lambda: self._observer.handle(record)):
            self._reporter.add(FAILED)
        self._reporter.add(HANDLED)

    def _guard(self, step: Callable[[], None]) -> bool:
        """Run a step; say why it failed, once a minute, and return whether it succeeded."""
        try:
            step()
        except Exception:
            if monotonic() - self._said_at >= _QUIET_SECONDS:
                self._said_at = monotonic()
                _log.exception("observer failed")
            return False
        return True


def _step_back() -> None:
    """Let the server go first: for the processor, for memory, and for signals."""
    # The end of the socket ends the process. A signal to all processes must not end it earlier.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_LOWEST_PRIORITY)
    try:
        # When memory runs out, the kernel ends this process first.
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError as error:
        _log.warning(
            "observer cannot offer itself to the kernel",
            extra={"fields": {"reason": error.strerror}},
        )
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    at_most = used + _MEMORY_BYTES
    if hard == resource.RLIM_INFINITY or at_most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (at_most, at_most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
