"""`python -m grpc_server`: reads the environment, then runs one server process or a supervisor."""

import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from prometheus_client import disable_created_metrics

from grpc_server.errors import ArtifactError, StartupError
from grpc_server.logs import configure_logging, escape_unshowable
from grpc_server.model_uri import ModelUri
from grpc_server.processes.supervisor import Supervisor
from grpc_server.registry.fetch import RegistryFetch
from grpc_server.settings import Settings, describe, parse_command_line
from grpc_server.signals import Signals
from grpc_server.stop_limit import end_at_last
from grpc_server.trial_load import try_to_load
from grpc_server.trust import Trust
from prediction_common.secrets import find_secrets, redact

_log = logging.getLogger("grpc_server")


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the program and return its exit code."""
    escape_unshowable(sys.stdout)
    # They double the page, and no query needs them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        command_line = parse_command_line(arguments, environ)
        settings = command_line.settings
        if command_line.print_settings:
            print(describe(settings, command_line.origins))
            return 0
        configure_logging(settings.log_level, find_secrets(environ))
        if command_line.n_service_links:
            _log_links(command_line.n_service_links)
        if settings.processes == 1:
            _run(settings, environ)
        else:
            _supervise(settings, arguments, environ)
    except StartupError as error:
        print(f"error: {redact(str(error), find_secrets(environ))}", file=sys.stderr)
        return 1
    return 0


def _run(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve in this process."""
    # Imported here because they import gRPC, whose memory the supervisor saves.
    from grpc_server.canary.start import make_watcher
    from grpc_server.model.watch import ModelWatcher
    from grpc_server.server import PredictionServer
    from grpc_server.serving import load_first, serve_until_stopped

    model_dir = settings.model_folder
    signals = Signals()
    end_at_last(signals, settings.drain_seconds, settings.grace_seconds)
    server = PredictionServer(settings)
    watcher = ModelWatcher(
        model_dir,
        settings.model_uri,
        server.serve,
        server.count_load_failure,
        show_standing=server.show_standing,
        trust=settings.trust,
        steps=server.follow_steps(),
    )
    canary_watcher = make_watcher(settings, server.canary, server.follow_steps())
    server.start()
    _log_ports(server.port, server.http_port, server.health_port)
    _log_trust(settings.trust)

    fetch = RegistryFetch.from_settings(settings, environ, signals.stop)

    def begin() -> None:
        if not signals.stop.is_set():
            _fetch_beside(settings, environ, signals.stop)
            load_first(watcher, settings, fetch, signals.stop)

    serve_until_stopped(
        server, watcher, begin, signals, settings.drain_seconds, canary_watcher
    )


def _supervise(
    settings: Settings, arguments: Sequence[str], environ: Mapping[str, str]
) -> None:
    """Serve in several processes under a supervisor."""
    folder = (
        settings.model_folder
    )  # read here, so that an error occurs once, not per process
    signals = Signals()
    fetch = RegistryFetch.from_settings(settings, environ, signals.stop)
    with Supervisor(settings, arguments, environ, signals) as supervisor:
        _log_ports(supervisor.port, supervisor.http_port, supervisor.health_port)
        _log_trust(settings.trust)
        _fetch_beside(settings, environ, signals.stop)
        registry_error = None
        if fetch is not None:
            uri, is_wanted = settings.model_uri, True
            if uri is None or not _can_be_served(
                folder, uri, settings.trust, signals.stop
            ):
                registry_error = fetch.try_once()
                is_wanted = registry_error is not None and settings.wait_for_model
            if is_wanted:
                fetch.try_behind()
        supervisor.run(registry_error)


def _fetch_beside(
    settings: Settings, environ: Mapping[str, str], stop: threading.Event
) -> None:
    """Fetch canary and shadow meanwhile, if there are any: no start depends on them."""
    for fetch in RegistryFetch.list_beside(settings, environ, stop):
        fetch.try_behind()


def _can_be_served(
    folder: Path, uri: ModelUri, trust: Trust | None, stop: threading.Event
) -> bool:
    """Return whether a process can load the model in `folder`, and `uri` may mean that model."""
    try:
        source = try_to_load(folder, stop.is_set, trust)
    except ArtifactError:
        return False
    return uri.may_mean(source["registered_model"], source["version"])


def _log_links(n_links: int) -> None:
    fields = {"variables": n_links, "cure": "enableServiceLinks: false"}
    _log.info("Kubernetes' service links are not settings", extra={"fields": fields})


def _log_trust(trust: Trust | None) -> None:
    if trust is None:
        fields = {"cure": "--trusted-keys FILE"}
        _log.info("models are not verified", extra={"fields": fields})
    else:
        _log.info("models are verified", extra={"fields": asdict(trust)})


def _log_ports(port: int, http_port: int, health_port: int | None) -> None:
    fields = {"port": port, "http_port": http_port}
    if health_port is not None:
        fields["health_port"] = health_port
    _log.info("listening", extra={"fields": fields})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
