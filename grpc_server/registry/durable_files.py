"""Changes of files that no loss of power undoes: they return once all is on the disk.

It knows nothing of what the files hold.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_file(path: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which is made: some network file systems lock no folders.

    The lock ends with the process, however that ends.

    Raises
    ------
    BlockingIOError
        If it does not wait, and another one holds the lock.
    """
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def make_folder(path: Path) -> None:
    """Make a folder and those above it, each of which is then on the disk."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file, which is then on the disk; its name is once its folder is."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Return once what a file holds is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Return once the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_link(link: Path, target: str) -> None:
    """Point `link` at `target` in one step, so that a reader sees the old or the new."""
    fresh = link.with_name(f".{link.name.lstrip('.')}.new")
    fresh.unlink(missing_ok=True)  # of one that was killed here
    fresh.symlink_to(target)
    fresh.replace(link)
    sync_folder(link.parent)
