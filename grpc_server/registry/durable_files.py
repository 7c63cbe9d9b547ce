"""File operations that survive a power loss: each returns once the disk holds the change.

This module does not know what the files contain.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_file(path: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold a lock on a file, which is created: some network file systems cannot lock folders.

    The kernel releases the lock when the process ends, however it ends.

    Parameters
    ----------
    path : Path
        The file.
    waits : bool
        Whether to wait for another holder.

    Returns
    -------
    context manager
        Holds the lock.

    Raises
    ------
    BlockingIOError
        If `waits` is false, and another process holds the lock.
    """
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def make_folder(path: Path) -> None:
    """Create a folder and its parents durably."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file's content durably; its name needs `sync_folder` as well."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Return once the disk holds a file's content."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return once the disk holds the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_link(link: Path, target: str) -> None:
    """Point `link` at `target` in one step: a reader sees the old target or the new one."""
    fresh = link.with_name(f".{link.name.lstrip('.')}.new")
    fresh.unlink(missing_ok=True)  # left by a process that was killed before `replace`
    fresh.symlink_to(target)
    fresh.replace(link)
    sync_folder(link.parent)
