"""Puts the metrics of two versions side by side, and tells on which rows they were measured."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from training.registry.decisions import Decision, History, tell
from training.registry.registration import FINAL_FIT_TAG
from training.text import escape, quote_list

METRICS = ("holdout_", "cv_best_", "threshold")
# What decides which rows are held out, apart from the table itself.
SPLIT = (
    "target",
    "positive",
    "test_fraction",
    "seed",
    "group",
    "time",
    "strict",
)
DATA_TAG = "data_sha256"
MAX_METRICS, MAX_NAME = 100, 60
NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Side:
    """A version with the parameters of its run.

    Parameters
    ----------
    version : ModelVersion
        The version.
    params : mapping of str to str
        Parameters of the run; empty if the run is gone.
    """

    version: ModelVersion
    params: Mapping[str, str]

    @property
    def number(self) -> str:
        """The version's number."""
        return str(self.version.version)


def open_side(client: MlflowClient, version: ModelVersion) -> Side:
    """Return a version with the parameters of its run."""
    try:
        return Side(version, client.get_run(version.run_id or "").data.params)
    except MlflowException as error:
        if error.error_code not in (
            "RESOURCE_DOES_NOT_EXIST",
            "INVALID_PARAMETER_VALUE",
        ):
            raise
        return Side(version, {})


def compare_metrics(left: Side, right: Side) -> list[str]:
    """Return a table of the metrics of two versions, one line each.

    Parameters
    ----------
    left, right : Side
        The versions.

    Returns
    -------
    list of str
        A header, and a line for each metric that either has. A difference is right minus left.
    """
    of_left, of_right = (dict(_list_metrics(side)) for side in (left, right))
    names = sorted({*of_left, *of_right})[:MAX_METRICS]
    rows = [
        ("metric", f"version {left.number}", f"version {right.number}", "difference")
    ]
    for name in names:
        one, two = of_left.get(name), of_right.get(name)
        difference = NOTHING if one is None or two is None else f"{two - one:+.6g}"
        rows.append((name, _show(one), _show(two), difference))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _list_metrics(side: Side) -> Iterator[tuple[str, float]]:
    for name, text in side.version.tags.items():
        if not name.startswith(METRICS):
            continue
        try:
            value = float(text)
        except ValueError:
            continue
        if isfinite(value):
            yield escape(name)[:MAX_NAME], value


def _show(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.6g}"


def tell_rows(left: Side, right: Side) -> str:
    """Return a sentence on the rows on which two versions were measured.

    Parameters
    ----------
    left, right : Side
        The versions.

    Returns
    -------
    str
        Whether they are the same rows, so that the metrics may be compared, or why not.
    """
    for side in (left, right):
        if FINAL_FIT_TAG not in side.version.tags:
            return (
                f"Version {side.number} has no scored twin, so nobody knows on which rows it was "
                "measured; the difference is no evidence."
            )
        if not side.params or DATA_TAG not in side.version.tags:
            return (
                f"The run of version {side.number} is gone, so nobody knows on which rows it was "
                "measured; the difference is no evidence."
            )
    differing = _find_differing(left, right)
    if differing:
        return (
            f"The scored twins were measured on different rows: {', '.join(differing)}. The "
            "difference is no evidence."
        )
    digest = escape(left.version.tags[DATA_TAG])[:12]
    told = ", ".join(
        f"--{name} {_quote(left, name)}" for name in ("test_fraction", "seed")
    )
    return (
        "The scored twins were measured on the same rows, which neither has learned from: the "
        f"hold-out of the table {digest} with {told}.{_tell_folds(left, right)}"
    )


def _tell_folds(left: Side, right: Side) -> str:
    """Say that scores on other folds do not compare; the hold-out is drawn without the folds."""
    if left.params.get("folds") == right.params.get("folds"):
        return ""
    return (
        f" The folds differ, --folds {_quote(left, 'folds')} and {_quote(right, 'folds')}: a "
        "difference in cv_best_ metrics is no evidence."
    )


def _find_differing(left: Side, right: Side) -> list[str]:
    one, two = left.version.tags[DATA_TAG], right.version.tags[DATA_TAG]
    tables = [] if one == two else [f"table {escape(one)[:12]} and {escape(two)[:12]}"]
    return tables + [
        f"--{name} {_quote(left, name)} and {_quote(right, name)}"
        for name in SPLIT
        if left.params.get(name) != right.params.get(name)
    ]


def _quote(side: Side, name: str) -> str:
    return quote_list([side.params.get(name, "")[:MAX_NAME]])


def tell_decisions(history: History, left: Side, right: Side) -> list[str]:
    """Return the decisions between two versions, with their reasons.

    Parameters
    ----------
    history : History
        The history of their registered model.
    left, right : Side
        The versions.

    Returns
    -------
    list of str
        A line for each.
    """
    pair = {left.number, right.number}
    return [
        f"Decision {tell(one)}: {escape(one.why)}"
        for one in history.decisions
        if _name_versions(one) == pair
    ]


def _name_versions(decision: Decision) -> set[str]:
    return {decision.came_from, decision.to}
