"""Hands traces from the threads that answer calls to a thread that sends them.

::

    call begins ── too many this second, or too many wait ──> not traced, counted
       │
    call is over: its record waits ── too many wait ────────> dropped, counted
       │
    a thread makes spans of the records, and sends them
       │                 │
    the collector      no answer, or "later": the same request again, after 1, 2, 4 ... seconds,
    has taken them     5 times; then it is dropped and counted
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter

from grpc_server.tracing.collector import Outcome, Reply
from grpc_server.tracing.otlp import OtlpBatch
from grpc_server.tracing.spans import Attribute, Record

# Calls of one process in one second. A traced call costs this process about 0.1 ms more in all.
MAX_CALLS_PER_SECOND = 500
# Records that wait, about 1 KiB each.
MAX_WAITING = 2048
# Encoding a request holds the interpreter: this many spans take less than a millisecond.
_MAX_SPANS = 1024
_SEND_SECONDS = 0.5
_MAX_ATTEMPTS = 5
_MAX_WAIT_SECONDS = 30.0
# Time at a stop for what waits; the collector may be gone already.
_CLOSE_SECONDS = 2.0
_REASONS = ("full", "refused", "unreachable", "broken")

_log = logging.getLogger(__name__)


class TraceMetrics:
    """What became of the traces.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the counts.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        sent = Counter(
            "prediction_traces_sent",
            "Traces of calls and of model swaps that the collector has taken.",
            registry=registry,
        )
        dropped = Counter(
            "prediction_traces_dropped",
            "Traces that the collector should have and has not: full, too many calls were traced; "
            "refused, the collector did not want them; unreachable, it did not answer; broken, a "
            "fault of this server.",
            ("reason",),
            registry=registry,
        )
        by_reason = {reason: dropped.labels(reason) for reason in _REASONS}
        self.count_sent: Callable[[int], None] = sent.inc
        self._by_reason = by_reason

    def count_dropped(self, reason: str, n_traces: int = 1) -> None:
        """Count traces that were dropped, for one of the reasons."""
        self._by_reason[reason].inc(n_traces)


class TraceExporter:
    """Sends traces, in a thread, from `start` to `close`.

    Parameters
    ----------
    send : callable
        Sends an encoded request, and returns what became of it; never raises.
    resource : mapping of str to str, int, float or bool
        Attributes of this process.
    metrics : TraceMetrics
        Counts the traces.
    retry_seconds : float
        Time until a request is sent again; it doubles each time, up to 30 s.
    """

    def __init__(
        self,
        send: Callable[[bytes], Reply],
        resource: Mapping[str, Attribute],
        metrics: TraceMetrics,
        *,
        retry_seconds: float = 1.0,
    ) -> None:
        self._send = send
        self._resource = resource
        self._metrics = metrics
        self._retry_seconds = retry_seconds
        self._waiting: deque[Record] = deque()
        self._n_left = MAX_CALLS_PER_SECOND
        self._refill_at = 0.0
        self._is_failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def close(self) -> None:
        """Send what waits, and end; a collector that does not answer is left after 2 s."""
        self._stop.set()
        if self._thread.ident is not None:  # a start may have failed before
            self._thread.join(_CLOSE_SECONDS)

    def has_room(self) -> bool:
        """Return whether one more call may be traced, and count it; for one thread only."""
        now = time.monotonic()
        if now >= self._refill_at:
            self._refill_at, self._n_left = now + 1.0, MAX_CALLS_PER_SECOND
        if self._n_left <= 0 or len(self._waiting) >= MAX_WAITING:
            self._metrics.count_dropped("full")
            return False
        self._n_left -= 1
        return True

    def put(self, record: Record) -> None:
        """Take a record, on any thread; drop it if too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.count_dropped("full")
        else:
            self._waiting.append(record)

    def _run(self) -> None:
        while not self._stop.wait(_SEND_SECONDS):
            self._send_or_log()
        self._send_or_log()

    def _send_or_log(self) -> None:
        try:
            self._send_waiting()
        except Exception:
            _log.exception("traces lost")  # a bug; the next ones are sent all the same

    def _send_waiting(self) -> None:
        while self._waiting:
            batch = self._take()
            if batch.n_traces:
                self._deliver(batch.encode(), batch.n_traces)

    def _take(self) -> OtlpBatch:
        batch = OtlpBatch(self._resource)
        while self._waiting and batch.n_spans < _MAX_SPANS:
            self._add(batch, self._waiting.popleft())
            # Lets a thread that answers calls go on: it would wait up to 5 ms for the interpreter.
            time.sleep(0)
        return batch

    def _add(self, batch: OtlpBatch, record: Record) -> None:
        try:
            batch.add(record.to_trace())
        except Exception:
            # Tracing goes on with the next record.
            _log.exception("trace lost")
            self._metrics.count_dropped("broken")

    def _deliver(self, content: bytes, n_traces: int) -> None:
        """Send a request, several times if need be."""
        wait_seconds = self._retry_seconds
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            reply = self._send(content)
            self._tell(reply)
            if reply.outcome is not Outcome.AGAIN or attempt == _MAX_ATTEMPTS:
                break
            longer = max(wait_seconds, reply.wait_seconds)
            if self._stop.wait(min(longer, _MAX_WAIT_SECONDS)):
                break
            wait_seconds *= 2
        self._count(reply, n_traces)

    def _count(self, reply: Reply, n_traces: int) -> None:
        match reply.outcome:
            case Outcome.TAKEN:
                self._metrics.count_sent(n_traces)
            case Outcome.REFUSED:
                self._metrics.count_dropped("refused", n_traces)
            case Outcome.AGAIN:
                self._metrics.count_dropped("unreachable", n_traces)

    def _tell(self, reply: Reply) -> None:
        """Log the first failure, and the first success after it."""
        is_failing = reply.outcome is not Outcome.TAKEN or reply.n_refused_spans > 0
        if is_failing and not self._is_failing:
            fields = {"reason": reply.reason, "refused_spans": reply.n_refused_spans}
            _log.warning("traces not taken by the collector", extra={"fields": fields})
        elif self._is_failing and not is_failing:
            _log.info("traces are taken again")
        self._is_failing = is_failing
