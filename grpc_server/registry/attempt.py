"""One try to fetch, in a thread of its own, so that who waits for it can give it up.

It knows neither the registry nor the store: what is tried is handed in.
"""

import threading
import time
from collections.abc import Callable

from grpc_server.errors import RegistryError
from grpc_server.model.source import ModelSource


class AttemptOverdue(Exception):
    """An attempt hangs, as one does to which a registry sends a byte now and then."""


class Attempt:
    """One try in a thread of its own, which can be given up."""

    def __init__(self, work: Callable[[], ModelSource]) -> None:
        self._is_over = threading.Event()
        self._source: ModelSource | None = None
        self._error: RegistryError | None = None
        self._work = work
        threading.Thread(target=self._run, name="attempt", daemon=True).start()

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Wait for the end of the attempt, of its time, or of the program.

        MLflow's own timeouts are for each wait. A registry that sends a byte now and then never
        runs into one.

        Raises
        ------
        AttemptOverdue
            If its time is over.
        """
        end = time.monotonic() + seconds
        while not self._is_over.wait(0.1) and not stop.is_set():
            if time.monotonic() > end:
                raise AttemptOverdue

    def result(self) -> ModelSource:
        """Return what was fetched.

        Raises
        ------
        RegistryError
            If nothing was.
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
