"""Reads what became true, from the same files as a table to train on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from training.data.csv_file import read_csv_file
from training.data.dataset import normalize_labels
from training.data.gaps import trim
from training.data.parquet_files import find_parquet_files, read_parquet_files
from training.data.read_column import is_text
from training.data.text_columns import read_label
from training.errors import TrainingError
from training.text import quote_list

# Excel and pandas write the whole numbers of a column with gaps as fractions.
_WHOLE = re.compile(r"([0-9]{1,15})(?:\.0*)?")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became true.

    Parameters
    ----------
    labels : dict of (str, int or None) to str
        Label by identifier and row; None for outcomes that name no row.
    target : str
        Name of the column of labels.
    n_missing : int
        Outcomes without identifier, row or label: they are not known yet.
    n_corrected : int
        Outcomes that a later line of the file replaces.
    notes : tuple of str
        How the file and its labels are read, if not as they stand there; a line each.
    """

    labels: dict[tuple[str, int | None], str]
    target: str
    n_missing: int
    n_corrected: int
    notes: tuple[str, ...] = ()


def read_outcomes(
    path: Path, key: Sequence[str], target: str | None, known: frozenset[str]
) -> Outcomes:
    """Read outcomes from CSV or Parquet.

    Parameters
    ----------
    path : Path
        A file, or a folder of .parquet files. It is read as a table to train on is.
    key : sequence of str
        Column of the identifier and, optionally, column of the row.
    target : str or None
        Column of the label; None if there is one column besides the key.
    known : frozenset of str
        Labels that the log's models answer with.

    Returns
    -------
    Outcomes
        The labels. A label is what a model that learns from the file would call it, so that "1.0"
        and "true" are 1, unless the log's models know it as it stands there.

    Raises
    ------
    TrainingError
        If the file cannot be read, a column is missing, or a cell is no row or no label.
    """
    table, notes = _read_table(path)
    target = _find_target(table, key, target, path)
    _check_columns(table, [*key, target], path)
    labels, spelled = _name_labels(table[target], known)
    cells = {"id": _write(table[key[0]]), "label": labels}
    if len(key) == 2:
        cells["row"] = _read_rows(table[key[1]], path)
    present = pd.DataFrame(cells).dropna()
    rows = present["row"].astype(int) if "row" in cells else [None] * len(present)
    found = dict(
        zip(zip(present["id"], rows, strict=True), present["label"], strict=True)
    )
    n_missing, n_corrected = len(table) - len(present), len(present) - len(found)
    return Outcomes(found, target, n_missing, n_corrected, (*notes, *spelled))


def _read_table(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if path.is_dir():
        return read_parquet_files(find_parquet_files(path)), ()
    if not path.is_file():
        raise TrainingError(f"there is no file {str(path)!r} of outcomes")
    if path.suffix.lower() == ".parquet":
        return read_parquet_files([path]), ()
    # As text: an identifier such as 007 must stay one.
    table = read_csv_file(path)
    assert isinstance(table.cells, pd.DataFrame)  # it has no folder to be stored in
    return table.cells, table.notes


def _find_target(
    table: pd.DataFrame, key: Sequence[str], target: str | None, path: Path
) -> str:
    if target in key:
        raise TrainingError(
            f"--target {target!r} is a column of --key too; name the label's"
        )
    if target is not None:
        return target
    _check_columns(table, key, path)
    others = [str(name) for name in table.columns if name not in key]
    if len(others) != 1:
        raise TrainingError(
            f"{path} has {len(others)} columns besides {quote_list(key)}; name the label's with "
            "--target"
        )
    return others[0]


def _check_columns(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    for name in names:
        if name not in table.columns:
            raise TrainingError(
                f"{path} has no column {name!r}; its columns are {quote_list(table.columns)}. "
                "Name them with --key and --target"
            )


def _name_labels(
    column: "pd.Series[Any]", known: frozenset[str]
) -> tuple["pd.Series[Any]", list[str]]:
    """Return labels as models name them, None where missing, and a note on changed ones."""
    is_plain = is_text(column)
    written = trim(column) if is_plain else column.astype("str")
    is_known = written.isin(known) & is_plain
    cells = read_label(column.mask(is_known)).cells
    is_present = cells.notna() & ~is_known
    labels = written.where(is_known).astype(object)
    labels[is_present] = list(map(str, normalize_labels(cells[is_present])))
    is_changed = is_present & (labels != written)
    if not is_plain or not is_changed.any():
        return labels, []
    first = int(is_changed.to_numpy().argmax())
    return labels, [
        f"column {column.name!r}: {int(is_changed.sum())} of {len(column)} labels are written "
        f"otherwise, such as {written.iloc[first]!r} for {labels.iloc[first]!r}"
    ]


def _write(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return cells as text without spaces at its ends, missing where there is nothing else."""
    if pd.api.types.is_float_dtype(column) and (column.dropna() % 1 == 0).all():
        # Identifiers that are numbers, in a column with gaps.
        column = column.astype("Int64")
    written = trim(column.astype("str").where(column.notna()))
    return written.where(written != "")


def _read_rows(column: "pd.Series[Any]", path: Path) -> "pd.Series[Any]":
    """Return numbers of rows, missing where a cell is empty."""
    written = _write(column)
    is_odd = written.notna() & ~written.str.fullmatch(_WHOLE).fillna(False).astype(bool)
    if is_odd.any():
        raise TrainingError(
            f"{path}: the row {written[is_odd].iloc[0]!r} in column {column.name!r} is no whole "
            "number"
        )
    return written.str.split(".").str[0].astype("float64")
