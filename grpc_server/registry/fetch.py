"""Fetches the model of the registry by a program of its own, before or while the server serves."""

import logging
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from grpc_server.errors import RegistryError
from grpc_server.model_uri import ModelUri
from grpc_server.secrets import find_secrets, redact
from grpc_server.settings import Settings

# One attempt of model_sync, which gives it up then; more than a large model needs.
ATTEMPT_SECONDS = 300.0
# It may need so much longer to start and to end; one that cannot end any more is killed.
_MARGIN_SECONDS = 60.0
# Between two tries of a server that has no news from the registry yet: doubling up to the last.
_FIRST_WAIT_SECONDS = 5.0
_MAX_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.1
_MAX_LINES = 20

_log = logging.getLogger("grpc_server")


class RegistryFetch:
    """Fetches one model, in the foreground or behind a model that serves already.

    Parameters
    ----------
    uri : ModelUri
        Model to fetch.
    model_dir : Path
        Link to point at it.
    environ : mapping of str to str
        Environment of the program that fetches.
    stop : threading.Event
        Ends what is under way once it is set.
    """

    def __init__(
        self,
        uri: ModelUri,
        model_dir: Path,
        environ: Mapping[str, str],
        stop: threading.Event,
    ) -> None:
        self._uri = uri
        self._model_dir = model_dir
        self._environ = environ
        self._stop = stop

    @classmethod
    def from_settings(
        cls, settings: Settings, environ: Mapping[str, str], stop: threading.Event
    ) -> "RegistryFetch | None":
        """Return what fetches the model that the settings name, None if they name none."""
        if settings.model_uri is None:
            return None
        return cls(settings.model_uri, settings.model_folder, environ, stop)

    def try_once(self) -> RegistryError | None:
        """Fetch the model; return what the registry failed with, if it did."""
        _log.info("fetching", extra={"fields": {"model_uri": str(self._uri)}})
        try:
            self._synchronize()
        except RegistryError as error:
            _log.warning("registry failed", extra={"fields": {"reason": str(error)}})
            return error
        return None

    def try_behind(self) -> None:
        """Fetch the model in a thread of its own, again and again until it is there."""
        threading.Thread(target=self._try_often, name="registry", daemon=True).start()

    def _try_often(self) -> None:
        wait_seconds = _FIRST_WAIT_SECONDS
        while self.try_once() is not None and not self._stop.wait(wait_seconds):
            wait_seconds = min(2 * wait_seconds, _MAX_WAIT_SECONDS)

    def _synchronize(self) -> None:
        """Run `model_sync` as a process of its own, until it is done or a signal comes.

        A process, so that MLflow's imports (seconds, hundreds of MiB) never are in this one. It
        ends with this one, however this one ends: its standard input does.
        """
        command = [sys.executable, "-m", "grpc_server.model_sync", str(self._uri)]
        command += [f"--model-dir={self._model_dir}", "--end-with-stdin"]
        command += ["--attempt-seconds", f"{ATTEMPT_SECONDS:g}"]
        try:
            child = subprocess.Popen(
                command,
                env=dict(self._environ),
                stdin=subprocess.PIPE,
                # What it says of success, the log says too.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Else a terminal's Ctrl-C reaches it too, besides what it is told.
                process_group=0,
            )
        except OSError as error:
            raise RegistryError(f"model_sync cannot be started: {error}") from None
        errors = self._attend(child)
        if self._stop.is_set():
            return
        if child.returncode < 0:
            raise RegistryError(
                f"model_sync was ended by signal {-child.returncode}, or had no end"
            )
        if child.returncode:
            last_line = (errors.strip().splitlines() or ["model_sync failed"])[-1]
            text = redact(last_line, find_secrets(self._environ))
            raise RegistryError(text.removeprefix("error: "))

    def _attend(self, child: "subprocess.Popen[str]") -> str:
        """Return what the child has said last once it is over, of itself or because it must be."""
        assert child.stderr is not None and child.stdin is not None
        said: deque[str] = deque(maxlen=_MAX_LINES)
        end = time.monotonic() + ATTEMPT_SECONDS + _MARGIN_SECONDS
        # Its standard input stays open, so that `communicate`, which closes it, cannot be used.
        reader = threading.Thread(
            target=lambda: said.extend(child.stderr or ()), daemon=True
        )
        reader.start()
        while child.poll() is None:
            if self._stop.wait(_POLL_SECONDS) or time.monotonic() > end:
                child.kill()
                child.wait()
        reader.join()
        child.stdin.close()
        child.stderr.close()
        return "".join(said)
