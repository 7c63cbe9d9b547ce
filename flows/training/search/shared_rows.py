"""Method SHARED_ROWS: scikit-learn's own solver, on rows of a split that are scaled once."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from training.search.pipeline_steps import steps_of
from training.search.recognition import make_estimator
from training.search.scoring import PrecomputedClassifier, score_split
from training.search.sklearn_internals import take_rows
from training.search.values import Data, Emit, Method, Problem, SplitScore, Task


def emit_shared_rows(
    problem: Problem, data: Data, task: Task, emit: Emit
) -> Iterator[None]:
    """Fit and score the candidates of a task, one after the other.

    Parameters
    ----------
    problem : Problem
        The question.
    data : Data
        Rows and splits.
    task : Task
        Logistic regressions behind the same steps, and a split.
    emit : callable
        Gets each `SplitScore`.

    Yields
    ------
    None
        After each candidate. The task may end here, or go on later.
    """
    train, test = data.splits[task.split]
    y = np.asarray(data.y)
    candidates = task.shared_fit.candidates
    steps = [steps_of(make_estimator(problem, number)) for number in candidates]
    *before, _ = steps[0]
    # A pipeline with the same steps gives the same bits.
    preprocess = make_pipeline(*map(clone, before), "passthrough")
    Z = preprocess.fit_transform(take_rows(data.X, train), y[train])
    Z_test = preprocess.transform(take_rows(data.X, test))
    weights = data.sample_weight
    weights = None if weights is None else weights[train]
    for candidate, (*_, classifier) in zip(candidates, steps, strict=True):
        begin = time.perf_counter()
        classifier.fit(Z, y[train], weights)
        fitted = time.perf_counter()
        scores = score_split(problem, data, task.split, _defer(classifier, Z_test))
        times = (fitted - begin, time.perf_counter() - fitted)
        emit(
            SplitScore(
                candidate, task.split, scores, len(test), *times, Method.SHARED_ROWS
            )
        )
        yield


def _defer(classifier: Any, Z: Any) -> PrecomputedClassifier:
    """Return a classifier that predicts the rows Z when a scorer asks for it."""
    return PrecomputedClassifier(
        classifier.classes_,
        lambda: np.asarray(classifier.predict_proba(Z)),
        lambda: np.asarray(classifier.decision_function(Z)),
    )
