"""Digests of rows, 8 bytes each, by which a later run knows the rows that a model learned from.

A digest is the same on every machine and in every version of every library. It is BLAKE2b, with a
digest of 8 bytes, of the row's cells in the order of the columns and of its label. Each cell is a
word of 8 bytes in little-endian order:

- A number is an IEEE double. -0 is 0, and every NaN is one and the same.
- A truth value is 1 or 0. A date or a time of day is its seconds.
- A text is the BLAKE2b digest of its UTF-8 bytes.
- A gap, or a category that the run did not know, is NaN.

Of a row of a sparse matrix, each cell that is not 0 is two words: the column's number and the cell.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.data.rows import Rows
from training.data.schema import Feature, Schema

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DIGEST_BYTES = 8
WORD = np.dtype("<u8")
# Rows that are digested at once, so that a mapped file is not copied whole.
CHUNK_ROWS = 65_536

Words = NDArray[np.uint64]


def digest_rows(rows: Rows, schema: Schema) -> Words:
    """Digest features and labels.

    Parameters
    ----------
    rows : Rows
        Rows to digest. Their weights do not count.
    schema : Schema
        Columns and classes of the rows.

    Returns
    -------
    ndarray of uint64, shape (n_rows,)
        A digest for each row. Equal rows have equal digests, whatever categories and labels the
        schema lists besides, and in whatever order.
    """
    labels = to_words(schema.class_labels)[rows.y]
    if schema.is_sparse:
        return _join(_digest_sparse(rows.X, labels))
    return _join(_digest_dense(np.asarray(rows.X), labels, schema.features))


def list_learned(rows: Rows, schema: Schema) -> Words:
    """List what a model that learns from rows has seen: the digests of the rows and their groups.

    Parameters
    ----------
    rows, schema
        As in `digest_rows`.

    Returns
    -------
    ndarray of uint64, shape (n_rows + n_groups,)
        The argument of `find_seen`.
    """
    groups = [] if rows.group is None else [np.unique(_see_groups(rows.group))]
    return np.concatenate([digest_rows(rows, schema), *groups])


def find_seen(rows: Rows, schema: Schema, parts: Iterable[Words]) -> NDArray[np.bool_]:
    """Find the rows that a model has learned from, or whose group it knows.

    Parameters
    ----------
    rows, schema
        As in `digest_rows`.
    parts : iterable of ndarray of uint64
        Return value of `list_learned` for the rows that it has learned from, in any parts.

    Returns
    -------
    ndarray of bool, shape (n_rows,)
        True for such rows.
    """
    digests = digest_rows(rows, schema)
    seen = np.zeros(len(digests), dtype=bool)
    for part in parts:
        seen |= np.isin(digests, part)
        if rows.group is not None:
            seen |= np.isin(_see_groups(rows.group), part)
    return seen


def to_words(values: Iterable[Any]) -> Words:
    """Turn numbers and texts into words.

    Parameters
    ----------
    values : iterable of int, float or str
        Cells; others count as their texts.

    Returns
    -------
    ndarray of uint64, shape (n_values,)
        A word for each.
    """
    return np.array([_to_word(value) for value in values], dtype=WORD)


def _to_word(value: Any) -> int:
    if isinstance(value, int | float | np.number | np.bool_):
        return int(_see_numbers(np.array([value], dtype=np.float64))[0])
    text = str(value).encode("utf-8", "surrogatepass")
    return int.from_bytes(_digest(text), "little")


def _digest(content: Any) -> bytes:
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def _join(digests: Iterator[bytes]) -> Words:
    return np.frombuffer(b"".join(digests), dtype=WORD)


def _see_numbers(values: NDArray[np.float64]) -> Words:
    """Return the words of numbers, in an array of the same shape."""
    # A sum with 0 has no -0.
    plain = np.where(np.isnan(values), np.nan, values + 0.0)
    return plain.astype("<f8").view(WORD)


def _see_groups(group: NDArray[np.int64]) -> Words:
    return group.astype("<i8").view(WORD)


def _see_column(values: NDArray[np.float64], feature: Feature) -> Words:
    if not feature.categories:
        return _see_numbers(values)
    words = to_words([*feature.categories, np.nan])
    codes = np.where(np.isnan(values), len(feature.categories), values)
    return words[codes.astype(np.int64)]


def _digest_dense(
    X: NDArray[np.float64], labels: Words, features: tuple[Feature, ...]
) -> Iterator[bytes]:
    for start in range(0, len(labels), CHUNK_ROWS):
        chunk = slice(start, start + CHUNK_ROWS)
        words = np.empty((len(labels[chunk]), len(features) + 1), dtype=WORD)
        for position, feature in enumerate(features):
            words[:, position] = _see_column(X[chunk, position], feature)
        words[:, -1] = labels[chunk]
        yield from map(_digest, words)


def _digest_sparse(X: "csr_matrix", labels: Words) -> Iterator[bytes]:
    for start in range(0, len(labels), CHUNK_ROWS):
        # A copy, because what follows changes it in place.
        part = X[start : start + CHUNK_ROWS].copy()
        part.sum_duplicates()  # sorts the columns of each row too
        part.eliminate_zeros()
        pairs = np.empty((part.nnz, 2), dtype=WORD)
        pairs[:, 0], pairs[:, 1] = part.indices, _see_numbers(part.data)
        ends, chunk = part.indptr.tolist(), labels[start : start + CHUNK_ROWS]
        for first, last, label in zip(ends, ends[1:], chunk, strict=False):
            yield _digest(pairs[first:last].tobytes() + label.tobytes())
