"""Joins the prediction log with outcomes, by identifier and row."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from training.errors import TrainingError
from training.outcomes.log_files import Key, LogRow, LogRows
from training.outcomes.outcome_file import Outcomes
from training.text import shorten

MAX_SHOWN = 60

LabelledRow: TypeAlias = tuple[LogRow, str]


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows of the log whose outcome is known, and the counts of the others.

    Parameters
    ----------
    rows : list of (LogRow, str)
        Rows of the log and their true labels; one or more.
    unmatched : Counter of (str, str)
        Rows without an outcome, by model and version.
    n_unknown : int
        Outcomes whose identifier the log does not have.
    n_ambiguous : int
        Outcomes that name no row, of calls of several rows.
    """

    rows: list[LabelledRow]
    unmatched: Counter[tuple[str, str]]
    n_unknown: int
    n_ambiguous: int


def join(log: LogRows, outcomes: Outcomes) -> Joined:
    """Join by identifier and row.

    Raises
    ------
    TrainingError
        If no outcome belongs to a row of the log.
    """
    n_rows = Counter(request_id for request_id, _ in log.rows)
    found: dict[Key, str] = {}
    n_unknown = n_ambiguous = 0
    for (request_id, row), label in outcomes.labels.items():
        if row is None and n_rows[request_id] > 1:
            n_ambiguous += 1
        elif (key := (request_id, row or 0)) in log.rows:
            found[key] = label
        else:
            n_unknown += 1
    if not found:
        raise TrainingError(_tell_strangers(log, outcomes, n_ambiguous))
    rows = [(log.rows[key], label) for key, label in found.items()]
    unmatched = Counter(
        (row.model, row.version) for key, row in log.rows.items() if key not in found
    )
    return Joined(rows, unmatched, n_unknown, n_ambiguous)


def _tell_strangers(log: LogRows, outcomes: Outcomes, n_ambiguous: int) -> str:
    """Say why nothing was joined, with the first identifier of each side."""
    if n_ambiguous:
        return (
            "no outcome names a row of its call, and the calls have several; add the column of "
            "the row to --key"
        )
    logged, stated = (_show_first(keys) for keys in (log.rows, outcomes.labels))
    return (
        f"no outcome belongs to a row of the log: the log's first identifier is {logged}, and that "
        f"of the outcomes is {stated}; a program may have changed them, such as 007 into 7"
    )


def _show_first(keys: Iterable[tuple[str, int | None]]) -> str:
    for request_id, row in keys:
        place = "" if row is None else f" row {row}"
        return f"{shorten(request_id, MAX_SHOWN)!r}{place}"
    return "none"
