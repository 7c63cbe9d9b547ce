"""The origin of a model's file: `model_sync` writes it beside the file, the server reads it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from grpc_server.errors import ArtifactCorrupt, ArtifactError
from grpc_server.model.files import read_file
from prediction.artifact import is_sealed

SOURCE_FILE_NAME = "source.json"
_SHOWN_DIGITS = 12
_MAX_SOURCE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Origin of a model's file.

    Parameters
    ----------
    registered_model : str
        Name in the registry; empty if the file does not come from a registry.
    version : str
        Version in the registry; without a registry, derived from the digest.
    run_id : str
        Tracking run that registered the version; may be empty.
    sha256 : str
        Digest of model.binpb, 64 lower-case hexadecimal digits.
    """

    registered_model: str
    version: str
    run_id: str
    sha256: str

    def write(self, folder: Path) -> None:
        """Write the source file into `folder`."""
        (folder / SOURCE_FILE_NAME).write_text(
            json.dumps(asdict(self), indent=2) + "\n"
        )


def read_source(folder: Path, artifact: bytes) -> ModelSource:
    """Read the origin of `artifact`, and check its digest.

    Parameters
    ----------
    folder : Path
        Folder that may hold a source file.
    artifact : bytes
        Content of the model's file.

    Returns
    -------
    ModelSource
        The origin.

    Raises
    ------
    ArtifactCorrupt
        If the source file is unreadable, or names another digest than the artifact's. Without a
        source file, if the artifact does not end with its own digest.
    """
    actual = hashlib.sha256(artifact).hexdigest()
    path = folder / SOURCE_FILE_NAME
    if not path.exists():
        if not is_sealed(artifact):
            raise ArtifactCorrupt(
                f"{folder} holds a model whose digest is missing or wrong: it was altered, only "
                "partly written, or made by an older trainer, whose models need a "
                f"{SOURCE_FILE_NAME}"
            )
        return ModelSource("", f"sha256:{actual[:_SHOWN_DIGITS]}", "", actual)
    source = _parse_source(path)
    if source.sha256 != actual:
        raise ArtifactCorrupt(
            f"{folder} holds a model whose sha256 is {actual}, but {SOURCE_FILE_NAME} says "
            f"{source.sha256[:64]}: it was altered or only partly written"
        )
    return source


def peek_version(folder: Path) -> str:
    """Return the version that the source file names, unchecked; empty without a readable one."""
    try:
        return _parse_source(folder / SOURCE_FILE_NAME).version
    except ArtifactError:
        return ""


def _parse_source(path: Path) -> ModelSource:
    content = read_file(path, _MAX_SOURCE_BYTES)
    try:
        values = json.loads(content)
        source = ModelSource(**values)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactCorrupt(f"{path} cannot be read: {str(error)[:200]}") from None
    if not all(isinstance(value, str) for value in asdict(source).values()):
        raise ArtifactCorrupt(f"{path} cannot be read: every value must be a string")
    return source
