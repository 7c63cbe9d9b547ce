"""Logistic regression: all values of C and all splits together, or each on rows scaled once."""

import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.sparse import issparse
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.class_weight import compute_class_weight
from threadpoolctl import threadpool_limits

from training.search.design import Design, count_training_rows, make_design, map_pieces
from training.search.optimum import (
    Floats,
    Metric,
    Sample,
    SoftmaxSample,
    follow_path,
    minimise_together,
)
from training.search.preparation import read_preparation, steps_of
from training.search.recognition import set_up
from training.search.scoring import Answers, score
from training.search.values import (
    CannotShare,
    Data,
    Emit,
    Method,
    Problem,
    Row,
    Run,
    Split,
    Task,
)

# Largest component of the gradient per unit of weight; scikit-learn's `tol` means the same.
TOLERANCE = 1e-10
# Multiplications for which Newton's method on every model is cheaper than passes that are shared.
MAX_NEWTON_WORK = 4e9
# Columns up to which the rows of the sample are multiplied out; above it the metric is a diagonal.
MAX_METRIC_FEATURES = 500
# The same for the parameters of all classes, whose metric is one matrix.
MAX_METRIC_PARAMETERS = 1000
PILOT_TOLERANCE = 1e-6
MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_FEATURE = 20_000, 60


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What the models of all splits learn.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels.
    codes : ndarray of shape (n_rows,)
        Position of each row's label.
    weights : ndarray of shape (n_rows, n_splits)
        Weight of each row in each split; 0 where it is not trained on.
    """

    classes: NDArray[Any]
    codes: NDArray[np.int64]
    weights: Floats


def make_targets(data: Data, splits: list[Split], class_weight: Any) -> Targets:
    """Weigh rows by split, sample weight and class weight.

    Raises
    ------
    CannotShare
        If a class is missing from the training rows of a split.
    """
    classes, codes = np.unique(np.asarray(data.y), return_inverse=True)
    weights = count_training_rows(len(codes), splits)
    sample_weight = data.sample_weight
    if sample_weight is not None:
        weights *= sample_weight.astype(np.float64)[:, None]
    for split, (train, _) in enumerate(splits):
        if len(np.unique(codes[train])) < len(classes):
            raise CannotShare("a split trains on fewer classes than there are")
        y, base = np.asarray(data.y)[train], None
        if class_weight is not None:
            base = np.ones(len(train))
            if sample_weight is not None:
                base = sample_weight[train].astype(np.float64)
        by_class = compute_class_weight(
            class_weight, classes=classes, y=y, sample_weight=base
        )
        weights[:, split] *= by_class[codes]
    return Targets(classes, codes, weights)


class JointRun:
    """The logistic regressions of a run, for all its values of C and several splits.

    Parameters
    ----------
    problem : Problem
        What is asked.
    data : Data
        Rows and splits.
    run : Run
        Candidates that differ in C only.
    splits : list of int
        Splits.
    n_threads : int
        Threads.
    """

    def __init__(
        self, problem: Problem, data: Data, run: Run, splits: list[int], n_threads: int
    ) -> None:
        self._problem, self._data, self._run = problem, data, run
        self._splits, self._n_threads = splits, n_threads
        self._estimators = [steps_of(set_up(problem, n)) for n in run.candidates]
        # Equal values of C are one model.
        self._Cs, self._position = np.unique(
            [float(steps[-1].C) for steps in self._estimators], return_inverse=True
        )

    def emit_rows(self, emit: Emit) -> None:
        """Solve, and emit a row for every candidate and split."""
        begin = time.perf_counter()
        # Each thread has its own block of rows; threads of the library would get in their way.
        with threadpool_limits(1), ThreadPoolExecutor(self._n_threads) as pool:
            solution = self._solve(pool)
            n_fits = len(self._splits) * len(self._run.candidates)
            fit_time = (time.perf_counter() - begin) / n_fits
            for rows in pool.map(solution.score, range(len(self._splits))):
                for row in rows:
                    emit(Row(fit_time=fit_time, method=Method.JOINT, **row))

    def _solve(self, pool: Executor) -> "_Solution":
        *before, classifier = self._estimators[0]
        splits = [self._data.splits[split] for split in self._splits]
        preparation = read_preparation(before, self._data.X.shape[1])
        design = make_design(self._data.X, splits, preparation, pool)
        targets = make_targets(self._data, splits, classifier.class_weight)
        thetas = Solver(design, targets, splits, self._Cs).solve(pool)
        return _Solution(
            self._problem,
            self._data,
            (self._run, self._splits, self._position),
            design,
            targets,
            thetas,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Solution:
    """Solved models, ready to be scored. thetas: (n_splits, n_C, n_outputs, n_features + 1)."""

    problem: Problem
    data: Data
    places: tuple[Run, list[int], NDArray[np.int64]]
    design: Design
    targets: Targets
    thetas: Floats

    def score(self, number: int) -> list[dict[str, Any]]:
        """Score the models of a split."""
        run, splits, positions = self.places
        split, (n_Cs, n_outputs, _) = splits[number], self.thetas[number].shape
        thetas = self.thetas[number].reshape(n_Cs * n_outputs, -1)
        test = self.data.splits[split][1]
        coef, intercept = self.design.unscale(thetas, np.full(len(thetas), number))
        margins = np.asfortranarray(self.design.take(test) @ coef.T + intercept)
        rows = []
        for candidate, position in zip(run.candidates, positions, strict=True):
            begin = time.perf_counter()
            of_model = slice(position * n_outputs, (position + 1) * n_outputs)
            answers = answer(self.targets.classes, margins[:, of_model])
            scores = score(self.problem, self.data, split, answers)
            row = {"candidate": candidate, "split": split, "test_scores": scores}
            row["score_time"] = time.perf_counter() - begin
            rows.append(row | {"n_test_samples": len(test)})
        return rows


def answer(classes: NDArray[Any], margins: Floats) -> Answers:
    """Return what a logistic regression answers, by its margins, shape (n_rows, n_outputs)."""
    if margins.shape[1] > 1:
        return Answers(classes, lambda: softmax(margins, axis=1), lambda: margins)
    of_second = margins[:, 0]

    def probabilities() -> Floats:
        positive = expit(of_second)
        return np.column_stack((1 - positive, positive))

    return Answers(classes, probabilities, lambda: of_second)


@dataclass(frozen=True, slots=True, eq=False)
class Solver:
    """Finds the optimum of each C on each split. Models are numbered split by split.

    A model has one output for two classes, and one for each of more, as scikit-learn's: their
    margins go through a softmax, and each has coefficients of its own, which are penalised.
    """

    design: Design
    targets: Targets
    splits: list[Split]
    Cs: Floats

    @property
    def n_outputs(self) -> int:
        """Margins of a model."""
        n_classes = len(self.targets.classes)
        return 1 if n_classes == 2 else n_classes

    def solve(self, pool: Executor) -> Floats:
        """Return coefficients, shape (n_splits, n_C, n_outputs, n_features + 1)."""
        n_rows, n_features = self.design.X.shape
        n_models = len(self.splits) * len(self.Cs)
        work = n_rows * (n_features + 1.0) ** 2 * n_models * 4
        if self.n_outputs > 1 or issparse(self.design.X) or work > MAX_NEWTON_WORK:
            return self._solve_together(pool)
        thetas = pool.map(self._solve_split, range(len(self.splits)))
        return np.stack(list(thetas))[:, :, None, :]

    def _solve_split(self, split: int) -> Floats:
        train = np.unique(self.splits[split][0])
        sample = self._make_sample(train, split, self.targets.weights[train, split])
        return follow_path(sample, self.Cs, TOLERANCE / 10)[0]

    def _make_sample(
        self, rows: NDArray[np.int64], split: int, weights: Floats
    ) -> Sample:
        y = self.targets.codes[rows].astype(np.float64)
        return Sample(self.design.scaled(rows, split), y, weights)

    def _solve_together(self, pool: Executor) -> Floats:
        start, metric = self._make_start()
        shape = (len(self.splits), len(self.Cs), self.n_outputs, -1)
        totals = np.repeat(self.targets.weights.sum(axis=0), len(self.Cs))
        points, is_done = minimise_together(
            lambda points, models: self._derive(points, models, pool),
            metric,
            np.tile(start, (len(self.splits), 1)),
            TOLERANCE * totals,
        )
        for _ in np.flatnonzero(~is_done):
            warnings.warn(
                "the joint solver did not reach its tolerance", ConvergenceWarning, 2
            )
        thetas = points.reshape(shape)
        if self.n_outputs > 1:
            # Intercepts that are all raised are the same model; scikit-learn's sum to 0.
            thetas[..., -1] -= thetas[..., -1].mean(axis=2, keepdims=True)
        return thetas

    def _derive(
        self, thetas: Floats, models: NDArray[np.int64], pool: Executor
    ) -> Floats:
        """Return the gradients of models: one pass over the rows for all of them."""
        splits, numbers_of_C = np.divmod(models, len(self.Cs))
        # One column for each output of each model.
        outputs = thetas.reshape(len(models) * self.n_outputs, -1)
        of_split = np.repeat(splits, self.n_outputs)
        coef, intercept = self.design.unscale(outputs, of_split)
        columns = np.ascontiguousarray(coef.T)
        find_residuals = (
            self._residuals if self.n_outputs == 1 else self._residuals_of_many
        )

        def add(blocks: Iterator[slice]) -> tuple[Floats, Floats]:
            gradient, total = np.zeros(columns.shape), np.zeros(len(outputs))
            for block in blocks:
                Z = self.design.take(block)
                residuals = find_residuals(Z @ columns + intercept, block, splits)
                gradient += Z.T @ residuals
                total += residuals.sum(axis=0)
            return gradient, total

        width = (1 if issparse(self.design.X) else len(columns)) + len(outputs)
        parts = map_pieces(self.design.X.shape[0], width, add, pool)
        gradient, total = (sum(part[i] for part in parts) for i in (0, 1))
        result = self.design.rescale(gradient.T, total, of_split)
        strength = np.repeat(1 / self.Cs[numbers_of_C], self.n_outputs)
        result[:, :-1] += outputs[:, :-1] * strength[:, None]
        return result.reshape(thetas.shape)

    def _residuals_of_many(
        self, margins: Floats, block: slice, splits: NDArray[np.int64]
    ) -> Floats:
        """Return weighted residuals of a softmax, in place of the margins."""
        chances = margins.reshape(len(margins), len(splits), self.n_outputs)
        chances -= chances.max(axis=2, keepdims=True)
        np.exp(chances, out=chances)
        chances /= chances.sum(axis=2, keepdims=True)
        chances[np.arange(len(chances)), :, self.targets.codes[block]] -= 1
        chances *= self.targets.weights[block][:, splits, None]
        return chances.reshape(margins.shape)

    def _residuals(
        self, margins: Floats, block: slice, splits: NDArray[np.int64]
    ) -> Floats:
        """Return weighted residuals, in place of the margins."""
        # numpy's exp is several times faster than scipy's expit; exp(big) is inf, and 1/inf 0.
        with np.errstate(over="ignore"):
            np.negative(margins, out=margins)
            np.exp(margins, out=margins)
        margins += 1
        np.reciprocal(margins, out=margins)
        margins -= self.targets.codes[block, None]
        margins *= self.targets.weights[block][:, splits]
        return margins

    def _make_start(self) -> tuple[Floats, Metric]:
        """Return where each C begins, and the metric of each, which the splits share."""
        n_features = self.design.X.shape[1]
        n_parameters = self.n_outputs * (n_features + 1)
        if n_features > MAX_METRIC_FEATURES or n_parameters > MAX_METRIC_PARAMETERS:
            return np.zeros((len(self.Cs), n_parameters)), self._diagonal_metric()
        drawn = self._draw_sample()
        sample: Sample | SoftmaxSample = drawn
        if self.n_outputs > 1:
            Y = (drawn.y[:, None] == np.arange(self.n_outputs)).astype(np.float64)
            sample = SoftmaxSample(drawn.Z, Y, drawn.weights)
        thetas, factors = follow_path(sample, self.Cs, PILOT_TOLERANCE)
        return thetas, partial(_apply_factors, factors)

    def _draw_sample(self) -> Sample:
        """Return rows of the first split that stand for all of them, in number and weight."""
        n_features = self.design.X.shape[1]
        train = np.unique(self.splits[0][0])
        n = max(MIN_SAMPLE_ROWS, SAMPLE_ROWS_PER_FEATURE * n_features)
        if len(train) > n:
            train = np.sort(np.random.default_rng(0).choice(train, n, replace=False))
        weights = self.targets.weights[train, 0]
        share = self.targets.weights.sum(axis=0).mean() / weights.sum()
        return self._make_sample(train, 0, weights * share)

    def _diagonal_metric(self) -> Metric:
        """Return a metric as if columns were independent, with a mean square of 1."""
        by_class = np.bincount(
            self.targets.codes, weights=self.targets.weights.sum(axis=1)
        )
        share = by_class[-self.n_outputs :] / by_class.sum()
        curvature = share * (1 - share) * self.targets.weights.sum(axis=0).mean()
        shape = (len(self.Cs), self.n_outputs, self.design.X.shape[1] + 1)
        diagonal = np.broadcast_to(curvature[:, None], shape).copy()
        diagonal[..., :-1] += 1 / self.Cs[:, None, None]
        diagonal = diagonal.reshape(len(self.Cs), -1)
        return lambda vectors, models: vectors / diagonal[models % len(diagonal)]


def _apply_factors(
    factors: list[Any], vectors: Floats, models: NDArray[np.int64]
) -> Floats:
    result = np.empty_like(vectors)
    for number, factor in enumerate(factors):
        chosen = models % len(factors) == number
        result[chosen] = cho_solve(factor, vectors[chosen].T, check_finite=False).T
    return result


def emit_shared_rows(problem: Problem, data: Data, task: Task, emit: Emit) -> None:
    """Fit candidates by scikit-learn's own solver, on rows of a split that are scaled once."""
    train, test = data.splits[task.split]
    y = np.asarray(data.y)
    steps = [steps_of(set_up(problem, number)) for number in task.run.candidates]
    *before, _ = steps[0]
    # To the last bit what a pipeline does with the same steps.
    preprocess = make_pipeline(*map(clone, before), "passthrough")
    Z = preprocess.fit_transform(_safe_indexing(data.X, train), y[train])
    Z_test = preprocess.transform(_safe_indexing(data.X, test))
    weights = data.sample_weight
    weights = None if weights is None else weights[train]
    for candidate, (*_, classifier) in zip(task.run.candidates, steps, strict=True):
        begin = time.perf_counter()
        classifier.fit(Z, y[train], weights)
        fitted = time.perf_counter()
        scores = score(problem, data, task.split, _as_answers(classifier, Z_test))
        times = (fitted - begin, time.perf_counter() - fitted)
        emit(Row(candidate, task.split, scores, len(test), *times, Method.SHARED_ROWS))


def _as_answers(classifier: Any, Z: Any) -> Answers:
    return Answers(
        classifier.classes_,
        lambda: np.asarray(classifier.predict_proba(Z)),
        lambda: np.asarray(classifier.decision_function(Z)),
    )
