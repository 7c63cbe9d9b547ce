"""Binned rows of each split, made once for all LightGBM fits that need them.

::

    get: not binned --(binning lock)--> binned --> layout timed --> given to each fit
    release by the last fit of a split: dropped
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightgbm import Booster
from numpy.typing import NDArray
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.class_weight import compute_sample_weight

from training.search.lightgbm_parameters import DATASET_PARAMETERS, LAYOUTS, make_params
from training.search.row_blocks import make_dataset
from training.search.sklearn_internals import take_rows
from training.search.target_means import SplitRows
from training.search.values import Data, Floats

# Trees that a layout is timed on, after one that warms up.
N_PROBED_TREES = 2


@dataclass(frozen=True, slots=True, eq=False)
class BinnedFold:
    """The rows of one split, binned.

    Parameters
    ----------
    train, test : lightgbm.Dataset
        Constructed; they do not keep the rows themselves.
    classes : ndarray of shape (n_classes,)
        Labels in the training rows.
    test_rows : ndarray or csr_matrix, shape (n_test_rows, n_features), or None
        Test rows that only this split has; None if all splits share the rows.
    """

    train: Any
    test: Any
    classes: NDArray[Any]
    test_rows: Any = None


class BinnedFolds:
    """Binned rows by split: made at the first request, dropped after the last fit that needs them.

    Threads may share it. The binning lock is held while rows are binned or a layout is timed, so
    that no more than one copy of a split's rows exists. A request for rows that are binned takes no
    lock. The counting lock guards the numbers of fits.

    Parameters
    ----------
    rows : SplitRows
        The rows of each split.
    n_fits : Counter of int
        Number of fits that need each split, by its position. It is copied.
    """

    def __init__(self, rows: SplitRows, n_fits: Counter[int]) -> None:
        self._rows, self._n_fits_left = rows, n_fits.copy()
        self._binning_lock, self._counting_lock = threading.Lock(), threading.Lock()
        self._folds: dict[tuple[int, str], BinnedFold] = {}
        self._layouts: dict[str, str] = {}

    def get(self, split: int, classifier: Any) -> tuple[BinnedFold, str]:
        """Return binned rows and the faster layout of their histograms.

        Parameters
        ----------
        split : int
            Position of the split.
        classifier : LGBMClassifier
            Unfitted; its parameters decide how rows are binned.

        Returns
        -------
        fold : BinnedFold
            The rows of the split.
        layout : {"force_col_wise", "force_row_wise", ""}
            The parameter to set; empty if the classifier sets one of them.
        """
        params = classifier.get_params()
        key = repr([(name, params.get(name)) for name in DATASET_PARAMETERS])
        fold = self._folds.get((split, key)) or self._bin(split, key, classifier)
        if any(params.get(layout) for layout in LAYOUTS):
            return fold, ""
        return fold, self._layouts.get(key) or self._probe(key, fold, classifier)

    def release(self, split: int) -> None:
        """Take note that a fit of a split is over."""
        with self._counting_lock:
            self._n_fits_left[split] -= 1
            if not self._n_fits_left[split]:
                for key in [key for key in list(self._folds) if key[0] == split]:
                    del self._folds[key]

    def _bin(self, split: int, key: str, classifier: Any) -> BinnedFold:
        with self._binning_lock:
            if (split, key) not in self._folds:
                self._folds[split, key] = _bin_rows(self._rows, split, classifier)
            return self._folds[split, key]

    def _probe(self, key: str, fold: BinnedFold, classifier: Any) -> str:
        """Return the layout that is faster on these rows; LightGBM would time it in each fit."""
        with self._binning_lock:
            if key not in self._layouts:
                self._layouts[key] = min(
                    LAYOUTS, key=lambda layout: _time_layout(fold, classifier, layout)
                )
            return self._layouts[key]


def _bin_rows(rows: SplitRows, split: int, classifier: Any) -> BinnedFold:
    data = rows.at(split)
    train, test = data.splits[split]
    y = np.asarray(data.y)
    encoder = LabelEncoder().fit(y[train])
    codes = encoder.transform(y[train])
    params = make_params(classifier, len(encoder.classes_))
    weight = _weigh(data, train, codes, classifier.class_weight, encoder)
    binned = make_dataset(data.X, train, codes, weight=weight, params=params)
    # LightGBM only predicts the test rows, so it gets no labels of them.
    test_set = make_dataset(data.X, test, reference=binned, params=params)
    test_rows = None if rows.are_shared else take_rows(data.X, test)
    return BinnedFold(binned, test_set, encoder.classes_, test_rows)


def _weigh(
    data: Data,
    train: NDArray[np.int64],
    codes: NDArray[np.int64],
    class_weight: Any,
    encoder: LabelEncoder,
) -> Floats | None:
    """Return the weights of the training rows, shape (n_train_rows,), as LGBMClassifier does."""
    given = data.sample_weight
    weight = None if given is None else given[train]
    if class_weight is None:
        return weight
    if isinstance(class_weight, Mapping):
        code_by_label = {label: code for code, label in enumerate(encoder.classes_)}
        class_weight = {code_by_label[key]: class_weight[key] for key in class_weight}
    by_class: Floats = compute_sample_weight(class_weight, codes)
    return by_class if weight is None else np.multiply(weight, by_class)


def _time_layout(fold: BinnedFold, classifier: Any, layout: str) -> float:
    """Return the seconds that a few trees take with a layout."""
    params = make_params(classifier, len(fold.classes))
    booster = Booster(params | {layout: True}, fold.train)
    booster.update()
    begin = time.perf_counter()
    for _ in range(N_PROBED_TREES):
        booster.update()
    return time.perf_counter() - begin
