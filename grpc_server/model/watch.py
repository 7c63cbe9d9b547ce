"""Watches the model's folder, and lets a new model answer once it has passed its checks."""

import logging
import os
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path
from time import monotonic

from grpc_server.errors import (
    ArtifactCorrupt,
    ArtifactUntried,
    OtherModel,
    StartupError,
)
from grpc_server.model import LoadedModel, load_model
from grpc_server.model.source import ModelSource
from grpc_server.model.trial_load import try_to_load
from grpc_server.model_uri import ModelUri
from prediction.artifact import FILE_NAME

_log = logging.getLogger(__name__)

_MAX_RETRY_SECONDS = 3600.0
# A model that hangs keeps a newer one waiting for so long.
_PATIENCE_SECONDS = 5.0

_Identity = tuple[int, int, int, int]


def identify(model_dir: Path) -> _Identity | None:
    """Return what tells one model's file from another, or None if there is no file.

    A link that is pointed elsewhere gives another inode; a file that is written in place another
    time or size.
    """
    try:
        status = os.stat(model_dir / FILE_NAME)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


class ModelWatcher:
    """Looks at a folder every so often, in a thread of its own, from `start` to `stop`.

    A file that cannot be served is logged and counted once, and the model that answers stays. It is
    tried again only if the try itself failed, as on a machine that has no memory left.

    Parameters
    ----------
    model_dir : Path
        Folder, or link to a folder, that holds the model's file.
    model_uri : ModelUri or None
        What the model has to be; None takes any. A folder that another server shares may hold
        another one.
    serve : callable
        Lets a model answer.
    count_failure : callable
        Counts a file that could not be served.
    interval_seconds : float
        Time between two looks, which cost one stat each.
    retry_seconds : float
        Time until a try that failed is repeated; each further one waits twice as long.
    """

    def __init__(
        self,
        model_dir: Path,
        model_uri: ModelUri | None,
        serve: Callable[[LoadedModel], None],
        count_failure: Callable[[], None],
        interval_seconds: float = 1.0,
        retry_seconds: float = 60.0,
    ) -> None:
        self._model_dir = model_dir
        self._model_uri = model_uri
        self._serve = serve
        self._count_failure = count_failure
        self._interval_seconds = interval_seconds
        self._seen: _Identity | None = None
        self._retry = _Retry(retry_seconds)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="model-watch", daemon=True
        )

    def load_now(self) -> None:
        """Load the model that is there and let it answer.

        Raises
        ------
        ArtifactError
            If there is none, or it cannot be served.
        """
        # Looked at before it is read: a file replaced in between is then seen as new.
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
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a load that is under way is left to itself, however long it takes."""
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
            tried = try_to_load(self._model_dir, self._make_give_up())
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
            # Whatever it was, the next file may be a good one.
            self._retry.put_off()
            self._count_failure()
            _log.exception("model refused, keeping what serves")

    def _make_give_up(self) -> Callable[[], bool]:
        """Return what tells whether to give up a try that begins now."""
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
                f"{self._model_dir} holds {name}, version {source.version}, not {self._model_uri}"
            )


class _Retry:
    """When to try the same file again: never, unless a try was put off."""

    def __init__(self, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self.forget()

    def forget(self) -> None:
        """Begin anew, for another file."""
        self._due, self._seconds = inf, self._first_seconds

    def begin(self) -> None:
        """Let the try that begins now be the last one."""
        self._due = inf

    def put_off(self) -> None:
        """Ask for one more try, after twice the time of the last."""
        self._due = monotonic() + self._seconds
        self._seconds = min(2 * self._seconds, _MAX_RETRY_SECONDS)

    def is_due(self) -> bool:
        """Tell whether it is time."""
        return monotonic() >= self._due


def _summarize(model: LoadedModel) -> dict[str, object]:
    return {
        "model": model.display_name,
        "registered_model": model.source.registered_model,
        "model_version": model.source.version,
        "n_features": len(model.input_schema.features),
        "classes": model.classes.labels,
    }
