"""How many calls a pool may hold, so that a storm leaves no backlog behind it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


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
