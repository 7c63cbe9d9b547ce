"""`python -m grpc_server.model_sync`: fetches a registered model's artifact from MLflow.

A program of its own and the only one here that imports MLflow, so that the serving process never
does. Everything it writes is complete before the link that the server reads is pointed at it.
"""

import argparse
import hashlib
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from grpc_server.errors import RegistryError
from grpc_server.logs import configure_logging
from grpc_server.model.source import ModelSource
from grpc_server.model_uri import FORMS, ModelUri
from prediction.artifact import FILE_NAME, REGISTRY_PATH, SHA256_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

VERSIONS_FOLDER = "versions"

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
        is a folder that somebody else made.
    """
    if model_dir.exists() and not model_dir.is_symlink():
        raise RegistryError(
            f"--model-dir {model_dir} is a folder, not a link of model_sync; name another"
        )
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    _check_store_exists()
    try:
        version = _resolve(MlflowClient(), uri)
        source, folder = _fetch(version, model_dir.parent / VERSIONS_FOLDER)
    except MlflowException as error:
        raise RegistryError(
            f"the registry at {_tracking_uri()}: {error.message}"
        ) from None
    previous = model_dir.resolve()
    _point(model_dir, folder)
    if previous != model_dir.resolve():
        _prune(model_dir.parent, keep=previous)
    return source


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


def _fetch(version: "ModelVersion", versions: Path) -> tuple[ModelSource, Path]:
    """Bring the version's artifact into a folder of its own, unless it is there already."""
    from mlflow.artifacts import download_artifacts

    expected = version.tags.get(SHA256_TAG)
    if expected is None:
        raise RegistryError(
            f"version {version.version} of {version.name} has no tag {SHA256_TAG}: it was not "
            "registered by the training flow"
        )
    source = ModelSource(
        version.name, str(version.version), version.run_id or "", expected
    )
    folder = versions / f"{version.name}-{version.version}-{expected[:12]}"
    if folder.exists():
        return source, folder
    versions.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=versions, prefix=".partial-") as scratch:
        uri = f"models:/{version.name}/{version.version}/{REGISTRY_PATH}"
        downloaded = Path(download_artifacts(artifact_uri=uri, dst_path=scratch))
        _check_digest(downloaded, source)
        complete = Path(scratch, "complete")
        complete.mkdir()
        shutil.move(downloaded, complete / FILE_NAME)
        source.write(complete)
        complete.replace(folder)
    return source, folder


def _check_digest(path: Path, source: ModelSource) -> None:
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != source.sha256:
        raise RegistryError(
            f"version {source.version} of {source.registered_model}: {REGISTRY_PATH} has sha256 "
            f"{actual}, its tag says {source.sha256}; it was altered after registration"
        )


def _point(link: Path, folder: Path) -> None:
    """Point `link` at `folder` in one step, so that a reader sees the old or the new."""
    fresh = link.with_name(f".{link.name}-{os.getpid()}")
    fresh.symlink_to(os.path.relpath(folder, link.parent))
    fresh.replace(link)


def _prune(store: Path, *, keep: Path) -> None:
    """Delete the versions that no link of `store` points at, but `keep`: it may still be read."""
    linked = {path.resolve() for path in store.iterdir() if path.is_symlink()}
    for folder in (store / VERSIONS_FOLDER).iterdir():
        # What begins with a dot is being fetched.
        if folder.resolve() not in linked | {keep} and not folder.name.startswith("."):
            shutil.rmtree(folder)


def follow(
    uri: ModelUri, model_dir: Path, interval_seconds: float, stop: threading.Event
) -> None:
    """Synchronise again and again until `stop` is set; what fails is logged and tried again."""
    served: ModelSource | None = None
    while not stop.is_set():
        try:
            source = synchronize(uri, model_dir)
        except RegistryError as error:
            _log.error("registry failed", extra={"fields": {"reason": str(error)}})
        else:
            if source != served:
                _log.info("fetched", extra={"fields": asdict(source)})
            served = source
        # Spread, so that the replicas of a deployment do not ask the registry all at once.
        stop.wait(interval_seconds * random.uniform(0.8, 1.2))


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
        "--interval-seconds",
        type=float,
        metavar="SECONDS",
        help="go on, and look for another version this often; without it, fetch once",
    )
    return parser


def _follow_until_signalled(
    uri: ModelUri, model_dir: Path, interval_seconds: float
) -> None:
    configure_logging("INFO")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    follow(uri, model_dir, interval_seconds, stop)


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
    try:
        uri = _parse_uri(given.model_uri)
        if given.interval_seconds is not None:
            _follow_until_signalled(uri, given.model_dir, given.interval_seconds)
            return 0
        source = synchronize(uri, given.model_dir)
    except RegistryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{source.registered_model} version {source.version} is at {given.model_dir}")
    return 0


if __name__ == "__main__":
    # MLflow's own default retries for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    # The file comes through MLflow's server: it would send clients to S3, by an address that only
    # it may reach.
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
    sys.exit(main(sys.argv[1:]))
