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
from math import inf
from pathlib import Path
from time import monotonic
from typing import TypeAlias

from grpc_server.errors import (
    ArtifactCorrupt,
    ArtifactUntried,
    OtherModel,
    StartupError,
)
from grpc_server.model import LoadedModel, load_model
from grpc_server.model.source import ModelSource
from grpc_server.model_uri import ModelUri
from grpc_server.trial_load import try_to_load
from prediction.artifact import FILE_NAME

_log = logging.getLogger(__name__)

_MAX_RETRY_SECONDS = 3600.0
# A trial that takes longer is given up if the file was replaced meanwhile.
_PATIENCE_SECONDS = 5.0

TryLoad: TypeAlias = Callable[[Path, Callable[[], bool]], Mapping[str, str]]
_Identity: TypeAlias = tuple[int, int, int, int]


def identify(model_dir: Path) -> _Identity | None:
    """Return an identity of the model's file, None if there is no file.

    A link that points elsewhere gives another inode. A file written in place gets another time or
    size.
    """
    try:
        status = os.stat(model_dir / FILE_NAME)
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
        Folder, or link to a folder, that holds the model's file.
    model_uri : ModelUri or None
        Model to accept; None accepts any. Another server may share the folder and put its own model
        there.
    serve : callable
        Serves a model.
    count_failure : callable
        Counts a file that was refused.
    interval_seconds : float
        Time between two polls, which cost one stat each.
    retry_seconds : float
        Time until a failed trial is repeated. It doubles each time, up to one hour.
    try_load : callable
        Tries to load the model of a folder in another process; see `try_to_load`.
    """

    def __init__(
        self,
        model_dir: Path,
        model_uri: ModelUri | None,
        serve: Callable[[LoadedModel], None],
        count_failure: Callable[[], None],
        interval_seconds: float = 1.0,
        retry_seconds: float = 60.0,
        try_load: TryLoad = try_to_load,
    ) -> None:
        self._model_dir = model_dir
        self._model_uri = model_uri
        self._serve = serve
        self._count_failure = count_failure
        self._interval_seconds = interval_seconds
        self._seen: _Identity | None = None
        self._retry = _Retry(retry_seconds)
        self._try_load = try_load
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
        """
        # Before reading, so that a file replaced in between is seen as new.
        self._seen = identify(self._model_dir)
        self._load()

    def _load(self, tried_sha256: str | None = None) -> None:
        model = load_model(self._model_dir)
        self._check_is_asked_for(model.source)
        if tried_sha256 not in (None, model.source.sha256):
            raise ArtifactCorrupt(f"{self._model_dir} changed while it was loaded")
        if self._stop.is_set():
            return
        self._serve(model)
        _log.info("serving", extra={"fields": _summarize(model)})

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop polling, without waiting for a load in progress."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            identity = identify(self._model_dir)
            if identity is None:
                continue
            if identity != self._seen:
                self._retry.forget()
            elif not self._retry.is_due():
                continue
            self._seen = identity
            self._load_or_keep()

    def _load_or_keep(self) -> None:
        try:
            self._retry.begin()
            tried = self._try_load(self._model_dir, self._make_give_up())
            self._load(tried["sha256"])
        except StartupError as error:
            if self._stop.is_set():
                return
            if isinstance(error, ArtifactUntried):
                self._retry.put_off()
            self._count_failure()
            reason = {"fields": {"reason": str(error)}}
            _log.error("model refused, keeping what serves", extra=reason)
        except Exception:
            # Keep polling after any error: the next file may be valid.
            self._retry.put_off()
            self._count_failure()
            _log.exception("model refused, keeping what serves")

    def _make_give_up(self) -> Callable[[], bool]:
        """Return a function that tells whether to give up a trial that begins now."""
        patience_ends = monotonic() + _PATIENCE_SECONDS

        def give_up() -> bool:
            is_replaced = identify(self._model_dir) != self._seen
            is_slow = monotonic() > patience_ends
            return self._stop.is_set() or (is_slow and is_replaced)

        return give_up

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


def _summarize(model: LoadedModel) -> dict[str, object]:
    return {
        "model": model.display_name,
        "registered_model": model.source.registered_model,
        "model_version": model.source.version,
        "n_features": len(model.input_schema.features),
        "classes": model.classes.labels,
    }
