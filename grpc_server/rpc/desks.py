"""Where calls are computed: at once, in the rounds of the fast lane, or by workers."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import grpc
from grpc_status import rpc_status

from grpc_server.errors import Overloaded
from grpc_server.rpc.calls import Call
from grpc_server.rpc.grpcio_internals import CallQueue
from grpc_server.rpc.statuses import to_status

# One round: for as long calls are taken in, and computed, before they are answered.
MAX_INTAKE_SECONDS = 0.001
MAX_COMPUTE_SECONDS = 0.001
# A line is long from so many calls on. Then less time goes into new ones, most of which are to be
# refused: as soon as the first in line has waited for so long.
MIN_LINE = 64
SHORT_INTAKE_SECONDS = 0.0001
MAX_WAIT_SECONDS = 0.05

_log = logging.getLogger(__name__)


@cache
def _overloaded() -> grpc.Status:
    """Return the status of a refusal, made once: in a storm they are many."""
    error = Overloaded("too many calls are in flight; try again later")
    return rpc_status.to_status(to_status(error))


class AtOnce:
    """Computes a call on the serving thread, before those that are in line: for health checks."""

    def admit(self, call: Call) -> bool:
        """Return True: there is always room."""
        return True

    def take(self, call: Call) -> None:
        """Compute and answer the call."""
        _compute_and_send(call)

    def forget(self, call: Call) -> None:
        """Do nothing: no call is counted."""


class FastLane:
    """Computes calls on the serving thread, in rounds.

    A round takes in the calls that have arrived, computes them, and answers them. Each answer is a
    system call that cools the CPU caches: computing several calls before answering gives half as
    many calls again. And the lane knows what waits, so it can refuse what would wait too long.

    Parameters
    ----------
    queue : CallQueue
        Where calls come from.
    max_calls_in_flight : int
        Calls beyond it are refused.
    flush : callable
        Counts the calls that have ended; it is called once a round.
    """

    def __init__(
        self,
        queue: CallQueue,
        max_calls_in_flight: int,
        flush: Callable[[], None],
    ) -> None:
        self._handle_event = queue.handle_event
        self._max_calls_in_flight = max_calls_in_flight
        self._flush = flush
        # Changed by the serving thread alone.
        self._n_open = 0
        self._n_in_flight = 0  # those of them whose messages are there
        self._is_working = False
        self._is_behind = False
        self._line: deque[Call] = deque()
        self._computed: list[Call] = []

    def admit(self, call: Call) -> bool:
        """Return whether there is room for a call; refuse it if not."""
        self._n_open += 1
        if self._n_in_flight >= self._max_calls_in_flight or self._is_slow():
            self._refuse(call)
            return False
        # It may have waited already, in grpc-core, or will do so: its caller may hang up meanwhile.
        if self._is_behind or self._n_open > 2 * MIN_LINE:
            call.watch()
        if self._n_open == 1:
            self._flush()
        return True

    def take(self, call: Call) -> None:
        """Line the call up, and compute what is in line."""
        if self._n_in_flight >= self._max_calls_in_flight:
            self._refuse(call)
            return
        call.is_counted = True
        self._n_in_flight += 1
        self._line.append(call)
        if not self._is_working:
            self._work()

    def forget(self, call: Call) -> None:
        """Make room if the call was counted."""
        self._n_open -= 1
        if call.is_counted:
            self._n_in_flight -= 1
        # While others are open, one of them does so when it is answered, or over.
        if self._n_open == 0:
            self._flush()

    def _is_slow(self) -> bool:
        """Return whether the line is long, and its first call has waited for too long."""
        if len(self._line) < MIN_LINE:
            return False
        return time.monotonic() - self._line[0].arrival > MAX_WAIT_SECONDS

    def _refuse(self, call: Call) -> None:
        call.refuse(_overloaded())
        self._computed.append(call)
        if not self._is_working:
            self._work()

    def _work(self) -> None:
        """Go round until no call is in line; events that come meanwhile only line calls up."""
        self._is_working = True
        while self._line or self._computed:
            if self._n_open > 1:
                self._take_in()
            self._compute()
            self._answer()
        self._is_working = False

    def _take_in(self) -> None:
        """Handle the events that are there: calls that begin, line up, and end."""
        is_long = len(self._line) >= MIN_LINE
        seconds = SHORT_INTAKE_SECONDS if is_long else MAX_INTAKE_SECONDS
        end = time.monotonic() + seconds
        while self._handle_event() and time.monotonic() < end:
            pass

    def _compute(self) -> None:
        end = time.monotonic() + MAX_COMPUTE_SECONDS
        was_behind, self._is_behind = self._is_behind, False
        while self._line and not self._is_behind:
            call = self._line.popleft()
            call.compute()
            self._computed.append(call)
            self._is_behind = time.monotonic() > end
        if self._is_behind and not was_behind:
            self._watch_line()

    def _watch_line(self) -> None:
        """Watch calls that wait for their turn, as those will be that come while there are some."""
        for call in self._line:
            call.watch()

    def _answer(self) -> None:
        self._flush()
        computed, self._computed = self._computed, []
        for call in computed:
            call.send()


class Workers:
    """Computes calls on a few threads.

    Parameters
    ----------
    n_threads : int
        Number of threads.
    max_calls_in_flight : int
        Calls whose messages are there, waiting or running; more are refused.
    max_waiting_bytes : int
        Bytes of the messages that wait or run, all together; a call beyond them is refused.
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
        """Return whether there is room for a call; refuse it if not."""
        if self._n_in_flight >= self._max_calls_in_flight:
            self._refuse(call)
            return False
        call.watch()
        return True

    def take(self, call: Call) -> None:
        """Let a worker compute and answer the call."""
        assert call.message is not None
        n_bytes = len(call.message)
        with self._lock:
            # One message alone is always taken.
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
        """Let a worker compute what has come for a call, however many wait."""
        self._pool.submit(_logged, _compute_and_send, call)

    def forget(self, call: Call) -> None:
        """Do nothing: room is made as soon as a call is computed."""

    def stop(self) -> None:
        """Let the threads end."""
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
        call.refuse(_overloaded())
        call.send()


class OpenCalls:
    """Bounds how many calls of a method are open, which may be so for long, as streams are.

    Parameters
    ----------
    max_calls : int
        Open calls; more are refused.
    take : callable
        Computes what has come for a call, and never refuses it.
    """

    def __init__(self, max_calls: int, take: Callable[[Call], None]) -> None:
        self.take = take
        self._max_calls = max_calls
        self._n_calls = 0  # changed by the serving thread alone

    def admit(self, call: Call) -> bool:
        """Return whether there is room for a call; refuse it if not."""
        if self._n_calls >= self._max_calls:
            call.refuse(_overloaded())
            call.send()
            return False
        call.is_counted = True
        self._n_calls += 1
        return True

    def forget(self, call: Call) -> None:
        """Make room if the call was counted."""
        if call.is_counted:
            self._n_calls -= 1


def _compute_and_send(call: Call) -> None:
    call.compute()
    call.send()


def _logged(task: Callable[..., None], *args: object) -> None:
    """Run a task of a worker; nobody looks at what becomes of it."""
    try:
        task(*args)
    except Exception:
        _log.exception("answer not sent")
