"""Reads a file that is not trusted."""

import os
import stat
from pathlib import Path

from grpc_server.errors import ArtifactCorrupt, ArtifactMissing


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
