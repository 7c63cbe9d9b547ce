"""Notes on a search for the user: on fits that failed or did not converge."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from training.models.search_values import ShardResult
from training.search import SplitScore


def make_shard_result(
    scores: Sequence[SplitScore], caught: Sequence[warnings.WarningMessage]
) -> ShardResult:
    """Put the scores of a shard together with the warnings that its fits gave.

    Parameters
    ----------
    scores : sequence of SplitScore
        Scores by candidate and split.
    caught : sequence of WarningMessage
        Warnings of the fits and of the scorer.

    Returns
    -------
    ShardResult
        Scores, and the failures that the warnings report.
    """
    n_not_converged = sum(
        issubclass(item.category, ConvergenceWarning) for item in caught
    )
    return ShardResult(tuple(scores), n_not_converged, _find_scoring_failure(caught))


def note_fits(
    mean_scores: NDArray[Any], shards: Sequence[ShardResult], n_left_out: int
) -> tuple[str, ...]:
    """Return notes on fits that did not converge, and on candidates without a score.

    Parameters
    ----------
    mean_scores : ndarray of float64, shape (n_candidates,)
        Mean score of each candidate over the folds, NaN if it has none.
    shards : sequence of ShardResult
        Outcomes of all shards.
    n_left_out : int
        Candidates without a score for lack of time; they have their own note.

    Returns
    -------
    tuple of str
        One sentence for each.
    """
    n_not_converged = sum(shard.n_not_converged for shard in shards)
    n_without = int((~np.isfinite(mean_scores)).sum()) - n_left_out
    notes = []
    if n_not_converged:
        notes.append(
            f"{n_not_converged} fits did not converge, so their scores may be too low; raise "
            "max_iter in the grid, or leave out its largest C"
        )
    if n_without:
        notes.append(f"{n_without} candidates have no score: {find_failure(shards)}")
    return tuple(notes)


def find_failure(shards: Sequence[ShardResult]) -> str:
    """Return the first reason why a candidate has no score, as one line."""
    errors = [s.fit_error for shard in shards for s in shard.scores if s.fit_error]
    failures = [shard.scoring_failure for shard in shards if shard.scoring_failure]
    reasons = [*errors, *failures, "a fold cannot be scored"]
    return last_line(reasons[0])


def last_line(text: str) -> str:
    """Return the last line of a traceback, which has the error's own text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _find_scoring_failure(caught: Sequence[warnings.WarningMessage]) -> str:
    # scikit-learn reports a scorer that fails in a plain warning that begins with these words.
    messages = [str(item.message) for item in caught]
    failures = [text for text in messages if text.startswith("Scoring failed")]
    return last_line(failures[-1]) if failures else ""
