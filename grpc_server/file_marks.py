"""Tells whether a file has changed, without reading it."""

from pathlib import Path
from typing import TypeAlias

# Device, inode, size in bytes and time of change in nanoseconds.
Mark: TypeAlias = tuple[int, int, int, int]


def mark(path: Path) -> Mark | None:
    """Return what tells a file from its successor, None if there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
