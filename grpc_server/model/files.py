"""Finds the folder of a model, and reads a file that is not trusted."""

import os
import stat
from itertools import islice
from pathlib import Path

from grpc_server.errors import ArtifactCorrupt, ArtifactMissing

# Entries of a folder to look through; a folder that was made to hold one model has few.
_MAX_ENTRIES = 1000
_MAX_SHOWN_CHARACTERS = 80


def find_folder(folder: Path, file_name: str) -> Path:
    """Return the folder that holds the model's file: `folder` itself, or one below it.

    MLflow puts the file one folder below the place of a version's artifacts, from where KServe
    copies all of them.

    Parameters
    ----------
    folder : Path
        Folder to look in. Hidden folders in it do not count.
    file_name : str
        Name of the model's file.

    Returns
    -------
    Path
        The folder with the file; `folder` if there is none.

    Raises
    ------
    ArtifactMissing
        If several folders below hold such a file, or `folder` has more than 1,000 entries.
    """
    if os.path.lexists(folder / file_name):
        return folder
    found = [path for path in _list_folders(folder) if (path / file_name).exists()]
    if len(found) > 1:
        names = sorted(path.name[:_MAX_SHOWN_CHARACTERS] for path in found)
        raise ArtifactMissing(
            f"{folder} has no {file_name}, and {len(found)} folders with one, such as "
            f"{names[0]!r} and {names[1]!r}; name one of them with --model-dir"
        )
    return found[0] if found else folder


def _list_folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            listed = list(islice(entries, _MAX_ENTRIES + 1))
        if len(listed) > _MAX_ENTRIES:
            raise ArtifactMissing(
                f"no model in {folder}, which has more than {_MAX_ENTRIES} entries; name the "
                "folder of the model with --model-dir"
            )
        return [
            folder / entry.name
            for entry in listed
            if entry.is_dir() and not entry.name.startswith(".")
        ]
    except OSError:
        return []  # reading the model's file gives the reason


def read_file(path: Path, max_bytes: int) -> bytes:
    """Read a regular file.

    Parameters
    ----------
    path : Path
        The file.
    max_bytes : int
        Largest size to accept.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    ArtifactMissing
        If there is no file, or it cannot be read.
    ArtifactCorrupt
        If it is no regular file, or larger than `max_bytes`.
    """
    try:
        # O_NONBLOCK: opening a named pipe would otherwise block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtifactMissing(f"no model at {path}: {reason}") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        # Checked before `open`, which would raise its own error for a folder.
        os.close(descriptor)
        raise ArtifactCorrupt(f"{path} is not a regular file")
    with open(descriptor, "rb") as file:
        if status.st_size > max_bytes:
            raise ArtifactCorrupt(
                f"{path} has {status.st_size} bytes; at most {max_bytes} are allowed"
            )
        try:
            return file.read(max_bytes)
        except OSError as error:
            raise ArtifactMissing(f"no model at {path}: {error.strerror}") from None
