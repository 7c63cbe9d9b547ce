"""Finds a version of a registered model, and checks that a server could serve it."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from prediction.artifact import REGISTRY_PATH, SHA256_TAG
from training.errors import RegistryError
from training.text import escape, shorten_list

READY = "READY"
CHUNK_BYTES = 2**20


def find_version(client: MlflowClient, name: str, number: str) -> ModelVersion:
    """Return a version.

    Parameters
    ----------
    client : MlflowClient
        Client of the registry.
    name, number : str
        The registered model, and the version's number.

    Returns
    -------
    ModelVersion
        The version.

    Raises
    ------
    RegistryError
        If there is none; the message lists those that there are.
    """
    try:
        return client.get_model_version(name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    found = client.search_model_versions(f"name = '{name}'")
    numbers = sorted((int(version.version) for version in found), reverse=True)
    there_is = f"choose one of {shorten_list(numbers)}" if numbers else "it has none"
    raise RegistryError(f"{name} has no version {number}; {there_is}")


def check_servable(version: ModelVersion) -> None:
    """Raise RegistryError if a version is not READY, or its artifact is absent or another one."""
    what = f"{version.name} version {version.version}"
    if str(version.status) != READY:
        raise RegistryError(
            f"{what} is {escape(str(version.status))}, not {READY}; wait until it is written, or "
            "choose another version"
        )
    expected = version.tags.get(SHA256_TAG)
    if expected is None:
        raise RegistryError(
            f"{what} has no tag {SHA256_TAG}, so it is no version of the training flow, and no "
            "server would serve it; choose another version"
        )
    if _digest_artifact(version, what) != expected:
        raise RegistryError(
            f"{what} has another {REGISTRY_PATH} than its tag {SHA256_TAG} says, so no server "
            "would serve it; choose another version"
        )


def _digest_artifact(version: ModelVersion, what: str) -> str:
    """Return the SHA-256 of a version's artifact in lower-case hexadecimal digits."""
    uri = f"models:/{version.name}/{version.version}/{REGISTRY_PATH}"
    with TemporaryDirectory(prefix="version-") as folder:
        try:
            path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
        except Exception as error:  # each store of artifacts has errors of its own
            raise RegistryError(
                f"{what} has no {REGISTRY_PATH} that can be read ({type(error).__name__}); choose "
                "another version, or bring the store of its artifacts back"
            ) from None
    return digest.hexdigest()
