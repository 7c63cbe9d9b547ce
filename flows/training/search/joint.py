"""Method JOINT: the logistic regressions of all values of C and several splits, together.

::

    X --make_design--> Design ---+
    y --make_targets-> Targets --+--> JointSolver --> raw scores of test rows --> SplitScores
"""

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from threadpoolctl import threadpool_limits

from training.search.design import Design
from training.search.design_learning import make_design
from training.search.joint_solver import JointSolver
from training.search.pipeline_steps import read_preprocessing, steps_of
from training.search.recognition import make_estimator
from training.search.scoring import PrecomputedClassifier, score_split
from training.search.targets import make_targets
from training.search.values import (
    Data,
    Emit,
    Floats,
    Method,
    Problem,
    SharedFit,
    SplitScore,
)


class JointFit:
    """The logistic regressions of a shared fit on several splits.

    Parameters
    ----------
    problem : Problem
        The question.
    data : Data
        Rows and splits.
    shared_fit : SharedFit
        Candidates that differ in C only.
    splits : list of int
        Positions of the splits.
    n_threads : int
        Number of threads.
    """

    def __init__(
        self,
        problem: Problem,
        data: Data,
        shared_fit: SharedFit,
        splits: list[int],
        n_threads: int,
    ) -> None:
        self._problem, self._data, self._shared_fit = problem, data, shared_fit
        self._splits, self._n_threads = splits, n_threads
        pipelines = [make_estimator(problem, n) for n in shared_fit.candidates]
        self._steps = [steps_of(pipeline) for pipeline in pipelines]

    def emit_scores(self, emit: Emit) -> None:
        """Solve, and emit the score of every candidate on every split.

        Parameters
        ----------
        emit : callable
            Gets each `SplitScore`.

        Raises
        ------
        CannotShare
            If the rows rule out a joint solution.
        """
        begin = time.perf_counter()
        # Each thread has its own block of rows; BLAS's own threads would compete with them.
        with threadpool_limits(1), ThreadPoolExecutor(self._n_threads) as pool:
            models = self._solve(pool)
            n_fits = len(self._splits) * len(self._shared_fit.candidates)
            fit_time = (time.perf_counter() - begin) / n_fits
            score = partial(self._score, models, fit_time)
            for split_scores in pool.map(score, range(len(self._splits))):
                for split_score in split_scores:
                    emit(split_score)

    def _solve(self, pool: Executor) -> "_Models":
        *before, classifier = self._steps[0]
        splits = [self._data.splits[split] for split in self._splits]
        preprocessing = read_preprocessing(before, self._data.X.shape[1])
        design = make_design(self._data.X, splits, preprocessing, pool)
        targets = make_targets(self._data, splits, classifier.class_weight)
        # Candidates with equal C are one model.
        Cs, model_numbers = np.unique(
            [float(steps[-1].C) for steps in self._steps], return_inverse=True
        )
        limits = self._problem.solver_limits
        thetas = JointSolver(design, targets, splits, Cs, limits).solve(pool)
        return _Models(design, targets.classes, thetas, model_numbers)

    def _score(
        self, models: "_Models", fit_time: float, number: int
    ) -> list[SplitScore]:
        """Score the candidates on one of the fit's splits."""
        split = self._splits[number]
        test = self._data.splits[split][1]
        raw_scores = models.find_raw_scores(test, number)
        split_scores = []
        for candidate, of_model in zip(
            self._shared_fit.candidates, models.model_numbers, strict=True
        ):
            begin = time.perf_counter()
            classifier = _precompute(models.classes, raw_scores[of_model])
            scores = score_split(self._problem, self._data, split, classifier)
            times = (fit_time, time.perf_counter() - begin)
            split_scores.append(
                SplitScore(candidate, split, scores, len(test), *times, Method.JOINT)
            )
        return split_scores


@dataclass(frozen=True, slots=True, eq=False)
class _Models:
    """Solved models.

    Parameters
    ----------
    design : Design
        Scaled rows.
    classes : ndarray of shape (n_classes,)
        Class labels.
    thetas : ndarray of float64, shape (n_splits, n_models, n_raw_scores, n_features + 1)
        Coefficients of scaled rows.
    model_numbers : ndarray of int64, shape (n_candidates,)
        Position of each candidate's model.
    """

    design: Design
    classes: NDArray[Any]
    thetas: Floats
    model_numbers: NDArray[np.int64]

    def find_raw_scores(self, rows: NDArray[np.int64], number: int) -> list[Floats]:
        """Return the raw scores of each model of a split, shape (n_taken, n_raw_scores) each."""
        n_models, n_raw_scores, _ = self.thetas[number].shape
        vectors = self.thetas[number].reshape(n_models * n_raw_scores, -1)
        coef, intercept = self.design.unscale(vectors, np.full(len(vectors), number))
        raw_scores = np.asfortranarray(self.design.take(rows) @ coef.T + intercept)
        return [
            raw_scores[:, model * n_raw_scores : (model + 1) * n_raw_scores]
            for model in range(n_models)
        ]


def _precompute(classes: NDArray[Any], raw_scores: Floats) -> PrecomputedClassifier:
    """Return a logistic regression with raw scores of shape (n_test_rows, n_raw_scores)."""
    if raw_scores.shape[1] > 1:
        return PrecomputedClassifier(
            classes, lambda: softmax(raw_scores, axis=1), lambda: raw_scores
        )
    of_second = raw_scores[:, 0]

    def find_probabilities() -> Floats:
        positive = expit(of_second)
        return np.column_stack((1 - positive, positive))

    return PrecomputedClassifier(classes, find_probabilities, lambda: of_second)
