"""The access log: a line for each call that ended, written off the threads that answer calls.

::

    call is over ── not sampled and OK ──> no line
      │
    its facts wait ── too many wait, or too many this second ──> dropped and counted
      │
    a thread writes them to the log

A line holds no message and no error text, because both may quote what the caller sent.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import monotonic

from prometheus_client import CollectorRegistry, Counter

from grpc_server.request_id import N_POSITIONS, find_position
from grpc_server.rpc.calls import Call, Desk

# Lines of one process in one second. An overloaded server refuses tens of thousands of calls a
# second, and a line takes 30 us.
MAX_LINES_PER_SECOND = 500
_WRITE_SECONDS = 0.1

_log = logging.getLogger("grpc_server.calls")


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What the log tells of a call.

    Parameters
    ----------
    method : str
        Name, such as "Predict".
    code : str
        Name of the status code that the caller saw.
    rows : int
        Rows that were answered.
    milliseconds : float
        Time from the arrival of the call to its end.
    computing_milliseconds : float
        Time that the server worked on it.
    peer : str
        The caller's address and port, as gRPC writes it.
    caller : str
        Name of the caller; empty if no list names callers, or none named it.
    request_id : str
        The call's `x-request-id`, or the one that the server made.
    trace_id : str
        The trace of the call's `traceparent`, or the one that the server began; empty without.
    """

    method: str
    code: str
    rows: int
    milliseconds: float
    computing_milliseconds: float
    peer: str
    caller: str
    request_id: str
    trace_id: str


class CallLog:
    """Writes calls to the log: all that failed, and a share of the others.

    Parameters
    ----------
    share : float
        Share of the calls with code OK that are written, [0, 1], chosen by their request id.
    registry : CollectorRegistry
        Registers the count of lines that were dropped.
    find_peer : callable
        Returns the address and port of a call's client.
    """

    def __init__(
        self,
        share: float,
        registry: CollectorRegistry,
        find_peer: Callable[[Call], str],
    ) -> None:
        self._find_peer = find_peer
        self._bound = round(share * N_POSITIONS)
        self._dropped = Counter(
            "prediction_call_log_dropped",
            "Calls that the log should have and has not: too many ended in a second.",
            registry=registry,
        )
        self._waiting: deque[CallFacts] = deque()
        self._n_left = MAX_LINES_PER_SECOND
        self._n_dropped = 0  # only the serving thread changes it
        self._n_told = 0
        self._refill_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="call-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and end; a log that nobody reads is left alone after a second."""
        self._stop.set()
        if self._thread.ident is not None:  # a start may have failed before
            self._thread.join(1.0)

    def put(self, method: str, call: Call) -> None:
        """Take a call that is over, on the serving thread."""
        code = call.seen_code()
        if code == "OK" and find_position(call.request_id()) >= self._bound:
            return
        # The writer refills; without it, in a blocked log, the room is used up.
        if self._n_left <= 0:
            self._n_dropped += 1
            return
        self._n_left -= 1
        peer = self._find_peer(call)
        self._waiting.append(_describe(method, code, call, peer))

    def _run(self) -> None:
        while not self._stop.wait(_WRITE_SECONDS):
            self._write()
        self._write()
        self._tell_dropped()

    def _write(self) -> None:
        while self._waiting:
            facts = self._waiting.popleft()
            _log.info("call", extra={"fields": asdict(facts)})
        if monotonic() >= self._refill_at:
            self._refill_at = monotonic() + 1.0
            self._n_left = MAX_LINES_PER_SECOND
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        n_dropped = self._n_dropped - self._n_told
        if n_dropped:
            self._n_told += n_dropped
            self._dropped.inc(n_dropped)
            _log.warning("calls not logged", extra={"fields": {"calls": n_dropped}})


class LoggedDesk:
    """Writes the calls of a desk to the log once they are over.

    Parameters
    ----------
    desk : Desk
        Computes the calls.
    method : str
        Name of the method.
    log : CallLog
        Takes the calls.
    """

    def __init__(self, desk: Desk, method: str, log: CallLog) -> None:
        self._desk, self._method, self._log = desk, method, log
        self.admit, self.take = desk.admit, desk.take

    def forget(self, call: Call) -> None:
        """Release the room of a call, and log it."""
        self._desk.forget(call)
        self._log.put(self._method, call)


def _describe(method: str, code: str, call: Call, peer: str) -> CallFacts:
    return CallFacts(
        method,
        code,
        int(code == "OK") if method == "Predict" else call.n_rows,
        round((monotonic() - call.arrival) * 1e3, 3),
        round(call.seconds * 1e3, 3),
        peer,
        "" if call.caller is None else call.caller.name,
        call.request_id(),
        call.trace_id(),
    )
