"""The file of digests that tells a later run which rows a scored twin has learned from.

HEADER | SHA-256 of the rest, 32 bytes | digests, 8 bytes each
"""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np

from training.data.row_digests import DIGEST_BYTES, WORD, Words
from training.registry.comparison import NotComparable

LEARNED_FILE = "learned_rows.bin"
HEADER = (
    b"learned rows 1: BLAKE2b of 8 bytes of each row's cells and label, and each group; cells are "
    b"little-endian doubles, or BLAKE2b of 8 bytes of UTF-8\n"
)
SHA256_BYTES = 32
CHUNK_BYTES = DIGEST_BYTES * 2**20


def write_learned(path: Path, learned: Words) -> None:
    """Write digests to a file.

    Parameters
    ----------
    path : Path
        File to write.
    learned : ndarray of uint64, shape (n_digests,)
        Return value of `training.data.row_digests.list_learned`.
    """
    content = learned.astype(WORD).tobytes()
    path.write_bytes(HEADER + sha256(content).digest() + content)


def read_learned(path: Path) -> Iterator[Words]:
    """Read digests from a file that anybody may have written.

    Parameters
    ----------
    path : Path
        File of `write_learned`.

    Yields
    ------
    ndarray of uint64, shape (n_digests,)
        The digests in parts, so that a file of any size takes little memory.

    Raises
    ------
    NotComparable
        If the file is absent, has another format, or was cut short or changed. A change shows at
        the end of the file only.
    """
    try:
        yield from _read(path)
    except OSError as error:
        raise NotComparable(
            f"its {path.name} cannot be read ({error.strerror})"
        ) from None


def _read(path: Path) -> Iterator[Words]:
    with path.open("rb") as file:
        if file.read(len(HEADER)) != HEADER:
            raise NotComparable(f"its {path.name} has a format that is not known here")
        expected, actual = file.read(SHA256_BYTES), sha256()
        while chunk := file.read(CHUNK_BYTES):
            actual.update(chunk)
            n_digests = len(chunk) // DIGEST_BYTES
            yield np.frombuffer(chunk, dtype=WORD, count=n_digests)
    if actual.digest() != expected:
        raise NotComparable(f"its {path.name} was cut short or changed")
