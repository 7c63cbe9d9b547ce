"""The life of a process that answers calls: from its first model to the end of its last call."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from grpc_server.errors import ArtifactError, StartupError
from grpc_server.model.watch import ModelWatcher
from grpc_server.registry.fetch import RegistryFetch
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
    fetch: RegistryFetch | None,
    stop: threading.Event,
) -> None:
    """Load the first model; without one there is nothing to do but, if told, wait.

    A model that an earlier start has fetched serves at once, and the registry is asked behind it: a
    start does not depend on the network.

    Raises
    ------
    StartupError
        If there is none that can be served: why, or what the registry failed with.
    """
    try:
        watcher.load_now()
    except ArtifactError as error:
        registry_error = None if fetch is None else fetch.try_once()
        if stop.is_set():
            return
        if fetch is not None and registry_error is None:
            _load_or_wait(watcher, settings)
            return
        _wait_or_raise(settings, registry_error or error)
    if fetch is not None:
        fetch.try_behind()


def _load_or_wait(watcher: ModelWatcher, settings: Settings) -> None:
    try:
        watcher.load_now()
    except ArtifactError as error:
        _wait_or_raise(settings, error)


def _wait_or_raise(settings: Settings, error: StartupError) -> None:
    if not settings.wait_for_model:
        raise error from None
    _log.warning("waiting for a model", extra={"fields": {"reason": str(error)}})
