"""Judges the evidence by the policy, and says the verdict in words and in figures."""

from collections.abc import Iterator, Mapping

from training.models.champion_policy import (
    BETTER,
    CALIBRATION_TOLERANCE,
    ChampionPolicy,
)
from training.registry.bootstrap import N_RESAMPLES
from training.registry.evidence import Difference, Evidence, Segment
from training.registry.registration import CHALLENGER, CHAMPION
from training.registry.resampled_scores import LOG_LOSS
from training.text import escape, shorten_list


def judge(evidence: Evidence, policy: ChampionPolicy) -> tuple[str, str]:
    """Judge a new version by how its twin compares with the champion's.

    Parameters
    ----------
    evidence : Evidence
        The comparison.
    policy : ChampionPolicy
        What the new version has to show; not "never".

    Returns
    -------
    alias, reason : str, str
        "champion" or "challenger", and a sentence.
    """
    faults = [*_find_faults(evidence, policy)]
    if faults:
        return CHALLENGER, f"It stays challenger: {'; '.join(faults)}."
    if policy.promotion == BETTER:
        return CHAMPION, "So it is better (--promotion better)."
    return CHAMPION, (
        f"So it is not worse by more than {policy.tolerance:g} (--promotion not_worse)."
    )


def _find_faults(evidence: Evidence, policy: ChampionPolicy) -> Iterator[str]:
    tolerance = policy.tolerance
    name, low = evidence.scoring, evidence.score.interval.low
    if policy.promotion == BETTER and not low > 0:
        yield f"{name} is not surely better, because the interval is not above 0"
    elif policy.promotion != BETTER and not low > -tolerance:
        yield f"{name} may be worse by more than {tolerance:g} (--promotion_tolerance)"
    if name != LOG_LOSS and not evidence.log_loss.interval.low > -tolerance:
        yield f"log loss may be worse by more than {tolerance:g} (--promotion_tolerance)"
    new, old = evidence.calibration
    if new - old > CALIBRATION_TOLERANCE:
        yield f"the calibration error is worse by more than {CALIBRATION_TOLERANCE:g}"
    worse = [one for one in evidence.segments if _is_worse(one, tolerance)]
    if worse:
        told = shorten_list([_tell_segment(one) for one in worse])
        yield f"{name} is surely worse for {policy.segment} {told}"


def _is_worse(segment: Segment, tolerance: float) -> bool:
    return segment.score is not None and segment.score.interval.high < -tolerance


def _tell_segment(segment: Segment) -> str:
    assert segment.score is not None
    label = escape(segment.label)
    return f"{label} ({segment.n_rows} rows, {_tell_difference(segment.score)})"


def tell_evidence(evidence: Evidence, segment: str) -> str:
    """Return the figures of a comparison in a few sentences.

    Parameters
    ----------
    evidence : Evidence
        The comparison.
    segment : str
        Column of the segments; empty for none.

    Returns
    -------
    str
        Differences with their intervals, calibration errors and segments.
    """
    log_loss, (new, old) = evidence.log_loss, evidence.calibration
    told = [
        f"The difference is {_tell_difference(evidence.score)} with 95 % confidence "
        f"({N_RESAMPLES} resamples of the rows)"
    ]
    if evidence.scoring != LOG_LOSS:
        told.append(
            f"Log loss {-log_loss.new:.6g}, the champion has {-log_loss.old:.6g}: better by "
            f"{_tell_difference(log_loss)}"
        )
    told.append(f"Calibration error {new:.3g}, the champion has {old:.3g}")
    if segment:
        told.append(_tell_segments(evidence.segments, segment))
    return ". ".join(told) + "."


def _tell_segments(segments: tuple[Segment, ...], column: str) -> str:
    compared = [one for one in segments if one.score is not None]
    n_small = len(segments) - len(compared)
    noun = "segment" if len(compared) == 1 else "segments"
    told = f"{len(compared)} {noun} of {escape(column)} compared"
    if n_small:
        told += f", {n_small} with too few rows"
    if compared:
        lowest = min(compared, key=lambda one: one.score.value if one.score else 0.0)
        told += f"; the lowest difference is that of {_tell_segment(lowest)}"
    return told


def _tell_difference(difference: Difference) -> str:
    interval = difference.interval
    return f"{difference.value:+.4g} in [{interval.low:+.4g}, {interval.high:+.4g}]"


def make_figures(evidence: Evidence) -> Mapping[str, float]:
    """Return the figures of a comparison by name, for tags and for the history.

    Parameters
    ----------
    evidence : Evidence
        The comparison.

    Returns
    -------
    mapping of str to float
        Number of rows, differences, bounds that are finite, and calibration errors.
    """
    figures = {"rows": float(evidence.n_rows)}
    for name, one in (("score", evidence.score), ("log_loss", evidence.log_loss)):
        figures[f"{name}_difference"] = one.value
        figures[f"{name}_low"] = one.interval.low
        figures[f"{name}_high"] = one.interval.high
    figures["calibration_new"], figures["calibration_old"] = evidence.calibration
    return {name: value for name, value in figures.items() if abs(value) < float("inf")}
