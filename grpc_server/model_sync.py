"""`python -m grpc_server.model_sync`: fetches a registered model's artifact from MLflow.

A program of its own and the only one here that imports MLflow, so that the serving process never
does. Everything it writes is complete before the link that the server reads is pointed at it.
"""

import argparse
import logging
import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from grpc_server.errors import RegistryError
from grpc_server.logs import configure_logging
from grpc_server.model.source import ModelSource
from grpc_server.model_uri import FORMS, ModelUri
from grpc_server.secrets import find_secrets, redact
from grpc_server.signals import Signals
from grpc_server.version_store import VersionStore, check_source
from prediction.artifact import REGISTRY_PATH, SHA256_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# One attempt: MLflow's own timeouts are for each wait, and a registry that sends a byte now and
# then never runs into one.
ATTEMPT_SECONDS = 300.0
# No file that this program writes may be larger: a registry could name one that fills the disk.
_MAX_FILE_BYTES = 1024**3
_MAX_ERROR_CHARACTERS = 1000

_log = logging.getLogger(__name__)


def synchronize(uri: ModelUri, model_dir: Path) -> ModelSource:
    """Fetch the version that `uri` names now, and point `model_dir` at it.

    Parameters
    ----------
    uri : ModelUri
        Model to fetch.
    model_dir : Path
        Link to point at the version's folder, which lies in ``versions`` beside the link.

    Raises
    ------
    RegistryError
        If the registry does not answer, or has no such model, alias or artifact, or if `model_dir`
        is a folder that somebody else made, or cannot be written.
    """
    try:
        return _synchronize(uri, model_dir)
    except RegistryError as error:
        raise RegistryError(_one_line(str(error))) from None
    except OSError as error:
        raise RegistryError(
            _one_line(f"{model_dir} cannot be written: {error}")
        ) from None
    except Exception as error:
        # MLflow's, of the libraries below it, and of whatever the registry has answered.
        text = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        raise RegistryError(
            _one_line(f"the registry at {_tracking_uri()}: {text}")
        ) from None


def _synchronize(uri: ModelUri, model_dir: Path) -> ModelSource:
    from mlflow import MlflowClient

    _check_store_exists()
    version = _resolve(MlflowClient(), uri)
    digest = version.tags.get(SHA256_TAG)
    if digest is None:
        raise RegistryError(
            f"version {version.version} of {version.name} has no tag {SHA256_TAG}: it was not "
            "registered by the training flow"
        )
    source = ModelSource(
        version.name, str(version.version), version.run_id or "", digest
    )
    check_source(source, uri.name)
    VersionStore(model_dir).serve(source, lambda folder: _download(source, folder))
    return source


def _download(source: ModelSource, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    uri = f"models:/{source.registered_model}/{source.version}/{REGISTRY_PATH}"
    return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))


def _one_line(text: str) -> str:
    """Return what an error says, in one line, of a bounded length and without secrets."""
    line = " ".join(redact(text, find_secrets(os.environ)).split())
    return (
        line
        if len(line) <= _MAX_ERROR_CHARACTERS
        else line[:_MAX_ERROR_CHARACTERS] + "..."
    )


def _tracking_uri() -> str:
    import mlflow

    uri: str = mlflow.get_tracking_uri()
    return uri


def _check_store_exists() -> None:
    """Refuse a missing SQLite file: MLflow would make an empty one and say that it has no model."""
    uri = _tracking_uri()
    path = uri.removeprefix("sqlite:///")
    # MLflow writes its own default, the working folder's mlflow.db, with escapes.
    if path != uri and not any(Path(name).exists() for name in (path, unquote(path))):
        raise RegistryError(
            f"there is no registry at {uri}; set MLFLOW_TRACKING_URI or train a model first"
        )


def _resolve(client: "MlflowClient", uri: ModelUri) -> "ModelVersion":
    if uri.alias is not None:
        return client.get_model_version_by_alias(uri.name, uri.alias)
    return client.get_model_version(uri.name, uri.version or "")


def follow(
    uri: ModelUri, model_dir: Path, interval_seconds: float, stop: threading.Event
) -> None:
    """Synchronise again and again until `stop` is set; what fails is logged and tried again.

    Raises
    ------
    AttemptOverdue
        If one attempt hangs.
    """
    served: ModelSource | None = None
    while not stop.is_set():
        attempt = Attempt(lambda: synchronize(uri, model_dir))
        attempt.wait(stop)
        if stop.is_set():
            return
        try:
            source = attempt.result()
        except RegistryError as error:
            _log.error("registry failed", extra={"fields": {"reason": str(error)}})
        else:
            if source != served:
                _log.info("fetched", extra={"fields": asdict(source)})
            served = source
        # Spread, so that the replicas of a deployment do not ask the registry all at once.
        stop.wait(interval_seconds * random.uniform(0.8, 1.2))


class AttemptOverdue(Exception):
    """An attempt hangs, as one does to which a registry sends a byte now and then."""


class Attempt:
    """One try in a thread of its own, which can be given up."""

    def __init__(self, work: Callable[[], ModelSource]) -> None:
        self._is_over = threading.Event()
        self._source: ModelSource | None = None
        self._error: RegistryError | None = None
        self._work = work
        threading.Thread(target=self._run, name="attempt", daemon=True).start()

    def wait(self, stop: threading.Event) -> None:
        """Wait for the end of the attempt, of its time, or of the program."""
        end = time.monotonic() + ATTEMPT_SECONDS
        while not self._is_over.wait(0.1) and not stop.is_set():
            if time.monotonic() > end:
                raise AttemptOverdue

    def result(self) -> ModelSource:
        """Return what was fetched.

        Raises
        ------
        RegistryError
            If nothing was.
        """
        if self._error is not None:
            raise self._error
        assert self._source is not None
        return self._source

    def _run(self) -> None:
        try:
            self._source = self._work()
        except RegistryError as error:
            self._error = error
        finally:
            self._is_over.set()


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grpc_server.model_sync",
        description="Fetch a registered model for the server, from MLFLOW_TRACKING_URI.",
    )
    parser.add_argument("model_uri", help=FORMS)
    parser.add_argument(
        "--model-dir", type=Path, required=True, help="link to point at the model"
    )
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="end as soon as standard input does, which a server that starts this keeps open",
    )
    parser.add_argument(
        "--interval-seconds",
        type=float,
        metavar="SECONDS",
        help="go on, and look for another version this often; without it, fetch once",
    )
    return parser


def _follow_until_signalled(
    uri: ModelUri, model_dir: Path, interval_seconds: float
) -> None:
    configure_logging("INFO", find_secrets(os.environ))
    try:
        follow(uri, model_dir, interval_seconds, Signals().stop)
    except AttemptOverdue:
        fields = {"reason": f"no end within {ATTEMPT_SECONDS:g} s"}
        _log.error("registry failed", extra={"fields": fields})
        # A thread cannot be ended, a program can: it begins anew, with the same arguments.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _fetch_once(uri: ModelUri, model_dir: Path) -> ModelSource:
    attempt = Attempt(lambda: synchronize(uri, model_dir))
    try:
        attempt.wait(threading.Event())
    except AttemptOverdue:
        raise RegistryError(
            f"the registry did not come to an end within {ATTEMPT_SECONDS:g} s"
        ) from None
    return attempt.result()


def _end_with_stdin() -> None:
    # Not by `sys.stdin`, whose lock a thread that waits holds when the interpreter ends.
    while os.read(0, 1024):
        pass
    os._exit(1)


def _parse_uri(text: str) -> ModelUri:
    try:
        return ModelUri.parse(text)
    except ValueError as error:
        raise RegistryError(f"model URI {text!r} is not {error}") from None


def main(arguments: Sequence[str]) -> int:
    """Run the program and return its exit code."""
    parser = _build_parser()
    given = parser.parse_args(arguments)
    if given.interval_seconds is not None and not 0 < given.interval_seconds <= 86_400:
        parser.error(
            f"--interval-seconds: {given.interval_seconds} is not in (0, 86400]"
        )
    if given.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        uri = _parse_uri(given.model_uri)
        if given.interval_seconds is not None:
            _follow_until_signalled(uri, given.model_dir, given.interval_seconds)
            return 0
        source = _fetch_once(uri, given.model_dir)
    except RegistryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{source.registered_model} version {source.version} is at {given.model_dir}")
    return 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_FILE_BYTES, _MAX_FILE_BYTES))
    # MLflow's own default retries for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # The file comes through MLflow's server: it would send clients to S3, by an address that only
    # it may reach.
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    sys.exit(main(sys.argv[1:]))
