"""`python -m grpc_server.model_sync`: fetches a registered model's artifact from MLflow.

::

    look up the version ──> download, unless it is there and undamaged ──> point the link at it
      │                       │
      └── RegistryError <─────┘    once: exit code 1;  with --interval-seconds: log, and try again

It is a separate program, because only this module imports MLflow and the serving process must not.
"""

import argparse
import logging
import os
import random
import re
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from grpc_server.errors import RegistryError
from grpc_server.logs import RedactedStream, configure_logging, escape_unshowable
from grpc_server.model.source import ModelSource
from grpc_server.model_uri import FORMS, ModelUri
from grpc_server.registry.attempt import Attempt, AttemptOverdue
from grpc_server.registry.fetch import ATTEMPT_SECONDS
from grpc_server.registry.sync_record import SyncRecord
from grpc_server.registry.version_files import SignatureFile
from grpc_server.registry.version_store import VersionStore, check_source
from grpc_server.signals import Signals
from grpc_server.trust import Trust
from prediction.artifact import (
    REGISTRY_PATH,
    SHA256_TAG,
    SIGNATURE_REGISTRY_PATH,
    SIGNATURE_SHA256_TAG,
)
from prediction_common.secrets import find_secrets, redact

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Largest file that this program may write: a registry could send one that fills the disk.
_MAX_FILE_BYTES = 1024**3
# Most memory of this program, which takes 250 MiB with MLflow: a reply could be endless.
_MAX_MEMORY_BYTES = 1024**3
_MAX_ERROR_CHARACTERS = 1000
# Part of a foreign text that is searched for secrets, before the text is cut to the above.
_MAX_READ_CHARACTERS = 50_000

_log = logging.getLogger(__name__)


def synchronize(
    uri: ModelUri, model_dir: Path, trust: Trust | None = None
) -> ModelSource:
    """Fetch the version that `uri` currently means, and point `model_dir` at it.

    The outcome is also in the status file beside `model_dir`, which the server reads.

    Parameters
    ----------
    uri : ModelUri
        Model to fetch.
    model_dir : Path
        Link to point at the version's folder, which is in ``versions`` beside the link.
    trust : Trust or None
        Whose signatures to accept; None accepts any version.

    Returns
    -------
    ModelSource
        Origin of the version.

    Raises
    ------
    RegistryError
        If the registry does not answer or has no such model, alias or artifact, or if `model_dir`
        is a folder or cannot be written.
    """
    record = SyncRecord(model_dir, str(uri))
    try:
        version = _look_up(uri, record.reach)
        source = _check(uri, version)
        download = partial(_download, source, REGISTRY_PATH)
        signature = _find_signature(source, version)
        VersionStore(model_dir, trust).serve(source, download, signature)
        record.succeed()
        return source
    except RegistryError as error:
        words = str(error)
    except OSError as error:
        words = f"{model_dir} cannot be written: {error}"
    except Exception as error:
        # After any error, a follower tries again, and a start reports one line.
        words = f"{model_dir}: {type(error).__name__}: {error}"
    words = _one_line(words)
    record.fail(words)
    raise RegistryError(words) from None


@contextmanager
def _registry_errors() -> Iterator[None]:
    """Turn errors of the registry, MLflow and the libraries below it into a RegistryError."""
    try:
        yield
    except RegistryError:
        raise
    except ImportError as error:
        raise RegistryError(
            f"MLflow cannot be imported: {error}; install prediction-server[sync]"
        ) from None
    except Exception as error:
        words = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
        raise RegistryError(f"the registry at {_tracking_uri()}: {words}") from None


@_registry_errors()
def _look_up(uri: ModelUri, reach: Callable[[str], None]) -> "ModelVersion":
    """Ask the registry for the version that `uri` means, and pass its number to `reach`."""
    from mlflow import MlflowClient

    _check_store_exists()
    version = _resolve(MlflowClient(), uri)
    reach(uri.version or str(version.version))
    return version


@_registry_errors()
def _check(uri: ModelUri, version: "ModelVersion") -> ModelSource:
    """Return the origin of the version that the registry names, once it is checked."""
    digest = version.tags.get(SHA256_TAG)
    if digest is None:
        raise RegistryError(
            f"version {version.version} of {version.name} has no tag {SHA256_TAG}; only versions "
            "that the training flow registered can be served"
        )
    source = ModelSource(
        version.name, str(version.version), version.run_id or "", digest
    )
    check_source(source, uri.name)
    if not uri.may_mean(source.registered_model, source.version):
        raise RegistryError(f"the registry answers {uri} with version {source.version}")
    return source


def _find_signature(
    source: ModelSource, version: "ModelVersion"
) -> SignatureFile | None:
    """Return the signature file of a version; None if the version is not signed."""
    digest = version.tags.get(SIGNATURE_SHA256_TAG)
    if digest is None:
        return None
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise RegistryError(
            f"version {version.version} of {version.name} has the tag {SIGNATURE_SHA256_TAG} "
            f"{digest[:80]!r}; a digest is 64 lower-case hexadecimal digits"
        )
    return SignatureFile(digest, partial(_download, source, SIGNATURE_REGISTRY_PATH))


@_registry_errors()
def _download(source: ModelSource, path: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts

    uri = f"models:/{source.registered_model}/{source.version}/{path}"
    return Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))


def _one_line(text: str) -> str:
    """Return an error's text as one short line without secrets."""
    if len(text) > _MAX_READ_CHARACTERS:
        # Drop the last word, which may be a part of a secret.
        text = text[:_MAX_READ_CHARACTERS].rpartition(" ")[0]
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
    """Refuse a missing SQLite file: MLflow would create an empty one and report no model."""
    uri = _tracking_uri()
    path = uri.removeprefix("sqlite:///")
    # MLflow escapes the path of its default, mlflow.db in the working folder.
    if path != uri and not any(Path(name).exists() for name in (path, unquote(path))):
        raise RegistryError(
            f"there is no registry at {uri}; set MLFLOW_TRACKING_URI or train a model first"
        )


def _resolve(client: "MlflowClient", uri: ModelUri) -> "ModelVersion":
    if uri.alias is not None:
        return client.get_model_version_by_alias(uri.name, uri.alias)
    return client.get_model_version(uri.name, uri.version or "")


def follow(
    uri: ModelUri,
    model_dir: Path,
    interval_seconds: float,
    stop: threading.Event,
    attempt_seconds: float = ATTEMPT_SECONDS,
    trust: Trust | None = None,
) -> None:
    """Synchronise again and again until `stop` is set; log errors, and try again.

    Parameters
    ----------
    uri : ModelUri
        Model to fetch.
    model_dir : Path
        Link to point at the version's folder.
    interval_seconds : float
        Time between two attempts, > 0; each wait varies by a fifth.
    stop : threading.Event
        Ends the loop once it is set.
    attempt_seconds : float
        Longest time of one attempt, > 0.
    trust : Trust or None
        Whose signatures to accept; None accepts any version.

    Raises
    ------
    AttemptOverdue
        If one attempt takes longer.
    """
    served: ModelSource | None = None
    while not stop.is_set():
        attempt = Attempt(lambda: synchronize(uri, model_dir, trust))
        attempt.wait(attempt_seconds, stop)
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
        # Random, so that the replicas of a deployment do not ask the registry at the same time.
        stop.wait(interval_seconds * random.uniform(0.8, 1.2))


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m grpc_server.model_sync",
        description="Fetch a registered model for the server from MLFLOW_TRACKING_URI.",
    )
    parser.add_argument("model_uri", help=FORMS)
    parser.add_argument(
        "--model-dir", type=Path, required=True, help="link to point at the model"
    )
    parser.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="exit when standard input closes; a server that starts this program keeps it open",
    )
    parser.add_argument(
        "--interval-seconds",
        type=float,
        metavar="SECONDS",
        help="keep running, and look for another version this often (default: fetch once)",
    )
    parser.add_argument(
        "--trusted-keys",
        type=Path,
        metavar="FILE",
        help="public keys (Ed25519, PEM): a version that none of them has signed is not fetched",
    )
    parser.add_argument(
        "--attempt-seconds",
        type=float,
        metavar="SECONDS",
        default=ATTEMPT_SECONDS,
        help="give up an attempt after this time (default: %(default)g)",
    )
    return parser


def _read_trust(given: argparse.Namespace, uri: ModelUri) -> Trust | None:
    return None if given.trusted_keys is None else Trust(given.trusted_keys, uri.name)


def _follow_until_signalled(given: argparse.Namespace, uri: ModelUri) -> None:
    configure_logging("INFO", find_secrets(os.environ))
    stop = Signals().stop
    seconds: float = given.attempt_seconds
    try:
        trust = _read_trust(given, uri)
        follow(uri, given.model_dir, given.interval_seconds, stop, seconds, trust)
    except AttemptOverdue:
        reason = f"the attempt took longer than {seconds:g} s"
        SyncRecord(given.model_dir, str(uri)).fail(reason)
        _log.error("registry failed", extra={"fields": {"reason": reason}})
        # A thread cannot be ended, so the program restarts itself with the same arguments.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _fetch_once(given: argparse.Namespace, uri: ModelUri) -> ModelSource:
    seconds: float = given.attempt_seconds
    trust = _read_trust(given, uri)
    attempt = Attempt(lambda: synchronize(uri, given.model_dir, trust))
    try:
        attempt.wait(seconds, threading.Event())
    except AttemptOverdue:
        reason = f"the registry took longer than {seconds:g} s"
        SyncRecord(given.model_dir, str(uri)).fail(reason)
        raise RegistryError(reason) from None
    return attempt.result()


def _end_with_stdin() -> None:
    # `sys.stdin` has a lock, which this thread would still hold when the interpreter ends.
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
    escape_unshowable(sys.stdout)
    parser = _build_parser()
    given = parser.parse_args(arguments)
    for flag, value, high in (
        ("--interval-seconds", given.interval_seconds, 86_400),
        ("--attempt-seconds", given.attempt_seconds, 3600),
    ):
        if value is not None and not 0 < value <= high:
            parser.error(f"{flag}: {value} is not in (0, {high}]")
    if given.end_with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        uri = _parse_uri(given.model_uri)
        if given.interval_seconds is not None:
            _follow_until_signalled(given, uri)
            return 0
        source = _fetch_once(given, uri)
    except RegistryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{source.registered_model} version {source.version} is at {given.model_dir}")
    return 0


def _limit(kind: int, n_bytes: int) -> None:
    """Limit a resource of this program, unless it has a lower limit already."""
    soft, hard = resource.getrlimit(kind)
    if soft == resource.RLIM_INFINITY or soft > n_bytes:
        resource.setrlimit(kind, (n_bytes, hard))


def _prepare_process() -> None:
    """Set up the process before MLflow is imported."""
    # Ctrl-C ends the program without a traceback; with --interval-seconds, it stops cleanly.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _limit(resource.RLIMIT_FSIZE, _MAX_FILE_BYTES)
    _limit(resource.RLIMIT_DATA, _MAX_MEMORY_BYTES)
    for name, value in (
        # By default, MLflow retries for minutes.
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"),
        # Download through MLflow's server. By default, it redirects clients to S3, at an address
        # that only the server may reach.
        ("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false"),
        ("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false"),
        # OpenBLAS would take memory for each processor; nothing is computed here.
        ("OPENBLAS_NUM_THREADS", "1"),
    ):
        os.environ.setdefault(name, value)
    # Includes the output of MLflow and the libraries below it.
    sys.stderr = RedactedStream(sys.stderr, find_secrets(os.environ))


if __name__ == "__main__":
    _prepare_process()
    try:
        code = main(sys.argv[1:])
    except SystemExit as end:  # raised by the parser
        code = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    # `sys.exit` would wait for the threads of a download that was given up.
    os._exit(code)
