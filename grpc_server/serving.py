"""The life of a process that answers calls: from its first model to the end of its last call."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from grpc_server.errors import ArtifactError, RegistryError
from grpc_server.model_watch import ModelWatcher
from grpc_server.settings import Settings
from grpc_server.signals import Signals

_log = logging.getLogger("grpc_server")


class Server(Protocol):
    """What answers."""

    def drain(self, wake: threading.Event) -> None:
        """Go on answering, not ready, for a while or until `wake` is set."""

    def stop(self) -> None:
        """Take no new calls and finish those in flight."""


def serve_until_stopped(
    server: Server,
    watcher: ModelWatcher,
    begin: Callable[[], None],
    signals: Signals,
    drain_seconds: float,
) -> None:
    """Begin, let the newest model answer until a signal comes, and end well.

    Raises
    ------
    StartupError
        If `begin` does, after all has been stopped.
    """
    try:
        begin()
        watcher.start()
        signals.stop.wait()
        _log.info("draining", extra={"fields": {"seconds": drain_seconds}})
        server.drain(signals.hurry)
    finally:
        watcher.stop()
        server.stop()
        _log.info("stopped")


def load_first(
    watcher: ModelWatcher,
    settings: Settings,
    registry_error: RegistryError | None = None,
) -> None:
    """Load the first model; without one there is nothing to do but, if told, wait.

    Raises
    ------
    StartupError
        If there is none that can be served: `registry_error` if given, else why.
    """
    try:
        watcher.load_now()
    except ArtifactError as error:
        if not settings.wait_for_model:
            raise registry_error or error from None
        _log.warning("waiting for a model", extra={"fields": {"reason": str(error)}})
