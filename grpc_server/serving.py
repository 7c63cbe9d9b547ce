"""The life of a serving process.

::

    first model: load it ── none ──> fetch it from the registry ── none ──> error, or wait
       │                                                           (--wait-for-model)
    serve; watch for newer models
       │ SIGTERM, or SIGINT, which skips the drain
    drain: not ready, still answering
       │
    stop: no new calls, finish those in flight
"""

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
    """A server that can be stopped."""

    def drain(self, wake: threading.Event) -> None:
        """Report not ready and keep answering, for a while or until `wake` is set."""

    def stop(self) -> None:
        """Accept no new calls, and finish those in flight."""


def serve_until_stopped(
    server: Server,
    watcher: ModelWatcher,
    begin: Callable[[], None],
    signals: Signals,
    drain_seconds: float,
    canary_watcher: ModelWatcher | None = None,
) -> None:
    """Serve the newest model until a signal arrives, then stop cleanly.

    Parameters
    ----------
    server : Server
        Server, which is stopped at the end.
    watcher : ModelWatcher
        Looks for newer models, from `begin` to the stop.
    begin : callable
        Loads the first model and starts the server.
    signals : Signals
        When to stop, and whether to hurry.
    drain_seconds : float
        Drain time of the server, for the log.
    canary_watcher : ModelWatcher or None
        Looks for canaries meanwhile; None without one.

    Raises
    ------
    StartupError
        If `begin` raises it; the server is stopped first.
    """
    try:
        begin()
        watcher.start()
        if canary_watcher is not None:
            canary_watcher.start()
        signals.stop.wait()
        _log.info("draining", extra={"fields": {"seconds": drain_seconds}})
        server.drain(signals.hurry)
    finally:
        watcher.stop()
        if canary_watcher is not None:
            canary_watcher.stop()
        server.stop()
        _log.info("stopped")


def load_first(
    watcher: ModelWatcher,
    settings: Settings,
    fetch: RegistryFetch | None,
    stop: threading.Event,
) -> None:
    """Load the first model, or wait for one if the settings allow it.

    A model from an earlier start serves immediately, and a thread asks the registry. So a start
    does not depend on the network.

    Parameters
    ----------
    watcher : ModelWatcher
        Loads the model.
    settings : Settings
        Settings of the server.
    fetch : RegistryFetch or None
        Fetches the model; None without a registry.
    stop : threading.Event
        Ends the attempt to load once it is set.

    Raises
    ------
    StartupError
        If no model can be served: the registry's error if there is one, otherwise the model's.
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
