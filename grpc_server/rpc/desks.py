"""Desks, which compute calls: at once, in the rounds of the fast lane, or by worker threads.

The fast lane, on the serving thread::

    call begins ── too many in flight, or a slow line ──> refused
       │
    message arrives ── too many in flight ──────────────> refused
       │
    joins the line; rounds begin, unless they run already:

    ┌─> take in: handle pending events, for 1 ms, or 0.1 ms if the line is long
    │      │
    │   compute: calls from the head of the line, for 1 ms
    │      │
    └── reply to every computed or refused call; repeat until the line is empty
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import grpc
from grpc_status import rpc_status

from grpc_server.errors import Overloaded
from grpc_server.rpc.calls import Call
from grpc_server.rpc.grpcio_internals import CallQueue
from grpc_server.rpc.statuses import to_status

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LanePolicy:
    """Limits of the fast lane's rounds.

    Parameters
    ----------
    intake_seconds : float
        Longest time that a round takes calls in, 0 or more.
    compute_seconds : float
        Longest time that a round computes calls before it replies, 0 or more. One call at least is
        computed.
    min_long_line : int
        Number of calls from which a line is long, 1 or more.
    long_line_intake_seconds : float
        Intake time while the line is long: most new calls are then refused anyway. 0 or more.
    max_wait_seconds : float
        New calls are refused while the line is long and its first call has waited longer than this.
        0 or more.
    """

    intake_seconds: float = 0.001
    compute_seconds: float = 0.001
    min_long_line: int = 64
    long_line_intake_seconds: float = 0.0001
    max_wait_seconds: float = 0.05


DEFAULT_LANE_POLICY = LanePolicy()


@cache
def _overloaded(domain: str) -> grpc.Status:
    """Return the status of a refusal, built once: an overloaded server refuses many calls."""
    error = Overloaded("too many calls are in flight; try again later")
    return rpc_status.to_status(to_status(error, domain))


class AtOnce:
    """Computes a call immediately on the serving thread, ahead of the line: for health checks."""

    def admit(self, call: Call) -> bool:
        """Return True: there is always room."""
        return True

    def take(self, call: Call) -> None:
        """Compute the reply, and send it."""
        _compute_and_send(call)

    def forget(self, call: Call) -> None:
        """Do nothing: calls are not counted."""


class FastLane:
    """Computes calls on the serving thread, in rounds.

    Each reply is a system call that cools the CPU caches. Computing several calls before replying
    gives half as many calls again. It also lets the lane refuse calls that would wait too long.

    Parameters
    ----------
    queue : CallQueue
        Delivers the calls.
    max_calls_in_flight : int
        Calls beyond this number are refused.
    flush : callable
        Updates the metrics of the calls that ended; the lane calls it once per round.
    policy : LanePolicy
        Limits of a round.
    """

    def __init__(
        self,
        queue: CallQueue,
        max_calls_in_flight: int,
        flush: Callable[[], None],
        policy: LanePolicy = DEFAULT_LANE_POLICY,
    ) -> None:
        self._handle_event = queue.handle_event
        self._max_calls_in_flight = max_calls_in_flight
        self._flush = flush
        self._policy = policy
        # Only the serving thread changes these.
        self._n_open = 0
        self._n_in_flight = 0  # open calls whose message has arrived
        self._is_working = False
        self._is_behind = False
        self._line: deque[Call] = deque()
        self._computed: list[Call] = []

    def admit(self, call: Call) -> bool:
        """Return whether there is room for a call; refuse it otherwise."""
        self._n_open += 1
        if self._n_in_flight >= self._max_calls_in_flight or self._is_slow():
            self._refuse(call)
            return False
        # A call that has waited, in grpc-core, or will wait: its caller may hang up meanwhile.
        if self._is_behind or self._n_open > 2 * self._policy.min_long_line:
            call.watch()
        if self._n_in_flight == 0:
            self._flush()
        return True

    def take(self, call: Call) -> None:
        """Append the call to the line, and compute the line."""
        if self._n_in_flight >= self._max_calls_in_flight:
            self._refuse(call)
            return
        call.is_counted = True
        self._n_in_flight += 1
        self._line.append(call)
        if not self._is_working:
            self._work()

    def forget(self, call: Call) -> None:
        """Release the room of the call if it was counted."""
        self._n_open -= 1
        if call.is_counted:
            self._n_in_flight -= 1
        # While a message is there, a later round flushes.
        if self._n_in_flight == 0:
            self._flush()

    def _is_slow(self) -> bool:
        """Return whether the line is long and its first call has waited too long."""
        policy = self._policy
        if len(self._line) < policy.min_long_line:
            return False
        return time.monotonic() - self._line[0].arrival > policy.max_wait_seconds

    def _refuse(self, call: Call) -> None:
        call.refuse(_overloaded(call.domain))
        self._computed.append(call)
        if not self._is_working:
            self._work()

    def _work(self) -> None:
        """Run rounds until the line is empty; events during a round only extend the line."""
        self._is_working = True
        while self._line or self._computed:
            if self._n_open > 1:
                self._take_in()
            self._compute()
            self._answer()
        self._is_working = False

    def _take_in(self) -> None:
        """Handle the pending events: calls that begin, join the line, or end."""
        policy = self._policy
        is_long = len(self._line) >= policy.min_long_line
        seconds = policy.long_line_intake_seconds if is_long else policy.intake_seconds
        end = time.monotonic() + seconds
        while self._handle_event() and time.monotonic() < end:
            pass

    def _compute(self) -> None:
        end = time.monotonic() + self._policy.compute_seconds
        was_behind, self._is_behind = self._is_behind, False
        while self._line and not self._is_behind:
            call = self._line.popleft()
            call.compute()
            self._computed.append(call)
            self._is_behind = time.monotonic() > end
        if self._is_behind and not was_behind:
            self._watch_line()

    def _watch_line(self) -> None:
        """Watch the calls that wait; `admit` watches those that arrive while the lane is behind."""
        for call in self._line:
            call.watch()

    def _answer(self) -> None:
        self._flush()
        computed, self._computed = self._computed, []
        for call in computed:
            call.send()


class Workers:
    """Computes calls on worker threads.

    Parameters
    ----------
    n_threads : int
        Number of threads.
    max_calls_in_flight : int
        Most calls that wait or run after their message has arrived; more are refused.
    max_waiting_bytes : int
        Most bytes of all messages that wait or run; a call beyond them is refused.
    """

    def __init__(
        self, n_threads: int, max_calls_in_flight: int, max_waiting_bytes: int
    ) -> None:
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="worker")
        self._max_calls_in_flight = max_calls_in_flight
        self._max_waiting_bytes = max_waiting_bytes
        self._lock = threading.Lock()
        self._n_in_flight = 0
        self._n_waiting_bytes = 0

    def admit(self, call: Call) -> bool:
        """Return whether there is room for a call; refuse it otherwise."""
        if self._n_in_flight >= self._max_calls_in_flight:
            self._refuse(call)
            return False
        call.watch()
        return True

    def take(self, call: Call) -> None:
        """Let a worker compute the reply and send it."""
        assert call.message is not None
        n_bytes = len(call.message)
        with self._lock:
            # A single message always has room.
            has_room = self._n_in_flight < self._max_calls_in_flight and (
                self._n_waiting_bytes == 0
                or self._n_waiting_bytes + n_bytes <= self._max_waiting_bytes
            )
            if has_room:
                self._n_in_flight += 1
                self._n_waiting_bytes += n_bytes
        if has_room:
            self._pool.submit(_logged, self._compute, call, n_bytes)
        else:
            self._refuse(call)

    def take_unbounded(self, call: Call) -> None:
        """Let a worker compute the reply and send it, however many calls wait."""
        self._pool.submit(_logged, _compute_and_send, call)

    def forget(self, call: Call) -> None:
        """Do nothing: the room of a call is released once it is computed."""

    def stop(self) -> None:
        """Let the threads end; do not wait for them."""
        self._pool.shutdown(wait=False)

    def _compute(self, call: Call, n_bytes: int) -> None:
        try:
            call.compute()
        finally:
            with self._lock:
                self._n_in_flight -= 1
                self._n_waiting_bytes -= n_bytes
        call.send()

    def _refuse(self, call: Call) -> None:
        call.refuse(_overloaded(call.domain))
        call.send()


class OpenCalls:
    """Limits the open calls of a method whose calls may be open for long, such as a stream.

    Parameters
    ----------
    max_calls : int
        Most open calls; more are refused.
    take : callable
        Computes the reply to a message and sends it; it never refuses a call.
    """

    def __init__(self, max_calls: int, take: Callable[[Call], None]) -> None:
        self.take = take
        self._max_calls = max_calls
        self._n_calls = 0  # only the serving thread changes it

    def admit(self, call: Call) -> bool:
        """Return whether there is room for a call; refuse it otherwise."""
        if self._n_calls >= self._max_calls:
            call.refuse(_overloaded(call.domain))
            call.send()
            return False
        call.is_counted = True
        self._n_calls += 1
        return True

    def forget(self, call: Call) -> None:
        """Release the room of the call if it was counted."""
        if call.is_counted:
            self._n_calls -= 1


def _compute_and_send(call: Call) -> None:
    call.compute()
    call.send()


def _logged(task: Callable[..., None], *args: object) -> None:
    """Run a task of a worker and log its errors: nobody reads its future."""
    try:
        task(*args)
    except Exception:
        _log.exception("answer not sent")
