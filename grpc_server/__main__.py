"""`python -m grpc_server`: the only place that reads the environment and the signals."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import FrameType

from grpc_server.errors import DomainError, RegistryError, StartupError
from grpc_server.logs import configure_logging
from grpc_server.model import LoadedModel, load_model
from grpc_server.server import PredictionServer
from grpc_server.settings import CommandLine, Settings, describe, parse_command_line

_log = logging.getLogger("grpc_server")


class _Signals:
    """Turns SIGTERM and SIGINT into events: the first asks to stop, any further one to hurry."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.hurry = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # A person at a terminal does not want to wait for balancers.
        if self.stop.is_set() or number == signal.SIGINT:
            self.hurry.set()
        self.stop.set()


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the program and return its exit code."""
    try:
        command_line = parse_command_line(arguments, environ)
        if command_line.print_settings:
            print(describe(command_line.settings, command_line.origins))
            return 0
        _run(command_line, environ)
    except StartupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(command_line: CommandLine, environ: Mapping[str, str]) -> None:
    settings = command_line.settings
    configure_logging(settings.log_level)
    signals = _Signals()
    server = PredictionServer(settings)
    server.start()
    _log.info(
        "listening",
        extra={"fields": {"port": server.port, "http_port": server.http_port}},
    )
    try:
        model = _fetch_and_load(settings, environ, signals.stop)
        if model is not None:
            server.serve(model)
            _log.info("serving", extra={"fields": _summarize(model)})
            signals.stop.wait()
            _log.info("draining", extra={"fields": {"seconds": settings.drain_seconds}})
            server.drain(signals.hurry)
    finally:
        server.stop()
        _log.info("stopped")


def _fetch_and_load(
    settings: Settings, environ: Mapping[str, str], stop: threading.Event
) -> LoadedModel | None:
    """Return the model to serve, or None if a signal came first."""
    if settings.model_uri is None:
        return load_model(settings.model_dir)
    try:
        if not _synchronize(settings.model_uri, settings, environ, stop):
            return None
    except RegistryError as error:
        return _load_last_good(settings, error)
    return load_model(settings.model_dir)


def _load_last_good(settings: Settings, registry_error: RegistryError) -> LoadedModel:
    """Serve what an earlier start fetched, rather than nothing."""
    try:
        model = load_model(settings.model_dir)
    except DomainError:
        raise registry_error from None
    fields = {"reason": str(registry_error), "model_version": model.source.version}
    _log.warning(
        "registry failed, serving the last good model", extra={"fields": fields}
    )
    return model


def _synchronize(
    model_uri: str,
    settings: Settings,
    environ: Mapping[str, str],
    stop: threading.Event,
) -> bool:
    """Run `model_sync` as a process of its own; return False if a signal came first.

    A process, so that MLflow's imports (seconds, hundreds of MiB) never are in this one.
    """
    command = [sys.executable, "-m", "grpc_server.model_sync", model_uri]
    command += ["--model-dir", str(settings.model_dir)]
    child = subprocess.Popen(
        command, env=dict(environ), stderr=subprocess.PIPE, text=True
    )
    while True:
        try:
            _, errors = child.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            if stop.is_set():
                child.kill()
                child.communicate()
                return False
    if child.returncode:
        last_line = (errors.strip().splitlines() or ["model_sync failed"])[-1]
        raise RegistryError(last_line.removeprefix("error: "))
    return True


def _summarize(model: LoadedModel) -> dict[str, object]:
    return {
        "model": model.display_name,
        "registered_model": model.source.registered_model,
        "model_version": model.source.version,
        "n_features": len(model.input_schema.features),
        "classes": model.classes.labels,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
