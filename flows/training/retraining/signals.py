"""The signals that a model has to be trained again: its age, drift, and a metric that fell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from prediction_common.stability import index_stability
from training.errors import SignalError
from training.retraining.served import BINS, REFERENCE, Served, by_first
from training.text import shorten

# Below, PSI is noise: it is about (bins - 1) / rows without any drift.
MIN_ROWS = 1000
# The habit of banks: below 0.1 is fine, above 0.25 is not.
MAX_PSI = 0.2
MAX_NAME = 100
SECONDS_PER_DAY = 86_400
LOWER_IS_BETTER = ("loss", "error", "brier")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a signal says.

    Parameters
    ----------
    is_due : bool
        Whether the model has to be trained again.
    words : str
        The value, the threshold and the number of rows, in one line.
    figures : mapping of str to float
        The same for programs.
    """

    is_due: bool
    words: str
    figures: Mapping[str, float]


def judge_age(
    version: str, created: datetime, now: datetime, max_days: float
) -> Finding:
    """Say whether a version is too old.

    Parameters
    ----------
    version : str
        The version that answers.
    created, now : datetime
        When it was registered, and the time; both with a time zone.
    max_days : float
        Oldest age in days.

    Returns
    -------
    Finding
        Due if it is older.

    Raises
    ------
    SignalError
        If it comes from the future.
    """
    days = (now - created).total_seconds() / SECONDS_PER_DAY
    if days < 0:
        raise SignalError(
            f"version {version} was registered in the future, {created.isoformat()}; set the clock "
            "of this machine or of MLflow's"
        )
    is_due = days > max_days
    relation = "more" if is_due else "not more"
    words = f"version {version} is {days:.1f} days old, {relation} than {max_days:g}"
    return Finding(is_due, words, {"age_days": days, "max_age_days": max_days})


def measure_psi(counts: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Return the population stability index of counts against shares.

    Parameters
    ----------
    counts : mapping of str to float
        Rows by bin; more than 0 together.
    reference : mapping of str to float
        Shares by bin, which add up to 1.

    Returns
    -------
    float
        The index, see `index_stability`; a bin that the reference lacks has the share 0 there.
    """
    names = [*reference, *(name for name in counts if name not in reference)]
    return index_stability(
        [counts.get(name, 0.0) for name in names],
        [reference.get(name, 0.0) for name in names],
    )


def judge_drift(served: Served, max_psi: float, min_rows: int = MIN_ROWS) -> Finding:
    """Say whether what is asked differs from what the version learned from.

    Parameters
    ----------
    served : Served
        Sums of all servers.
    max_psi : float
        Largest PSI of a feature.
    min_rows : int
        Rows that a feature needs before it counts.

    Returns
    -------
    Finding
        Due if the feature that drifted most is above the threshold.

    Raises
    ------
    SignalError
        If the servers export no reference, or counts of a feature that it lacks.
    """
    references, counts = by_first(served.reference), by_first(served.bins)
    if not references:
        raise SignalError(
            f"--metrics {served.url}: there is no {REFERENCE}, so version {served.version} was "
            "trained without a reference, or its server is an older one"
        )
    unknown = sorted(set(counts) - set(references))
    if unknown:
        raise SignalError(
            f"--metrics {served.url}: {BINS} has the feature {shorten(unknown[0], MAX_NAME)!r}, "
            f"and {REFERENCE} has not"
        )
    rows = {name: math.fsum(counts.get(name, {}).values()) for name in references}
    enough = [name for name in references if rows[name] >= max(min_rows, 1)]
    if not enough:
        return _too_few(max(rows.values()), min_rows)
    psi = {name: measure_psi(counts[name], references[name]) for name in enough}
    worst = max(sorted(psi), key=psi.__getitem__)
    is_due = psi[worst] > max_psi
    words = (
        f"PSI of {shorten(worst, MAX_NAME)} is {psi[worst]:.3f}, "
        f"{'above' if is_due else 'not above'} {max_psi:g} ({rows[worst]:,.0f} rows, the worst of "
        f"{len(enough)} features)"
    )
    figures = {"psi": psi[worst], "max_psi": max_psi, "rows": rows[worst]}
    return Finding(is_due, words, figures)


def _too_few(rows: float, min_rows: int) -> Finding:
    words = f"{rows:,.0f} rows are too few to tell, --min-rows is {min_rows:,}"
    return Finding(False, words, {"rows": rows, "min_rows": float(min_rows)})


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of the version that answers.

    Parameters
    ----------
    name : str
        Such as "accuracy" or "log_loss".
    live, rows : float
        Its value on rows that were served, and their number.
    at_training : float
        Its value on the hold-out.
    source : str
        Where the live value comes from.
    """

    name: str
    live: float
    rows: float
    at_training: float
    source: str


def judge_metric(
    measured: Measured, worse_by: float, min_rows: int = MIN_ROWS
) -> Finding:
    """Say whether a metric is worse than it was on the hold-out.

    Parameters
    ----------
    measured : Measured
        The metric.
    worse_by : float
        Loss that is borne, in units of the metric.
    min_rows : int
        Rows that it needs before it counts.

    Returns
    -------
    Finding
        Due if it is worse by more.
    """
    if measured.rows < max(min_rows, 1):
        return _too_few(measured.rows, min_rows)
    is_loss = any(word in measured.name for word in LOWER_IS_BETTER)
    is_loss = is_loss and not measured.name.startswith("neg_")
    loss = (measured.live - measured.at_training) * (1 if is_loss else -1)
    is_due = loss > worse_by
    words = (
        f"{measured.source} {shorten(measured.name, MAX_NAME)} is {measured.live:.4g} after "
        f"{measured.at_training:.4g} on the hold-out, worse by {max(loss, 0.0):.4g}, "
        f"{'more' if is_due else 'not more'} than {worse_by:g} ({measured.rows:,.0f} rows)"
    )
    figures = {"live": measured.live, "at_training": measured.at_training}
    return Finding(
        is_due, words, figures | {"rows": measured.rows, "worse_by": worse_by}
    )
