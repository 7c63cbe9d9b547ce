"""LightGBM: one boosting run for all values of n_estimators, on rows binned once per split.

The test rows of a split are LightGBM's validation set, so their scores grow with each tree and
every prefix of a run is scored without predicting anything again.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import _safe_indexing
from sklearn.utils.class_weight import compute_sample_weight

from training.search.preparation import steps_of
from training.search.recognition import (
    CATEGORICAL,
    PREFIX_PARAMETER,
    WITHOUT_EFFECT,
    leaves,
    set_up,
)
from training.search.scoring import Answers, Floats, rank, reads_ranks_only, score
from training.search.values import Data, Emit, Method, Problem, Row, ShouldStop, Task

# What decides how rows are binned, or what is kept beside them: runs that differ in one of these
# have a Dataset each.
DATASET_PARAMETERS = (
    *("max_bin", "min_data_in_bin", "subsample_for_bin", "bin_construct_sample_cnt"),
    *("min_child_samples", "feature_pre_filter", "random_state", "data_random_seed"),
    *("enable_bundle", "is_enable_sparse", "use_missing", "zero_as_missing"),
    *CATEGORICAL,
    "class_weight",
)
LAYOUTS = ("force_col_wise", "force_row_wise")
# Trees that a layout is timed on, after one that warms up.
N_PROBED_TREES = 2


@dataclass(slots=True, eq=False)
class Fold:
    """The rows of one split, binned.

    Parameters
    ----------
    train, test : lightgbm.Dataset
        Constructed; the rows themselves are not kept.
    classes : ndarray of shape (n_classes,)
        Labels in the training rows.
    """

    train: Any
    test: Any
    classes: NDArray[Any]


@dataclass(slots=True, eq=False)
class Folds:
    """Binned rows by split: made when first asked for, let go after the last run that needs them.

    `binning` is held while rows are binned, so that never more than one copy of a split's rows
    exists; who finds them binned does not take it. `counting` guards the numbers of runs.
    """

    data: Data
    n_runs: Counter[int]
    binning: Any = field(default_factory=threading.Lock)
    counting: Any = field(default_factory=threading.Lock)
    _folds: dict[tuple[int, str], Fold] = field(default_factory=dict)
    _layouts: dict[str, str] = field(default_factory=dict)

    def get(self, split: int, classifier: Any) -> tuple[Fold, str]:
        """Return the binned rows for a classifier, and the faster layout of its histograms.

        The layout is empty if the classifier says it.
        """
        params = classifier.get_params()
        key = repr([(name, params.get(name)) for name in DATASET_PARAMETERS])
        fold = self._folds.get((split, key)) or self._bin(split, key, classifier)
        if any(params.get(layout) for layout in LAYOUTS):
            return fold, ""
        return fold, self._layouts.get(key) or self._probe(key, fold, classifier)

    def release(self, split: int) -> None:
        """Take note that a run of a split is over."""
        with self.counting:
            self.n_runs[split] -= 1
            if not self.n_runs[split]:
                for key in [key for key in list(self._folds) if key[0] == split]:
                    del self._folds[key]

    def _bin(self, split: int, key: str, classifier: Any) -> Fold:
        with self.binning:
            if (split, key) not in self._folds:
                self._folds[split, key] = bin_rows(self.data, split, classifier)
            return self._folds[split, key]

    def _probe(self, key: str, fold: Fold, classifier: Any) -> str:
        with self.binning:
            if key not in self._layouts:
                self._layouts[key] = probe_layout(fold, classifier)
            return self._layouts[key]


def find_classifier(problem: Problem, candidate: int) -> Any:
    """Return the LGBMClassifier of a candidate."""
    return steps_of(set_up(problem, candidate))[-1]


def make_params(classifier: Any, n_classes: int) -> dict[str, Any]:
    """Return the parameters that LGBMClassifier hands to LightGBM, for one thread and no metric."""
    params = {
        name: value
        for name, value in classifier.get_params().items()
        if value is not None and name not in {*WITHOUT_EFFECT, "class_weight"}
    }
    default = "binary" if n_classes <= 2 else "multiclass"
    params.setdefault("objective", default)
    if n_classes > 2:
        params["num_class"] = n_classes
    return params | {
        "num_leaves": leaves(classifier),
        "metric": "None",
        "num_threads": 1,
    }


def bin_rows(data: Data, split: int, classifier: Any) -> Fold:
    """Bin the rows of a split."""
    from lightgbm import Dataset

    train, test = data.splits[split]
    y = np.asarray(data.y)
    encoder = LabelEncoder().fit(y[train])
    codes = encoder.transform(y[train])
    params = make_params(classifier, len(encoder.classes_))
    weight = _weigh(data, train, codes, classifier.class_weight, encoder)
    binned = Dataset(
        _safe_indexing(data.X, train), codes, weight=weight, params=params
    ).construct()
    # The labels of the test rows are not LightGBM's business.
    test_rows = Dataset(_safe_indexing(data.X, test), reference=binned, params=params)
    return Fold(binned, test_rows.construct(), encoder.classes_)


def _weigh(
    data: Data,
    train: NDArray[np.int64],
    codes: NDArray[np.int64],
    class_weight: Any,
    encoder: LabelEncoder,
) -> Floats | None:
    given = data.sample_weight
    weight = None if given is None else given[train]
    if class_weight is None:
        return weight
    if isinstance(class_weight, Mapping):
        code_by_label = {label: code for code, label in enumerate(encoder.classes_)}
        class_weight = {code_by_label[key]: class_weight[key] for key in class_weight}
    by_class: Floats = compute_sample_weight(class_weight, codes)
    return by_class if weight is None else np.multiply(weight, by_class)


def probe_layout(fold: Fold, classifier: Any) -> str:
    """Return the layout of histograms that is faster on these rows.

    With one thread both add the same numbers in the same order. LightGBM would time them again for
    every run.
    """
    return min(LAYOUTS, key=lambda layout: _time_layout(fold, classifier, layout))


def _time_layout(fold: Fold, classifier: Any, layout: str) -> float:
    from lightgbm import Booster

    params = make_params(classifier, len(fold.classes))
    booster = Booster(params | {layout: True}, fold.train)
    booster.update()
    begin = time.perf_counter()
    for _ in range(N_PROBED_TREES):
        booster.update()
    return time.perf_counter() - begin


class BoostingRun:
    """One boosting run on one split, scored wherever a candidate ends.

    Parameters
    ----------
    problem : Problem
        What is asked.
    data : Data
        Rows and splits.
    task : Task
        The run and its split.
    folds : Folds
        Binned rows.
    """

    def __init__(self, problem: Problem, data: Data, task: Task, folds: Folds) -> None:
        from lightgbm import Booster

        self._problem, self._data, self._task = problem, data, task
        classifier = find_classifier(problem, task.run.candidates[0])
        self._fold, layout = folds.get(task.split, classifier)
        self._params = make_params(classifier, len(self._fold.classes))
        if layout:
            self._params[layout] = True
        self._booster = Booster(dict(self._params), self._fold.train)
        self._booster.add_valid(self._fold.test, "test")
        self._n_trees = 0

    def emit_rows(self, emit: Emit, should_stop: ShouldStop) -> None:
        """Boost, and emit a row for every candidate."""
        fit_time = 0.0
        for n_estimators, candidates in self._find_ends().items():
            if should_stop():
                return
            begin = time.perf_counter()
            self._boost_to(n_estimators)
            fitted = time.perf_counter()
            fit_time += fitted - begin
            split = self._task.split
            scores = score(self._problem, self._data, split, self._answer())
            times = (fit_time, time.perf_counter() - fitted)
            n_test_samples = len(self._data.splits[split][1])
            for candidate in candidates:
                emit(
                    Row(
                        candidate,
                        split,
                        scores,
                        n_test_samples,
                        *times,
                        Method.BOOSTING
                    )
                )

    def _find_ends(self) -> dict[int, list[int]]:
        ends: dict[int, list[int]] = {}
        for candidate in self._task.run.candidates:
            classifier = find_classifier(self._problem, candidate)
            ends.setdefault(getattr(classifier, PREFIX_PARAMETER), []).append(candidate)
        return dict(sorted(ends.items()))

    def _boost_to(self, n_trees: int) -> None:
        while self._n_trees < n_trees:
            # No stop when no leaf can be split any more: with bagging the next tree may split.
            self._booster.update()
            self._n_trees += 1

    def _answer(self) -> Answers:
        return Answers(self._fold.classes, self._probabilities, self._decisions)

    def _probabilities(self) -> Floats:
        values = self._predict() if self._is_averaged else self._read_test_scores()
        if len(self._fold.classes) > 2:
            return values
        return np.vstack((1.0 - values, values)).transpose()

    def _decisions(self) -> Floats:
        """Return decision values; for a scorer that ranks, the ranks of the probabilities.

        LGBMClassifier's decision_function is the margin (since LightGBM 4.7). Its probabilities
        rank rows alike, but where it rounds them to the same number: there the margins decide.
        """
        is_binary = len(self._fold.classes) == 2
        if self._is_averaged or not (
            is_binary and reads_ranks_only(self._problem.scorer)
        ):
            return self._predict(raw_score=True)
        return rank(
            self._read_test_scores(),
            lambda numbers: self._predict(numbers, raw_score=True),
        )

    @property
    def _is_averaged(self) -> bool:
        """Whether scores that grow with each tree are not, to the last bit, what predict gives."""
        is_forest = self._params["boosting_type"] == "rf"
        return is_forest or bool(self._params.get("zero_as_missing"))

    def _read_test_scores(self) -> Floats:
        seen: list[Floats] = []

        def read(scores: Floats, _: Any) -> tuple[str, float, bool]:
            seen.append(scores.copy())
            return "none", 0.0, True

        self._booster.eval_valid(read)
        return seen[0]

    def _predict(
        self, numbers: NDArray[np.int64] | None = None, *, raw_score: bool = False
    ) -> Floats:
        test = self._data.splits[self._task.split][1]
        rows = _safe_indexing(self._data.X, test if numbers is None else test[numbers])
        params = {
            k: v for k, v in self._params.items() if k not in ("metric", *LAYOUTS)
        }
        return np.asarray(self._booster.predict(rows, raw_score=raw_score, **params))
