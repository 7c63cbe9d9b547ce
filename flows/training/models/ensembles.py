"""Chooses an ensemble: candidates whose mean answers the folds better than the best one alone.

    the best candidates of each family ──▶ their answers on the folds ──▶ greedy choice ──▶ Winner

The choice is forward selection with replacement (Caruana, Niculescu-Mizil, Crew and Ksikes,
"Ensemble Selection from Libraries of Models", ICML 2004). It begins with the best candidate. Each
round adds the candidate that makes the mean best, which may be in it already.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import get_scorer

from training.data.rows import Rows
from training.data.schema import Schema
from training.data.splitting import Folds, make_folds
from training.errors import SearchError
from training.models.evaluation import are_probabilities
from training.models.families import FAMILIES
from training.models.family_search import FamilySearch, count_fits_at_once
from training.models.out_of_fold import Answers, predict_folds
from training.models.search_values import SearchResult, SearchSettings
from training.models.winner import Member, Winner, make_single
from training.search.scoring import PrecomputedClassifier

OFF = 0
# More members would make the slowest of answers, and gain nothing.
ROUNDS = range(2, 51)
# Candidates of a family that may become members.
MAX_CANDIDATES = 20
# Of the answers of all candidates.
MAX_BYTES = 2**30

Judge = Callable[[Sequence[NDArray[np.float64]]], float]
Report = Callable[[str], None]


def check_ensemble(n_rounds: int) -> None:
    """Raise SearchError if `n_rounds` is no value of --ensemble."""
    if n_rounds != OFF and n_rounds not in ROUNDS:
        raise SearchError(
            f"--ensemble is {n_rounds}; it has to be {OFF} (one model) or in "
            f"[{ROUNDS.start}, {ROUNDS.stop - 1}]"
        )


@dataclass(frozen=True, slots=True)
class EnsembleSearch:
    """The choice of an ensemble from the results of the searches.

    Parameters
    ----------
    schema : Schema
        Columns and classes.
    settings : SearchSettings
        Folds and scoring of the searches.
    n_rounds : int
        Rounds of the choice, [2, 50]; the largest number of members.
    """

    schema: Schema
    settings: SearchSettings
    n_rounds: int

    def run(
        self,
        best: SearchResult,
        results: Mapping[str, SearchResult],
        rows: Rows,
        *,
        report: Report = print,
    ) -> Winner:
        """Choose the members.

        Parameters
        ----------
        best : SearchResult
            The search with the best candidate, where the choice begins.
        results : mapping of str to SearchResult
            Results of the searches that ended well, by family.
        rows : Rows
            Rows that the searches have learned from.
        report : callable, default=print
            Receives lines for the user.

        Returns
        -------
        Winner
            Several members if their mean has a better score than the best candidate; else that
            candidate.
        """
        folds = self._make_folds(rows)
        n_most = self._count(folds)
        found: list[Member] = []
        answers: list[Answers] = []
        for family in self._order(best.family, results):
            members = self._list_members(results[family], n_most)
            report(
                f"Ensemble: the best {len(members)} candidates of "
                f"{FAMILIES[family].display_name} are fitted again on {len(folds)} folds"
            )
            for member, answer in self._predict(family, members, rows):
                found.append(member)
                answers.append(answer)
        if not found or found[0].params != best.best_params:
            # Its answers are no probabilities, which its final fit tells.
            return make_single(best)
        judge = make_judge(self.settings.scoring, rows.y, folds)
        picks, score, alone = choose_greedily(answers, judge, self.n_rounds)
        return self._make_winner(best, found, picks, score, alone)

    def _make_folds(self, rows: Rows) -> Folds:
        settings = self.settings
        return make_folds(rows, settings.n_folds, settings.seed, settings.splitting)

    @staticmethod
    def _order(first: str, results: Mapping[str, SearchResult]) -> list[str]:
        return [first, *(f for f in FAMILIES if f in results and f != first)]

    def _count(self, folds: Folds) -> int:
        """Return how many candidates of a family there may be."""
        n_rows = sum(len(test) for _, test in folds)
        n_bytes = n_rows * len(self.schema.class_labels) * np.dtype(np.float64).itemsize
        return min(MAX_CANDIDATES, max(1, MAX_BYTES // (len(FAMILIES) * n_bytes)))

    @staticmethod
    def _list_members(result: SearchResult, n_most: int) -> list[Member]:
        """Return the best candidates of a search, the best one of the search first."""
        scores = np.asarray(result.cv_results["mean_test_score"], dtype=np.float64)
        order = np.argsort(-scores, kind="stable")
        others = [i for i in order if np.isfinite(scores[i]) and i != result.best_index]
        return [
            Member(result.family, result.cv_results["params"][i], float(scores[i]))
            for i in [result.best_index, *others][:n_most]
        ]

    def _predict(
        self, family: str, members: Sequence[Member], rows: Rows
    ) -> list[tuple[Member, Answers]]:
        """Return the members with their answers, without those that give no probabilities."""
        # A grid of one value each is one candidate.
        grid = [{name: [value] for name, value in m.params.items()} for m in members]
        search = FamilySearch(FAMILIES[family], self.schema, grid, self.settings)
        n_threads = count_fits_at_once(rows.X.data.nbytes, 1)
        answers = predict_folds(search, rows, n_threads=n_threads)
        return [
            (member, answer)
            for member, answer in zip(members, answers, strict=True)
            if all(map(are_probabilities, answer))
        ]

    def _make_winner(
        self,
        best: SearchResult,
        found: Sequence[Member],
        picks: Sequence[int],
        score: float,
        alone: float,
    ) -> Winner:
        scoring, asked = self.settings.scoring, f"--ensemble {self.n_rounds}"
        counts = Counter(picks)
        if len(counts) == 1:
            return make_single(
                best,
                f"No ensemble ({asked}): no mean of {len(found)} candidates has a better "
                f"{scoring} on the folds than the best candidate alone",
            )
        members = tuple(
            Member(found[i].family, found[i].params, found[i].score, count)
            for i, count in counts.items()
        )
        return Winner(
            members,
            score,
            f"An ensemble of {len(members)} of {len(found)} candidates ({asked}): {scoring} "
            f"{score:.6g} on the folds; the best candidate alone has {alone:.6g}",
        )


def choose_greedily(
    answers: Sequence[Answers], judge: Judge, n_rounds: int
) -> tuple[tuple[int, ...], float, float]:
    """Choose candidates whose mean is best, one a round.

    Parameters
    ----------
    answers : sequence of tuple of ndarray
        Answers of each candidate on the folds. The first candidate is the best alone.
    judge : callable
        Returns the score of answers; larger is better.
    n_rounds : int
        Rounds, the first of which takes the first candidate.

    Returns
    -------
    picks : tuple of int
        Positions of the chosen candidates, one for each round up to the best mean; of equal means
        the shortest.
    score : float
        Score of their mean.
    alone : float
        Score of the first candidate.
    """
    picks, total = [0], list(answers[0])
    score = alone = judge(answers[0])
    best: tuple[int, ...] = (0,)
    for size in range(2, n_rounds + 1):
        trials = [
            judge([(t + a) / size for t, a in zip(total, candidate, strict=True)])
            for candidate in answers
        ]
        # NaN is never the best.
        picks.append(int(np.argmax(np.nan_to_num(trials, nan=-np.inf))))
        total = [t + a for t, a in zip(total, answers[picks[-1]], strict=True)]
        if trials[picks[-1]] > score:
            score, best = trials[picks[-1]], tuple(picks)
    return best, score, alone


def make_judge(scoring: str, y: NDArray[np.int64], folds: Folds) -> Judge:
    """Return the mean score of answers over the folds, as the searches compute it.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer.
    y : ndarray of int64, shape (n_rows,)
        Codes of the labels.
    folds : tuple of (train, test)
        Folds of the rows.

    Returns
    -------
    callable
        Takes the answers for the test rows of each fold.
    """
    scorer, classes = get_scorer(scoring), np.unique(y)

    def judge(answers: Sequence[NDArray[np.float64]]) -> float:
        scores = []
        for probabilities, (_, test) in zip(answers, folds, strict=True):
            classifier = _Answered(classes, probabilities).as_classifier()
            # Positions stand for the rows: the classifier ignores them.
            scores.append(scorer(classifier, test.reshape(-1, 1), y[test]))
        return float(np.mean(scores))

    return judge


@dataclass(frozen=True, slots=True, eq=False)
class _Answered:
    """Probabilities, float64, shape (n_rows, n_classes), of `classes`."""

    classes: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    def as_classifier(self) -> PrecomputedClassifier:
        """Return a classifier that gives them."""
        return PrecomputedClassifier(
            self.classes, self._find_probabilities, self._find_raw_scores
        )

    def _find_probabilities(self) -> NDArray[np.float64]:
        return self.probabilities

    def _find_raw_scores(self) -> NDArray[np.float64]:
        is_binary = len(self.classes) == 2
        return self.probabilities[:, 1] if is_binary else self.probabilities
