"""Scores of resampled rows, for many resamples at once.

A resample is a row of weights: how often each row was drawn. What scikit-learn computes with
`sample_weight`, each class here computes for all resamples together:

    mean of row scores    log loss, accuracy, Brier score     one matrix product
    ranking               ROC AUC, average precision          rows sorted once, then sums
    counts of labels      all other scores of labels          scikit-learn on the table of counts
    anything else                                             scikit-learn on each resample
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from training.registry.answers import Answers, Judge

Floats = NDArray[np.float64]
LOG_LOSS = "neg_log_loss"


class ResampledScore(ABC):
    """A score as a function of the rows' weights."""

    @abstractmethod
    def score(self, weights: Floats) -> Floats:
        """Return the score of each resample; larger is better.

        Parameters
        ----------
        weights : ndarray of float64, shape (n_resamples, n_rows)
            How often each row was drawn.

        Returns
        -------
        ndarray of float64, shape (n_resamples,)
            NaN where a resample has no score, because it lacks a class.
        """


def make_resampled(
    scoring: str, y: NDArray[np.int64], answers: Answers
) -> ResampledScore:
    """Return the fastest way to a score.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer.
    y : ndarray of int64, shape (n_rows,)
        True codes.
    answers : Answers
        Answers of the model.

    Returns
    -------
    ResampledScore
        The score.
    """
    if scoring == LOG_LOSS:
        return MeanScore(score_log_loss(y, answers.probabilities))
    if scoring == "accuracy":
        return MeanScore((answers.codes == y).astype(np.float64))
    if scoring == "neg_brier_score":
        return MeanScore(score_brier(y, answers.probabilities))
    if scoring in ("roc_auc", "roc_auc_ovr", "average_precision"):
        rankings = _rank_classes(y, answers.probabilities)
        return RankingScore(rankings, scoring == "average_precision")
    if scoring == "roc_auc_ovo" and answers.probabilities.shape[1] > 2:
        return RankingScore(_rank_pairs(y, answers.probabilities), False)
    judge = Judge(scoring, y, answers)
    return LabelScore(judge) if judge.counts_labels() else AnyScore(judge)


def score_log_loss(y: NDArray[np.int64], probabilities: Floats) -> Floats:
    """Return the logarithm of each label's probability, clipped as scikit-learn does."""
    eps = np.finfo(np.float64).eps
    of_label = probabilities[np.arange(len(y)), y]
    return np.asarray(np.log(np.clip(of_label, eps, 1 - eps)))


def score_brier(y: NDArray[np.int64], probabilities: Floats) -> Floats:
    """Return minus the squared error of each row, halved for two classes as scikit-learn does."""
    n_classes = probabilities.shape[1]
    errors = ((probabilities - np.eye(n_classes)[y]) ** 2).sum(axis=1)
    return np.asarray(-errors / (2 if n_classes == 2 else 1))


class MeanScore(ResampledScore):
    """A mean over rows.

    Parameters
    ----------
    values : ndarray of float64, shape (n_rows,)
        What each row adds.
    """

    def __init__(self, values: Floats) -> None:
        self._values = values

    def score(self, weights: Floats) -> Floats:
        """As in the base class."""
        return np.asarray(weights @ self._values / weights.sum(axis=1))


class RankingScore(ResampledScore):
    """The mean ROC AUC or average precision of some rankings.

    Parameters
    ----------
    rankings : sequence of _Ranking
        The rankings.
    is_precision : bool
        Whether it is the average precision.
    """

    def __init__(self, rankings: "Sequence[_Ranking]", is_precision: bool) -> None:
        self._rankings = rankings
        self._is_precision = is_precision

    def score(self, weights: Floats) -> Floats:
        """As in the base class."""
        scores = [
            ranking.precise(weights) if self._is_precision else ranking.area(weights)
            for ranking in self._rankings
        ]
        return np.asarray(np.mean(scores, axis=0))


class _Ranking:
    """Rows sorted by one class's probability, the highest first; equal ones count as one step.

    All that resamples share is found here once: where each row stands among the others.
    """

    def __init__(
        self,
        values: Floats,
        is_class: NDArray[np.bool_],
        is_rest: NDArray[np.bool_] | None = None,
    ) -> None:
        order = np.argsort(-values, kind="stable")
        is_rest = ~is_class if is_rest is None else is_rest
        self._hits, self._misses = order[is_class[order]], order[is_rest[order]]
        # A sum over rows needs no order, and rows in their own order are read faster.
        self._others = np.flatnonzero(is_rest)
        hits, misses = -values[self._hits], -values[self._misses]
        others = -values[self._others]
        self._above = np.searchsorted(hits, others, side="left")
        self._not_below = np.searchsorted(hits, others, side="right")
        self._hits_so_far = np.searchsorted(hits, hits, side="right")
        self._misses_so_far = np.searchsorted(misses, hits, side="right")
        self._has_ties = not np.array_equal(self._above, self._not_below)

    def area(self, weights: Floats) -> Floats:
        """Return the area under the ROC curve: the share of pairs in order, ties being half."""
        sums = _sum_first(weights[:, self._hits])
        others = weights[:, self._others]
        pairs = np.einsum("ij,ij->i", others, sums[:, self._above])
        if self._has_ties:
            ties = np.einsum("ij,ij->i", others, sums[:, self._not_below])
            pairs = (pairs + ties) / 2
        return _divide(pairs, sums[:, -1] * others.sum(axis=1))

    def precise(self, weights: Floats) -> Floats:
        """Return the average precision: the mean over the class of the precision at its rows."""
        hits = weights[:, self._hits]
        sums = _sum_first(hits)
        right = sums[:, self._hits_so_far]
        wrong = _sum_first(weights[:, self._misses])[:, self._misses_so_far]
        # A row above which nothing was drawn was not drawn itself.
        precision = right / np.maximum(right + wrong, 1.0)
        return _divide(np.einsum("ij,ij->i", hits, precision), sums[:, -1])


def _rank_classes(y: NDArray[np.int64], probabilities: Floats) -> list[_Ranking]:
    """Rank each class against the rest; of two, the second alone."""
    n_classes = probabilities.shape[1]
    codes = (1,) if n_classes == 2 else range(n_classes)
    return [_Ranking(probabilities[:, code], y == code) for code in codes]


def _rank_pairs(y: NDArray[np.int64], probabilities: Floats) -> list[_Ranking]:
    """Rank each class against each other class, among the rows of both."""
    return [
        _Ranking(probabilities[:, one], y == one, y == other)
        for one, other in permutations(range(probabilities.shape[1]), 2)
    ]


def _sum_first(values: Floats) -> Floats:
    """Return the sums of the first columns: of none, of one, and so on to all."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _divide(values: Floats, by: Floats) -> Floats:
    """Return the quotients, NaN where a resample lacks a class."""
    unknown = np.full(len(values), np.nan)
    return np.asarray(np.divide(values, by, out=unknown, where=by > 0))


class LabelScore(ResampledScore):
    """A score of predicted labels, which knows rows by their true and predicted label only.

    Parameters
    ----------
    judge : Judge
        The scorer and the answers.
    """

    def __init__(self, judge: Judge) -> None:
        n_classes = judge.answers.probabilities.shape[1]
        cells = judge.y * n_classes + judge.answers.codes
        _, self._firsts, self._cells = np.unique(
            cells, return_index=True, return_inverse=True
        )
        self._judge = judge

    def score(self, weights: Floats) -> Floats:
        """As in the base class."""
        counts = [self._count(one) for one in weights]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.array([self._score_counts(one) for one in counts])

    def _count(self, weights: Floats) -> Floats:
        counts = np.bincount(self._cells, weights, len(self._firsts))
        return counts.astype(np.float64)

    def _score_counts(self, counts: Floats) -> float:
        # What was not drawn is not there: some scores would count its class.
        drawn = counts > 0
        return self._judge.score(self._firsts[drawn], counts[drawn])


class AnyScore(ResampledScore):
    """Any other score, by a call of scikit-learn for each resample.

    Parameters
    ----------
    judge : Judge
        The scorer and the answers.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge

    def score(self, weights: Floats) -> Floats:
        """As in the base class."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.array([self._score_drawn(one) for one in weights])

    def _score_drawn(self, weights: Floats) -> float:
        rows = np.repeat(np.arange(len(weights)), weights.astype(np.int64))
        try:
            return self._judge.score(rows)
        except ValueError:
            # A class is lacking.
            return float("nan")
