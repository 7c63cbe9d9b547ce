"""Fetches a model from the registry in another process, before the server answers or meanwhile.

::

    try_once ──> model_sync as a process ──┬─ exit code 0 ──> the link points at the version
                                           ├─ other code ───> RegistryError: its last line
                                           ├─ too long ─────> killed, RegistryError
                                           └─ stop is set ──> killed

    try_behind: try_once in a thread; after an error again, after 5, 10, 20, 40, 60, 60 ... s
"""

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
from grpc_server.settings import Settings
from prediction_common.secrets import find_secrets, redact

# Limit of one attempt in model_sync; more than a large model needs.
ATTEMPT_SECONDS = 300.0
# Further time for model_sync to start and to end, after which it is killed.
_MARGIN_SECONDS = 60.0
# Wait between two attempts: it doubles from the first value to the last.
_FIRST_WAIT_SECONDS = 5.0
_MAX_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.1
_MAX_LINES = 20

_log = logging.getLogger("grpc_server")


class RegistryFetch:
    """Fetches one model, in the foreground or in the background.

    Parameters
    ----------
    uri : ModelUri
        Model to fetch.
    model_dir : Path
        Link to point at the fetched version.
    environ : mapping of str to str
        Environment of the fetching process.
    stop : threading.Event
        Once set, ends an attempt in progress.
    keys_file : Path or None
        Keys of which one must have signed the version; None accepts any version.
    """

    def __init__(
        self,
        uri: ModelUri,
        model_dir: Path,
        environ: Mapping[str, str],
        stop: threading.Event,
        keys_file: Path | None = None,
    ) -> None:
        self._uri = uri
        self._keys_file = keys_file
        self._model_dir = model_dir
        self._environ = environ
        self._stop = stop

    @classmethod
    def from_settings(
        cls, settings: Settings, environ: Mapping[str, str], stop: threading.Event
    ) -> "RegistryFetch | None":
        """Create a fetch from the settings.

        Parameters
        ----------
        settings : Settings
            Settings of the server.
        environ : mapping of str to str
            Environment of the fetching process.
        stop : threading.Event
            Once set, ends an attempt in progress.

        Returns
        -------
        RegistryFetch or None
            None if the settings have no model URI.
        """
        if settings.model_uri is None:
            return None
        return cls(
            settings.model_uri,
            settings.model_folder,
            environ,
            stop,
            settings.trusted_keys,
        )

    @classmethod
    def list_beside(
        cls, settings: Settings, environ: Mapping[str, str], stop: threading.Event
    ) -> "tuple[RegistryFetch, ...]":
        """Create a fetch of each model beside the champion that a URI names."""
        beside = (
            (settings.canary_uri, settings.canary_folder),
            (settings.shadow_uri, settings.shadow_folder),
        )
        return tuple(
            cls(uri, folder, environ, stop, settings.trusted_keys)
            for uri, folder in beside
            if uri is not None and folder is not None
        )

    def try_once(self) -> RegistryError | None:
        """Fetch the model once; return the error, None if it succeeds."""
        _log.info("fetching", extra={"fields": {"model_uri": str(self._uri)}})
        try:
            self._synchronize()
        except RegistryError as error:
            _log.warning("registry failed", extra={"fields": {"reason": str(error)}})
            return error
        return None

    def try_behind(self) -> None:
        """Fetch the model in a thread, again and again until it succeeds."""
        threading.Thread(target=self._try_often, name="registry", daemon=True).start()

    def _try_often(self) -> None:
        wait_seconds = _FIRST_WAIT_SECONDS
        while self.try_once() is not None and not self._stop.wait(wait_seconds):
            wait_seconds = min(2 * wait_seconds, _MAX_WAIT_SECONDS)

    def _synchronize(self) -> None:
        """Run `model_sync` until it ends or `stop` is set.

        It is another process, which keeps MLflow's imports (seconds, hundreds of MiB) out of this
        one. It ends whenever this process does, because its standard input is closed then.
        """
        command = [sys.executable, "-m", "grpc_server.model_sync", str(self._uri)]
        command += [f"--model-dir={self._model_dir}", "--end-with-stdin"]
        command += ["--attempt-seconds", f"{ATTEMPT_SECONDS:g}"]
        if self._keys_file is not None:
            command.append(f"--trusted-keys={self._keys_file}")
        try:
            child = subprocess.Popen(
                command,
                env=dict(self._environ),
                stdin=subprocess.PIPE,
                # The log reports success already.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Its own group: a terminal's Ctrl-C must reach this process only.
                process_group=0,
            )
        except OSError as error:
            raise self._unrecorded(f"model_sync cannot be started: {error}") from None
        errors = self._attend(child)
        if self._stop.is_set():
            return
        if child.returncode < 0:
            raise self._unrecorded(
                f"model_sync was ended by signal {-child.returncode}, or took too long"
            )
        if child.returncode:
            last_line = (errors.strip().splitlines() or ["model_sync failed"])[-1]
            text = redact(last_line, find_secrets(self._environ))
            raise RegistryError(text.removeprefix("error: "))

    def _unrecorded(self, reason: str) -> RegistryError:
        """Return the error of a program that could not write its own status; write it instead."""
        # Imported here because it brings gRPC, whose memory the supervisor saves.
        from grpc_server.registry.sync_record import SyncRecord

        SyncRecord(self._model_dir, str(self._uri)).fail(reason)
        return RegistryError(reason)

    def _attend(self, child: "subprocess.Popen[str]") -> str:
        """Wait for the child, kill it if it must end, and return its last lines of stderr."""
        assert child.stderr is not None and child.stdin is not None
        said: deque[str] = deque(maxlen=_MAX_LINES)
        end = time.monotonic() + ATTEMPT_SECONDS + _MARGIN_SECONDS
        # A thread reads, because `communicate` would close the child's standard input.
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
