"""Which calls are computed: as many as a pool may hold, and none that nobody waits for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc

from grpc_server.errors import CallCancelled, DeadlineExceeded


def check_waited_for(context: grpc.ServicerContext) -> None:
    """Refuse what nobody waits for any more, before it costs a prediction.

    Raises
    ------
    DeadlineExceeded
        If the deadline of the call passed.
    CallCancelled
        If its caller hung up.
    """
    # None without a deadline, which the stubs do not know.
    remaining_seconds: float | None = context.time_remaining()
    if remaining_seconds is not None and remaining_seconds <= 0:
        raise DeadlineExceeded("the deadline passed before the call could be answered")
    if not context.is_active():
        raise CallCancelled("the call was cancelled before it could be answered")


class BoundedPool(ThreadPoolExecutor):
    """A thread pool that knows when it holds as many calls as it should, waiting or running.

    It refuses nothing itself: `grpc.server` has no way to answer a call that its pool refuses.
    """

    def __init__(self, n_threads: int, max_calls_in_flight: int) -> None:
        super().__init__(n_threads, thread_name_prefix="worker")
        self._max_calls_in_flight = max_calls_in_flight
        self._n_in_flight = 0
        self._lock = threading.Lock()

    @property
    def has_room(self) -> bool:
        """Whether one more call is to be let in."""
        return self._n_in_flight < self._max_calls_in_flight

    def submit(
        self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """Count a call until it is over, however it ends."""
        with self._lock:
            self._n_in_flight += 1
        future = super().submit(fn, *args, **kwargs)
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._n_in_flight -= 1
