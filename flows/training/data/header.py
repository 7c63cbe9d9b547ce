"""The names of a table's columns, as its file has them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training.errors import DataError


def check_header(path: Path, names: Sequence[str]) -> None:
    """Raise DataError if a column has no name, or two columns have the same one."""
    if "" in names:
        raise DataError(
            f"{path}: column {names.index('') + 1} has no name in the first line; name it"
        )
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
    if duplicates:
        raise DataError(
            f"{path} has the column {duplicates[0]!r} more than once; rename one"
        )
