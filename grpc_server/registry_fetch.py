"""Fetches the model of the registry by a program of its own, at the start of the server."""

import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from grpc_server.errors import RegistryError
from grpc_server.model_uri import ModelUri
from grpc_server.settings import Settings

_log = logging.getLogger("grpc_server")


def try_to_fetch(
    settings: Settings, environ: Mapping[str, str], stop: threading.Event
) -> RegistryError | None:
    """Fetch the model if the settings name one; return what the registry failed with, if it did.

    What an earlier start fetched may then be served, rather than nothing.
    """
    if settings.model_uri is None:
        return None
    try:
        _synchronize(settings.model_uri, settings.model_folder, environ, stop)
    except RegistryError as error:
        _log.warning("registry failed", extra={"fields": {"reason": str(error)}})
        return error
    return None


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
