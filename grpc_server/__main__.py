"""`python -m grpc_server`: the only place that reads the environment and the signals."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from grpc_server.errors import ArtifactError, RegistryError, StartupError
from grpc_server.logs import configure_logging
from grpc_server.model_uri import ModelUri
from grpc_server.model_watch import ModelWatcher
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
    model_dir = settings.model_folder
    signals = _Signals()
    server = PredictionServer(settings)
    watcher = ModelWatcher(
        model_dir, settings.model_uri, server.serve, server.count_load_failure
    )
    server.start()
    _log.info(
        "listening",
        extra={"fields": {"port": server.port, "http_port": server.http_port}},
    )
    try:
        _load_first(watcher, settings, environ, signals.stop)
        watcher.start()
        signals.stop.wait()
        _log.info("draining", extra={"fields": {"seconds": settings.drain_seconds}})
        server.drain(signals.hurry)
    finally:
        watcher.stop()
        server.stop()
        _log.info("stopped")


def _load_first(
    watcher: ModelWatcher,
    settings: Settings,
    environ: Mapping[str, str],
    stop: threading.Event,
) -> None:
    """Fetch and load the first model; without one there is nothing to do but, if told, wait."""
    registry_error = None
    if settings.model_uri is not None:
        try:
            _synchronize(settings.model_uri, settings.model_folder, environ, stop)
        except RegistryError as error:
            registry_error = error
            _log.warning("registry failed", extra={"fields": {"reason": str(error)}})
    if stop.is_set():
        return
    try:
        # After a failed registry: what an earlier start fetched, rather than nothing.
        watcher.load_now()
    except ArtifactError as error:
        if not settings.wait_for_model:
            raise registry_error or error from None
        _log.warning("waiting for a model", extra={"fields": {"reason": str(error)}})


def _synchronize(
    model_uri: ModelUri,
    model_dir: Path,
    environ: Mapping[str, str],
    stop: threading.Event,
) -> None:
    """Run `model_sync` as a process of its own, until it is done or a signal comes.

    A process, so that MLflow's imports (seconds, hundreds of MiB) never are in this one.
    """
    command = [sys.executable, "-m", "grpc_server.model_sync", str(model_uri)]
    command += ["--model-dir", str(model_dir)]
    child = subprocess.Popen(
        command,
        env=dict(environ),
        # What it says of success, the log says too.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while True:
        try:
            _, errors = child.communicate(timeout=0.1)
            break
        except subprocess.TimeoutExpired:
            if stop.is_set():
                child.kill()
                child.communicate()
                return
    if child.returncode:
        last_line = (errors.strip().splitlines() or ["model_sync failed"])[-1]
        raise RegistryError(last_line.removeprefix("error: "))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
