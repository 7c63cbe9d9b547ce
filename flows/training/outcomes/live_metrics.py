"""How good a model's answers were: the file that `registry.py retrain --if metric` reads.

A row for each metric of each version:

model              string    the registered model
version            string    the registered version
n_rows             integer   rows with a known outcome
metric             string    a name that training gives metrics too, such as "accuracy"
value              double    its value on these rows; missing where it has none
n_without_outcome  integer   rows of the version whose outcome is not known
n_unknown_label    integer   rows whose outcome the version does not answer with
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log as logarithm
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.outcomes.joining import Joined, LabelledRow

# A probability of 0 for what came true would make every mean infinite.
_SMALLEST = 1e-15
MODEL = "model"
NEEDED = ("version", "n_rows", "metric", "value")
SCHEMA = pa.schema(
    [
        (MODEL, pa.string()),
        ("version", pa.string()),
        ("n_rows", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n_without_outcome", pa.int64()),
        ("n_unknown_label", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class VersionMetrics:
    """How good one version was.

    Parameters
    ----------
    model, version : str
        Which one.
    n_rows : int
        Rows with a known outcome that the version can answer with.
    n_without_outcome : int
        Its rows whose outcome is not known.
    n_unknown_label : int
        Its rows whose outcome is no label of its model.
    values : dict of str to float or None
        "accuracy", "log_loss" and "roc_auc"; None where it has no value.
    """

    model: str
    version: str
    n_rows: int
    n_without_outcome: int
    n_unknown_label: int
    values: dict[str, float | None]


def measure(joined: Joined) -> list[VersionMetrics]:
    """Return the live metrics of each version, in the order of versions."""
    by_version: dict[tuple[str, str], list[LabelledRow]] = defaultdict(list)
    for row, label in joined.rows:
        by_version[row.model, row.version].append((row, label))
    versions = sorted(by_version.keys() | joined.unmatched.keys(), key=_count_up)
    return [
        _measure_version(version, by_version[version], joined.unmatched[version])
        for version in versions
    ]


def write_metrics(versions: Sequence[VersionMetrics], path: Path) -> None:
    """Write live metrics as Parquet."""
    rows = [
        {
            MODEL: version.model,
            "version": version.version,
            "n_rows": version.n_rows,
            "metric": metric,
            "value": value,
            "n_without_outcome": version.n_without_outcome,
            "n_unknown_label": version.n_unknown_label,
        }
        for version in versions
        for metric, value in version.values.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path)


def _count_up(key: tuple[str, str]) -> tuple[str, int, str]:
    """Return what sorts version 10 behind version 9."""
    model, version = key
    return model, int(version) if version.isdecimal() else 0, version


def _measure_version(
    key: tuple[str, str], rows: Sequence[LabelledRow], n_unmatched: int
) -> VersionMetrics:
    known = [(row, label) for row, label in rows if label in row.classes]
    n_known = len(known)
    n_right = sum(row.label == label for row, label in known)
    losses = [
        -logarithm(max(row.probabilities[row.classes.index(label)], _SMALLEST))
        for row, label in known
    ]
    values = {
        "accuracy": n_right / n_known if n_known else None,
        "log_loss": sum(losses) / n_known if n_known else None,
        "roc_auc": _roc_auc(known),
    }
    return VersionMetrics(*key, n_known, n_unmatched, len(rows) - n_known, values)


def _roc_auc(rows: Sequence[LabelledRow]) -> float | None:
    """Return the area, None unless there are two classes and both came true."""
    from sklearn.metrics import roc_auc_score

    classes = {row.classes for row, _ in rows}
    if len(classes) != 1 or len(first := classes.pop()) != 2:
        return None
    truth = [label == first[1] for _, label in rows]
    if len(set(truth)) != 2:
        return None
    return float(roc_auc_score(truth, [row.probabilities[1] for row, _ in rows]))
