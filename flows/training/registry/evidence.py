"""Compares the answers of two models on the same rows, as a whole and in each segment."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.rows import Rows
from training.data.schema import Feature, Kind
from training.models.evaluation import expected_calibration_error, measure_reliability
from training.registry.answers import Answers, Judge
from training.registry.bootstrap import Interval, find_intervals
from training.registry.resampled_scores import LOG_LOSS, make_resampled
from training.registry.unseen_rows import MIN_ROWS, MIN_ROWS_OF_CLASS

MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Difference:
    """A score of two models, larger is better.

    Parameters
    ----------
    new, old : float
        Scores of the new model and of the champion.
    interval : Interval
        Bootstrap interval of new minus old.
    """

    new: float
    old: float
    interval: Interval

    @property
    def value(self) -> float:
        """New minus old."""
        return self.new - self.old


@dataclass(frozen=True, slots=True)
class Segment:
    """The rows of one value of a column.

    Parameters
    ----------
    label : str
        The value.
    n_rows : int
        Number of rows.
    score : Difference or None
        The chosen score; None if there are too few rows to compare.
    """

    label: str
    n_rows: int
    score: Difference | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the rows tell of two models.

    Parameters
    ----------
    scoring : str
        Name of the chosen scorer.
    n_rows : int
        Number of rows.
    score, log_loss : Difference
        The chosen score, and minus the log loss.
    calibration : pair of float
        Expected calibration errors, of the new model and of the champion.
    segments : tuple of Segment
        The segments, if a column is named.
    """

    scoring: str
    n_rows: int
    score: Difference
    log_loss: Difference
    calibration: tuple[float, float]
    segments: tuple[Segment, ...] = ()


def compare_answers(
    scoring: str, y: NDArray[np.int64], new: Answers, old: Answers
) -> Evidence:
    """Compare two models on the same rows.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer.
    y : ndarray of int64, shape (n_rows,)
        True codes.
    new, old : Answers
        Answers of the new model and of the champion.

    Returns
    -------
    Evidence
        Both scores with their intervals, from the same resamples; no segments.
    """
    names = [scoring] if scoring == LOG_LOSS else [scoring, LOG_LOSS]
    found = _compare_scores(names, y, new, old)
    errors = [
        expected_calibration_error(measure_reliability(y, one.probabilities))
        for one in (new, old)
    ]
    return Evidence(scoring, len(y), found[0], found[-1], (errors[0], errors[1]))


def _compare_scores(
    names: list[str], y: NDArray[np.int64], new: Answers, old: Answers
) -> list[Difference]:
    pairs = [
        tuple(make_resampled(name, y, one) for one in (new, old)) for name in names
    ]
    intervals = find_intervals([(one, two) for one, two in pairs], len(y))
    return [
        Difference(
            Judge(name, y, new).score_all(), Judge(name, y, old).score_all(), interval
        )
        for name, interval in zip(names, intervals, strict=True)
    ]


def compare_segments(
    scoring: str,
    rows: Rows,
    answers: tuple[Answers, Answers],
    column: tuple[int, Feature],
) -> tuple[Segment, ...]:
    """Compare two models on each value of a column.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer.
    rows : Rows
        The rows.
    answers : pair of Answers
        Answers of the new model and of the champion.
    column : int, Feature
        The column's place in the matrix, and the column itself.

    Returns
    -------
    tuple of Segment
        Every value that occurs. One with fewer than 100 rows, or 10 of a class, is not compared.
    """
    position, feature = column
    cells = np.asarray(rows.X[:, position], dtype=np.float64)
    n_classes = answers[0].probabilities.shape[1]
    return tuple(
        (
            Segment(label, len(taken), _compare_taken(scoring, rows.y, answers, taken))
            if _is_enough(rows.y[taken], n_classes)
            else Segment(label, len(taken), None)
        )
        for label, taken in _divide(cells, feature)
    )


def _compare_taken(
    scoring: str,
    y: NDArray[np.int64],
    answers: tuple[Answers, Answers],
    taken: NDArray[np.int64],
) -> Difference:
    new, old = (one.take(taken) for one in answers)
    return _compare_scores([scoring], y[taken], new, old)[0]


def _is_enough(y: NDArray[np.int64], n_classes: int) -> bool:
    counts = np.bincount(y, minlength=n_classes)
    return bool(len(y) >= MIN_ROWS and counts.min() >= MIN_ROWS_OF_CLASS)


def _divide(
    cells: NDArray[np.float64], feature: Feature
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    for value in np.unique(cells):  # which takes all NaN for one
        is_gap = bool(np.isnan(value))
        taken = np.flatnonzero(np.isnan(cells) if is_gap else cells == value)
        yield MISSING if is_gap else _name_value(feature, int(value)), taken


def _name_value(feature: Feature, code: int) -> str:
    if feature.kind == Kind.BOOLEAN:
        return "true" if code else "false"
    return repr(str(feature.categories[code]))
