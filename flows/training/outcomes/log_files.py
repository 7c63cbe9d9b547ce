"""Reads the files of the server's prediction log."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar

from table_files.packed_file import open_bytes
from training.errors import TrainingError
from training.text import first_line, quote_list

Key: TypeAlias = tuple[str, int]
Cell: TypeAlias = str | float | None
T = TypeVar("T")

# Finished files, the one that is written, and those that somebody has compressed.
PATTERNS = ("*.jsonl", "*.jsonl.part", "*.jsonl.gz")
MAX_LINE_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class LogRow:
    """One answered row.

    Parameters
    ----------
    time : str
        When it was answered, such as "2026-11-28T10:00:00.000000Z".
    model, version : str
        Who answered.
    names : tuple of str
        Names of the features.
    cells : tuple of (str, float, bool or None)
        What the caller sent for each; integers too.
    classes : tuple of str
        Labels of the version.
    probabilities : tuple of float
        One in [0, 1] for each class.
    label : str
        The answer.
    """

    time: str
    model: str
    version: str
    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    label: str


@dataclass(slots=True)
class LogRows:
    """Rows of one model's log by identifier and number within the call.

    Parameters
    ----------
    rows : dict of (str, int) to LogRow
        The last answer to each; a retry replaces the answer before.
    n_lines : int
        Lines that were read.
    n_torn : int
        Last lines of files that a killed process or a full disk left without an end.
    n_repeated : int
        Lines whose identifier and row another line has too.
    n_by_model : Counter of str
        Lines of each registered model, those that were left out too.
    """

    rows: dict[Key, LogRow] = field(default_factory=dict)
    n_lines: int = 0
    n_torn: int = 0
    n_repeated: int = 0
    n_by_model: Counter[str] = field(default_factory=Counter)
    _shared: dict[Any, Any] = field(default_factory=dict)

    @property
    def labels(self) -> frozenset[str]:
        """The labels that the models answer with."""
        return frozenset(label for row in self.rows.values() for label in row.classes)

    def add(self, line: Mapping[str, Any]) -> None:
        """Keep the row of a line, unless a later answer is there."""
        key = (line["request_id"], line["row"])
        before = self.rows.get(key)
        self.n_repeated += before is not None
        if before is None or before.time <= line["time"]:
            self.rows[key] = self._make_row(line)

    def _make_row(self, line: Mapping[str, Any]) -> LogRow:
        features, probabilities = line["features"], line["probabilities"]
        return LogRow(
            line["time"],
            self._share(line["model"]),
            self._share(line["model_version"]),
            self._share(tuple(features)),
            tuple(features.values()),
            self._share(tuple(probabilities)),
            tuple(probabilities.values()),
            self._share(line["label"]),
        )

    def _share(self, value: T) -> T:
        """Return the first equal value: names and labels are kept once, not in each row."""
        shared: T = self._shared.setdefault(value, value)
        return shared


def read_log(folder: Path, model_name: str | None = None) -> LogRows:
    """Read all files of a folder, those that are still written too.

    Parameters
    ----------
    folder : Path
        The folder of the log.
    model_name : str or None
        The registered model whose rows count; None if the log has one only.

    Returns
    -------
    LogRows
        Its rows.

    Raises
    ------
    TrainingError
        If there is no file, a line before the last one cannot be read, the log has not the model,
        or it has several and none is named: they may share identifiers.
    """
    paths = sorted(path for pattern in PATTERNS for path in folder.glob(pattern))
    if not paths:
        raise TrainingError(
            f"{folder} holds no file of a prediction log; name the folder of --prediction-log"
        )
    log = LogRows()
    for path in paths:
        for line in _read_file(path, log):
            log.n_lines += 1
            log.n_by_model[line["model"]] += 1
            if model_name in (None, line["model"]):
                log.add(line)
    _check_models(folder, log, model_name)
    return log


def _check_models(folder: Path, log: LogRows, model_name: str | None) -> None:
    models = quote_list(sorted(log.n_by_model))
    if model_name is None and len(log.n_by_model) > 1:
        raise TrainingError(
            f"{folder} has rows of {len(log.n_by_model)} models, {models}; choose with --model_name"
        )
    if model_name is not None and model_name not in log.n_by_model:
        raise TrainingError(
            f"{folder} has no row of the model {model_name!r}; it has {models or 'no row'}"
        )


def _read_file(path: Path, log: LogRows) -> Iterator[dict[str, Any]]:
    # A pipe would be waited for.
    if not path.is_file():
        raise TrainingError(f"{path} is no file; remove it from the log")
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(_cut(file, path), 1):
                if not line.endswith(b"\n"):  # only the last line can lack its end
                    log.n_torn += 1
                    return
                yield _parse(line, f"{path}, line {number}")
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read after line {number}: {first_line(error)}"
        ) from None


def _cut(file: IO[bytes], path: Path) -> Iterator[bytes]:
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) == MAX_LINE_BYTES:
            raise TrainingError(
                f"{path} has a line above {MAX_LINE_BYTES // 2**20} MiB; remove the file"
            )
        yield line


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_constant=_refuse)
        # Escapes of half a letter are JSON, and no text.
        if b"\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise TrainingError(
            f"{where} is no JSON; remove the line or the file"
        ) from None
    if not (_has(row, "request_id", str) and _has(row, "row", int)):
        raise TrainingError(f"{where} is no line of a prediction log")
    for name, kind in _MEMBERS.items():
        if not _has(row, name, kind):
            raise TrainingError(f"{where} has no {name!r} of a prediction log")
    if not all(isinstance(cell, _CELLS) for cell in row["features"].values()):
        raise TrainingError(f"{where} has a feature that is neither number nor text")
    if not all(map(_is_share, row["probabilities"].values())):
        raise TrainingError(f"{where} has a probability outside [0, 1]")
    return dict(row)


_MEMBERS: Mapping[str, type] = {
    "time": str,
    "model": str,
    "model_version": str,
    "features": dict,
    "probabilities": dict,
    "label": str,
}
_CELLS = (str, int, float, bool, type(None))


def _has(row: object, name: str, kind: type) -> bool:
    return isinstance(row, dict) and isinstance(row.get(name), kind)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
