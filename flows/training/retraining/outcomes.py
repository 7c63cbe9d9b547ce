"""Reads the live metrics of versions, which `training.outcomes.live_metrics` describes."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.errors import SignalError
from training.outcomes.live_metrics import MODEL, NEEDED
from training.text import first_line, shorten

MAX_FILE_ROWS = 100_000
MAX_SHOWN = 200


def read_live_metric(
    path: str, model_name: str, version: str, metric: str
) -> tuple[float, float]:
    """Return a live metric of a version.

    Parameters
    ----------
    path : str
        The file.
    model_name, version, metric : str
        Which one. A file without a column of models is taken to be of this one.

    Returns
    -------
    value, rows : float
        Its value, NaN if there is no row, and its number of rows.

    Raises
    ------
    SignalError
        If the file cannot be read, has other columns, or has not exactly one finite value.
    """
    found = [
        row
        for row in _read_rows(path)
        if row.get(MODEL, model_name) == model_name
        and str(row["version"]) == version
        and row["metric"] == metric
    ]
    if len(found) != 1:
        raise SignalError(
            f"--outcomes {path!r} has {len(found)} rows of the metric "
            f"{shorten(metric, MAX_SHOWN)!r} and {model_name} version {version}, not one"
        )
    value, rows = (_to_number(found[0][name]) for name in ("value", "n_rows"))
    if rows == 0:
        return math.nan, 0.0
    if not math.isfinite(value) or not 0 <= rows < 2**53:
        raise SignalError(
            f"--outcomes {path!r}: the metric {shorten(metric, MAX_SHOWN)!r} of version {version} "
            "has no finite value, or no number of rows"
        )
    return value, rows


def _to_number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan


def _read_rows(path: str) -> list[Mapping[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    if not Path(path).is_file():
        raise SignalError(f"--outcomes {path!r} is no file")
    try:
        with parquet.ParquetFile(path) as file:
            n_rows, names = file.metadata.num_rows, file.schema_arrow.names
            _check_shape(path, n_rows, names)
            read = [*NEEDED, *({MODEL} & set(names))]
            rows: list[Mapping[str, Any]] = file.read(columns=read).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        words = shorten(first_line(error), MAX_SHOWN)
        raise SignalError(f"--outcomes {path!r} cannot be read: {words}") from None
    return rows


def _check_shape(path: str, n_rows: int, names: list[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise SignalError(
            f"--outcomes {path!r} is no file of live metrics: it has no column {missing[0]!r}; "
            "flows/join_outcomes.py writes one"
        )
    if n_rows > MAX_FILE_ROWS:
        raise SignalError(
            f"--outcomes {path!r} has {n_rows:,} rows, {MAX_FILE_ROWS:,} at most"
        )
