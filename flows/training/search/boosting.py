"""Method BOOSTING: one LightGBM fit for all values of n_estimators.

The test rows of a split are LightGBM's validation set, so each tree is added to their raw scores.
Every prefix of the fit is scored on the way, without predicting again::

    boost to the smallest n_estimators --> score --> boost to the next --> score --> ...
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from lightgbm import Booster
from numpy.typing import NDArray

from training.search.binning import BinnedFolds
from training.search.lightgbm_parameters import LAYOUTS, PREFIX_PARAMETER, make_params
from training.search.pipeline_steps import steps_of
from training.search.recognition import make_estimator
from training.search.scoring import (
    PrecomputedClassifier,
    rank,
    reads_ranks_only,
    score_split,
)
from training.search.sklearn_internals import take_rows
from training.search.values import (
    Data,
    Emit,
    Floats,
    Method,
    Problem,
    SplitScore,
    Task,
)


def find_classifier(problem: Problem, candidate: int) -> Any:
    """Return the unfitted LGBMClassifier of a candidate, which is given by its position."""
    return steps_of(make_estimator(problem, candidate))[-1]


class BoostingFit:
    """One LightGBM fit on one split.

    Parameters
    ----------
    problem : Problem
        The question.
    data : Data
        Rows and splits.
    task : Task
        Candidates that differ in n_estimators only, and a split.
    folds : BinnedFolds
        Binned rows.
    """

    def __init__(
        self, problem: Problem, data: Data, task: Task, folds: BinnedFolds
    ) -> None:
        self._problem, self._data, self._task = problem, data, task
        classifier = find_classifier(problem, task.shared_fit.candidates[0])
        self._fold, layout = folds.get(task.split, classifier)
        self._params = make_params(classifier, len(self._fold.classes))
        if layout:
            self._params[layout] = True
        self._booster = Booster(dict(self._params), self._fold.train)
        self._booster.add_valid(self._fold.test, "test")
        self._n_trees = 0

    def emit_scores(self, emit: Emit) -> Iterator[None]:
        """Boost, and emit the score of every candidate.

        Parameters
        ----------
        emit : callable
            Gets each `SplitScore`.

        Yields
        ------
        None
            After each value of n_estimators. The fit may end here, or go on later.
        """
        fit_time = 0.0
        for n_estimators, candidates in self._find_ends().items():
            begin = time.perf_counter()
            self._boost_to(n_estimators)
            fitted = time.perf_counter()
            fit_time += fitted - begin
            scores = self._score()
            times = (fit_time, time.perf_counter() - fitted)
            for candidate in candidates:
                emit(self._make_split_score(candidate, scores, times))
            yield

    def _find_ends(self) -> dict[int, list[int]]:
        """Return the candidates by their number of trees, the smallest number first."""
        ends: dict[int, list[int]] = {}
        for candidate in self._task.shared_fit.candidates:
            classifier = find_classifier(self._problem, candidate)
            ends.setdefault(getattr(classifier, PREFIX_PARAMETER), []).append(candidate)
        return dict(sorted(ends.items()))

    def _boost_to(self, n_trees: int) -> None:
        while self._n_trees < n_trees:
            # It goes on when no leaf can be split: with bagging the next tree may split again.
            self._booster.update()
            self._n_trees += 1

    def _score(self) -> Any:
        classifier = PrecomputedClassifier(
            self._fold.classes, self._find_probabilities, self._find_raw_scores
        )
        return score_split(self._problem, self._data, self._task.split, classifier)

    def _make_split_score(
        self, candidate: int, scores: Any, times: tuple[float, float]
    ) -> SplitScore:
        split = self._task.split
        n_test_samples = len(self._data.splits[split][1])
        return SplitScore(
            candidate, split, scores, n_test_samples, *times, Method.BOOSTING
        )

    def _find_probabilities(self) -> Floats:
        """Return the probabilities of the test rows, shape (n_test_rows, n_classes)."""
        values = self._predict() if self._must_predict else self._read_probabilities()
        if len(self._fold.classes) > 2:
            return values
        return np.vstack((1.0 - values, values)).transpose()

    def _find_raw_scores(self) -> Floats:
        """Return the raw scores of the test rows, or their ranks if the scorer uses only ranks.

        LGBMClassifier's decision_function is the raw score (since LightGBM 4.7). Probabilities are
        at hand and rank rows alike, except where they round to the same number. Only those rows
        are predicted again.
        """
        is_binary = len(self._fold.classes) == 2
        if self._must_predict or not (
            is_binary and reads_ranks_only(self._problem.scorer)
        ):
            return self._predict(raw_score=True)
        return rank(
            self._read_probabilities(),
            lambda numbers: self._predict(numbers, raw_score=True),
        )

    @property
    def _must_predict(self) -> bool:
        """Whether the validation scores differ from `predict` in the last bits."""
        is_forest = self._params["boosting_type"] == "rf"
        return is_forest or bool(self._params.get("zero_as_missing"))

    def _read_probabilities(self) -> Floats:
        """Return LightGBM's validation scores: (n_test_rows,), or (n_test_rows, n_classes)."""
        seen: list[Floats] = []

        def read(scores: Floats, _: Any) -> tuple[str, float, bool]:
            seen.append(scores.copy())
            return "none", 0.0, True

        self._booster.eval_valid(read)
        return seen[0]

    def _predict(
        self, numbers: NDArray[np.int64] | None = None, *, raw_score: bool = False
    ) -> Floats:
        """Predict the test rows, or those at some of their positions."""
        rows = self._take_test_rows(numbers)
        params = {
            k: v for k, v in self._params.items() if k not in ("metric", *LAYOUTS)
        }
        return np.asarray(self._booster.predict(rows, raw_score=raw_score, **params))

    def _take_test_rows(self, numbers: NDArray[np.int64] | None) -> Any:
        if self._fold.test_rows is not None:
            rows = self._fold.test_rows
            return rows if numbers is None else take_rows(rows, numbers)
        test = self._data.splits[self._task.split][1]
        return take_rows(self._data.X, test if numbers is None else test[numbers])
