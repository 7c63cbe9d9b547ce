"""One attempt to fetch, in its own thread, so that the caller can give it up.

This module knows neither the registry nor the store: the caller passes the work in.
"""

import threading
import time
from collections.abc import Callable

from grpc_server.errors import RegistryError
from grpc_server.model.source import ModelSource


class AttemptOverdue(Exception):
    """An attempt hangs, for example on a registry that sends a byte now and then."""


class Attempt:
    """One attempt in its own thread.

    Parameters
    ----------
    work : callable
        Fetches a version and returns its origin, or raises a RegistryError.
    """

    def __init__(self, work: Callable[[], ModelSource]) -> None:
        self._is_over = threading.Event()
        self._source: ModelSource | None = None
        self._error: RegistryError | None = None
        self._work = work
        threading.Thread(target=self._run, name="attempt", daemon=True).start()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait until the attempt ends, or `stop` is set.

        MLflow's timeouts apply to each read. A registry that sends a byte now and then never
        reaches one.

        Raises
        ------
        AttemptOverdue
            If the attempt takes longer than `seconds`.
        """
        end = time.monotonic() + seconds
        while not self._is_over.wait(0.1) and not stop.is_set():
            if time.monotonic() > end:
                raise AttemptOverdue

    def result(self) -> ModelSource:
        """Return the origin of the fetched version.

        Raises
        ------
        RegistryError
            If the attempt failed.
        """
        if self._error is not None:
            raise self._error
        assert self._source is not None
        return self._source

    def _run(self) -> None:
        try:
            self._source = self._work()
        except RegistryError as error:
            self._error = error
        finally:
            self._is_over.set()
