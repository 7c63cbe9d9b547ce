"""Answers of candidates for the rows of folds that they have not seen.

The search throws the answers of its fits away, since those of all candidates would fill the
memory. So a few candidates are searched again, with a scorer that keeps what it is given. They
share their fits as in any search.
"""

import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import make_scorer

from training.data.rows import Rows
from training.models.family_search import FamilySearch
from training.search import plan, run_shard

# For each fold: probabilities of its test rows, float64, shape (n_test, n_classes).
Answers = tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Keeper:
    """Keeps the probabilities that a scorer is given; the score is their number."""

    kept: list[NDArray[np.float64]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keep(self, _: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
        """Keep probabilities, of the second class if there are two, and return their number."""
        # The array may be a buffer of LightGBM's, which the next tree changes.
        copy = np.array(probabilities)
        with self.lock:
            self.kept.append(copy)
            return float(len(self.kept) - 1)


def predict_folds(
    search: FamilySearch, rows: Rows, *, n_threads: int = 1
) -> list[Answers]:
    """Fit all candidates of a search on every fold, and predict the fold's test rows.

    Parameters
    ----------
    search : FamilySearch
        A search of few candidates, which have a score on every fold.
    rows : Rows
        Rows to learn from, without the hold-out.
    n_threads : int, default=1
        Number of fits at once.

    Returns
    -------
    list of tuple of ndarray
        The answers of each candidate, in the order of the grid.
    """
    problem, data, keeper = search.make_problem(), search.split(rows), _Keeper()
    scorer = make_scorer(keeper.keep, response_method="predict_proba")
    problem = replace(problem, scorer=scorer)
    (shard,) = plan(problem, data, 1)
    with warnings.catch_warnings():
        # The search has told them already.
        warnings.simplefilter("ignore")
        scores = run_shard(problem, data, shard, n_threads=n_threads)
    numbers = {(score.candidate, score.split): score.test_scores for score in scores}
    return [
        _collect(
            keeper.kept,
            [numbers[candidate, split] for split in range(len(data.splits))],
        )
        for candidate in range(len(problem.candidates))
    ]


def _collect(kept: Sequence[NDArray[np.float64]], numbers: Sequence[float]) -> Answers:
    """Return the kept answers of these numbers, with both classes if there are two."""
    chosen = [kept[int(number)] for number in numbers]
    return tuple(
        np.column_stack((1 - answer, answer)) if answer.ndim == 1 else answer
        for answer in chosen
    )
