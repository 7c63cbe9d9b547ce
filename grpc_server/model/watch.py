"""Watches the model's folder, and serves a new model once it has passed its checks.

::

    look at the file, once a second
      │
      ├─ same as before ── no retry due ──────> keep the model
      │
    new file, or a retry is due
      │
    trial in another process ─┬─ refused ─────> keep the model, log and count it, once per file
      │                       └─ trial failed ─> keep the model; retry after 1, 2, 4 ... minutes
      │
    load in this process; compare with the trial
      │
    serve the new model
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import TypeAlias

from grpc_server.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    ArtifactUntried,
    ArtifactUnverified,
    OtherModel,
    SettingsError,
    StartupError,
)
from grpc_server.model import LoadedModel, load_model
from grpc_server.model.files import find_folder
from grpc_server.model.signature import read_keys
from grpc_server.model.source import ModelSource, peek_version
from grpc_server.model.standing import Standing, StandingKeeper, ignore_standing
from grpc_server.model.steps import NoSteps, Steps
from grpc_server.model.sync_status import read_status
from grpc_server.model_uri import ModelUri
from grpc_server.trial_load import try_to_load
from grpc_server.trust import Trust
from prediction.artifact import FILE_NAME, SIGNATURE_FILE_NAME

_log = logging.getLogger(__name__)

_MAX_RETRY_SECONDS = 3600.0
# A trial that takes longer is given up if the file was replaced meanwhile.
_PATIENCE_SECONDS = 5.0

TryLoad: TypeAlias = Callable[[Path, Callable[[], bool]], Mapping[str, str]]
_Identity: TypeAlias = tuple[int, int, int, int]


def identify(path: Path) -> _Identity | None:
    """Return an identity of a file, None if there is no file.

    A link that points elsewhere gives another inode. A file written in place gets another time or
    size.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


class ModelWatcher:
    """Polls a folder in a thread, from `start` to `stop`.

    A file that is refused is logged and counted once; the current model stays. The file is tried
    again only if the trial itself failed, as on a machine without free memory.

    Parameters
    ----------
    model_dir : Path
        Folder, or link to a folder, that holds the model's file, or a folder that does.
    model_uri : ModelUri or None
        Model to accept; None accepts any. Another server may share the folder and put its own model
        there.
    serve : callable
        Serves a model.
    count_failure : callable
        Counts a file that was refused, by the name of the error's class.
    interval_seconds : float
        Time between two polls, which cost one stat and one small file each.
    retry_seconds : float
        Time until a failed trial is repeated. It doubles each time, up to one hour.
    try_load : callable
        Tries to load the model of a folder in another process; see `try_to_load`.
    show_standing : callable
        Shows which version is wanted and why it does not answer, whenever that changes.
    trust : Trust or None
        Whose signatures to accept; None accepts any model. A model is tried again when its
        signature or the keys change.
    on_missing : callable or None
        Called at each poll without a file. None keeps the model then.
    role : str
        What the model is besides the champion, for the log; empty for the champion.
    steps : Steps or None
        Follows each swap; None if nothing does.
    """

    def __init__(
        self,
        model_dir: Path,
        model_uri: ModelUri | None,
        serve: Callable[[LoadedModel], None],
        count_failure: Callable[[str], None],
        interval_seconds: float = 1.0,
        retry_seconds: float = 60.0,
        try_load: TryLoad | None = None,
        show_standing: Callable[[Standing], None] = ignore_standing,
        trust: Trust | None = None,
        on_missing: Callable[[], None] | None = None,
        role: str = "",
        steps: Steps | None = None,
    ) -> None:
        self._on_missing = on_missing
        self._role = role
        self._steps: Steps = steps or NoSteps()
        self._model_dir = model_dir
        self._model_uri = model_uri
        self._serve = serve
        self._count_failure = count_failure
        self._interval_seconds = interval_seconds
        self._trust = trust
        self._seen: tuple[_Identity | None, ...] | None = None
        self._retry = _Retry(retry_seconds)
        self._try_load = try_load or partial(try_to_load, trust=trust)
        uri = "" if model_uri is None else str(model_uri)
        self._keeper = StandingKeeper(uri, show_standing, role)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="model-watch", daemon=True
        )

    def load_now(self) -> None:
        """Load the model in the folder, and serve it.

        Raises
        ------
        ArtifactError
            If there is no model, or it cannot be served.
        SettingsError
            If the trusted keys cannot be read.
        """
        self._check_keys()
        # Before reading, so that a file replaced in between is seen as new.
        self._seen = self._identify()
        self._keeper.hear(read_status(self._model_dir))
        try:
            with self._swap():
                self._load()
        except ArtifactMissing:
            raise
        except StartupError as error:
            self._refuse(error, is_said=True)
            raise

    def _load(self, tried_sha256: str | None = None) -> None:
        with self._steps.step("load"):
            model = load_model(self._model_dir, self._trust, self._steps)
        source = model.source
        self._steps.tell(
            **{
                "prediction.registered_model": source.registered_model,
                "prediction.model_version": source.version,
            }
        )
        self._check_is_asked_for(model.source)
        if tried_sha256 not in (None, model.source.sha256):
            raise ArtifactCorrupt(f"{self._model_dir} changed while it was loaded")
        if self._stop.is_set():
            return
        with self._steps.step("swap"):
            self._serve(model)
        _log.info("serving", extra={"fields": self._summarize(model)})
        self._keeper.accept(model.source.version)

    def _swap(self) -> AbstractContextManager[None]:
        role = {"prediction.role": self._role} if self._role else {}
        return self._steps.step("model swap", **role)

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, without waiting for a load in progress."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            self._keeper.hear(read_status(self._model_dir))
            identity = self._identify()
            if identity is None:
                self._note_missing()
                continue
            if identity != self._seen:
                self._retry.forget()
            elif not self._retry.is_due():
                continue
            self._seen = identity
            self._load_or_keep()

    def _note_missing(self) -> None:
        if self._on_missing is not None:
            self._on_missing()
            self._seen = None  # the same file may come back

    def _load_or_keep(self) -> None:
        try:
            self._retry.begin()
            with self._swap():
                with self._steps.step("trial"):
                    tried = self._try_load(self._model_dir, self._make_give_up())
                self._load(tried["sha256"])
        except StartupError as error:
            if self._stop.is_set():
                return
            if isinstance(error, ArtifactUntried):
                if self._identify() != self._seen:
                    # Given up for a newer file, which nobody has refused: the next look tries it.
                    self._count_failure(type(error).__name__)
                    _log.warning("trial given up for a newer model")
                    return
                self._retry.put_off()
            self._refuse(error)
        except Exception as error:
            # Keep polling after any error: the next file may be valid.
            self._retry.put_off()
            _log.exception("model not loaded")
            self._refuse(error)

    def _refuse(self, error: Exception, *, is_said: bool = False) -> None:
        """Count a refusal, and show it; log it unless the caller does."""
        self._count_failure(type(error).__name__)
        reason = str(error) if isinstance(error, StartupError) else repr(error)
        version = peek_version(self._find_folder() or self._model_dir)
        self._keeper.refuse(version, reason, is_said=is_said)

    def _make_give_up(self) -> Callable[[], bool]:
        """Return a function that tells whether to give up a trial that begins now."""
        patience_ends = monotonic() + _PATIENCE_SECONDS

        def give_up() -> bool:
            is_replaced = self._identify() != self._seen
            is_slow = monotonic() > patience_ends
            return self._stop.is_set() or (is_slow and is_replaced)

        return give_up

    def _identify(self) -> tuple[_Identity | None, ...] | None:
        """Return an identity of all that decides about the model, None without a model's file."""
        folder = self._find_folder()
        if folder is None:
            # The attempt to load it says why.
            return (identify(self._model_dir),)
        model = identify(folder / FILE_NAME)
        if model is None or self._trust is None:
            return None if model is None else (model,)
        signature = folder / SIGNATURE_FILE_NAME
        return model, identify(signature), identify(self._trust.keys_file)

    def _find_folder(self) -> Path | None:
        """Return the folder with the model's file, None if it is not clear which it is."""
        try:
            return find_folder(self._model_dir, FILE_NAME)
        except ArtifactMissing:
            return None

    def _check_keys(self) -> None:
        if self._trust is None:
            return
        try:
            read_keys(self._trust.keys_file)
        except ArtifactUnverified as error:
            raise SettingsError(f"--trusted-keys: {error}") from None

    def _summarize(self, model: LoadedModel) -> dict[str, object]:
        return {
            **({"role": self._role} if self._role else {}),
            "model": model.display_name,
            "registered_model": model.source.registered_model,
            "model_version": model.source.version,
            "n_features": len(model.input_schema.features),
            "classes": model.classes.labels,
        }

    def _check_is_asked_for(self, source: ModelSource) -> None:
        uri = self._model_uri
        if uri is None:
            return
        if not uri.may_mean(source.registered_model, source.version):
            name = source.registered_model or "no registered model"
            raise OtherModel(
                f"{self._model_dir} holds {name}, version {source.version}, not {uri}"
            )


class _Retry:
    """When to try the same file again: never, unless a trial was put off."""

    def __init__(self, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self.forget()

    def forget(self) -> None:
        """Start over, for another file."""
        self._due, self._seconds = inf, self._first_seconds

    def begin(self) -> None:
        """Expect no further trial after the one that begins now."""
        self._due = inf

    def put_off(self) -> None:
        """Ask for one more trial, after twice the previous wait."""
        self._due = monotonic() + self._seconds
        self._seconds = min(2 * self._seconds, _MAX_RETRY_SECONDS)

    def is_due(self) -> bool:
        """Return whether a trial is due."""
        return monotonic() >= self._due
