"""What is scored and how, in a file: a second run goes on only if all of it is the same."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grpc_server.errors import TableError
from grpc_server.registry.durable_files import sync_folder, write_file

PLAN_FILE, MANIFEST_FILE, LOCK_FILE = "_plan.json", "_manifest.json", "_lock"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides about every byte of the output.

    Parameters
    ----------
    values : dict
        Values that JSON can hold: the model, the files, the options.
    on_bad_row : str
        "fail", "skip" or "null". A run that has failed may go on with another.
    """

    values: dict[str, Any]
    on_bad_row: str

    @property
    def digest(self) -> str:
        """SHA-256 of the plan, hexadecimal."""
        return hashlib.sha256(_to_json(self.values)).hexdigest()

    def adopt(self, folder: Path) -> None:
        """Write the plan into the folder, or check that the one there is the same.

        Raises
        ------
        TableError
            If the folder has another plan, or other files.
        """
        path = folder / PLAN_FILE
        if not path.exists():
            _check_is_empty(folder)
        else:
            self._compare(path)
        content = _to_json(
            {"format": _FORMAT, "on_bad_row": self.on_bad_row} | self.values
        )
        replace_file(path, content)

    def _compare(self, path: Path) -> None:
        old = read_json(path)
        cure = f"score into another folder, or remove {path.parent}"
        changed = [
            name for name, value in self.values.items() if old.get(name) != value
        ]
        if old.get("format") != _FORMAT or changed:
            words = ", ".join(changed) or "format"
            raise TableError(
                f"{path.parent} has parts of another run (changed: {words}); {cure}"
            )
        # A run that fails at the first bad row has none in its parts.
        if old["on_bad_row"] not in ("fail", self.on_bad_row):
            raise TableError(
                f"{path.parent} has parts with --on-bad-row {old['on_bad_row']}, not "
                f"{self.on_bad_row}; {cure}"
            )


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old or the new content, durably."""
    fresh = path.with_name(f".{path.name}.tmp")
    write_file(fresh, content)
    fresh.replace(path)
    sync_folder(path.parent)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write values for people and programs."""
    replace_file(path, json.dumps(values, indent=2).encode() + b"\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what was written as JSON.

    Raises
    ------
    TableError
        If it cannot be read.
    """
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise TableError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise TableError(f"{path} cannot be read: it is no object of JSON")
    return values


def to_values(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Return dataclasses as values that JSON can hold."""
    return [asdict(item) for item in items]


def _check_is_empty(folder: Path) -> None:
    foreign = sorted(
        p.name for p in folder.iterdir() if p.name != LOCK_FILE and p.suffix != ".tmp"
    )
    if foreign:
        raise TableError(
            f"{folder} has other files, such as {foreign[0]}; name a new folder for the output"
        )


def _to_json(values: dict[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True).encode()
