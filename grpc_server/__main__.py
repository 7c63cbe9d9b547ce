"""`python -m grpc_server`: reads the environment, and runs one process or a supervisor."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence

from grpc_server.errors import StartupError
from grpc_server.logs import configure_logging
from grpc_server.registry_fetch import try_to_fetch
from grpc_server.settings import Settings, describe, parse_command_line
from grpc_server.signals import Signals
from grpc_server.supervisor import Supervisor

_log = logging.getLogger("grpc_server")


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the program and return its exit code."""
    try:
        command_line = parse_command_line(arguments, environ)
        settings = command_line.settings
        if command_line.print_settings:
            print(describe(settings, command_line.origins))
            return 0
        configure_logging(settings.log_level)
        if settings.processes == 1:
            _run(settings, environ)
        else:
            _supervise(settings, arguments, environ)
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve in this process."""
    # Imported here: they bring gRPC, which the supervisor has no use and no memory for.
    from grpc_server.model_watch import ModelWatcher
    from grpc_server.server import PredictionServer
    from grpc_server.serving import load_first, serve_until_stopped

    model_dir = settings.model_folder
    signals = Signals()
    server = PredictionServer(settings)
    watcher = ModelWatcher(
        model_dir, settings.model_uri, server.serve, server.count_load_failure
    )
    server.start()
    _log_ports(server.port, server.http_port)

    def begin() -> None:
        registry_error = try_to_fetch(settings, environ, signals.stop)
        if not signals.stop.is_set():
            load_first(watcher, settings, registry_error)

    serve_until_stopped(server, watcher, begin, signals, settings.drain_seconds)


def _supervise(
    settings: Settings, arguments: Sequence[str], environ: Mapping[str, str]
) -> None:
    """Let processes of their own serve."""
    _ = settings.model_folder  # else the error is each process's own
    signals = Signals()
    with Supervisor(settings, arguments, environ, signals) as supervisor:
        _log_ports(supervisor.port, supervisor.http_port)
        supervisor.run(try_to_fetch(settings, environ, signals.stop))


def _log_ports(port: int, http_port: int) -> None:
    _log.info("listening", extra={"fields": {"port": port, "http_port": http_port}})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
