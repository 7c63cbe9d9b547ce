"""Target means before a classifier: each split has rows of its own, which all its fits share.

::

    Problem with TargetMeans, Data --split_off--> Problem without it, SplitRows
                                                                  │ at(split)
                                                                  v
                                                  Data of one split, for the other methods
"""

import threading
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack, issparse, vstack
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import Pipeline

from training.search.sklearn_internals import take_rows
from training.search.values import Data, Problem


class TargetMeans(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Replaces some columns of an array or a sparse matrix by target means; the others stay.

    Parameters
    ----------
    encoder : TargetEncoder
        Unfitted. It gives a number for each column, or one for each of several classes.
    columns : slice
        Columns of category codes, NaN where missing.
    """

    def __init__(self, encoder: Any, columns: slice) -> None:
        self.encoder = encoder
        self.columns = columns

    def fit(self, X: Any, y: Any) -> "TargetMeans":
        """Learn the means of all rows."""
        self.encoder_ = clone(self.encoder).fit(self._take(X), y)
        return self

    def fit_transform(self, X: Any, y: Any) -> Any:
        """Learn the means of all rows; each row gets the means of others, as in TargetEncoder."""
        self.encoder_ = clone(self.encoder)
        return self._replace(X, self.encoder_.fit_transform(self._take(X), y))

    def transform(self, X: Any) -> Any:
        """Replace the columns, shape (n_rows, n_columns), by the means of all rows."""
        return self._replace(X, self.encoder_.transform(self._take(X)))

    def _take(self, X: Any) -> Any:
        codes = X[:, self.columns]
        return codes.toarray() if issparse(codes) else np.asarray(codes)

    def _replace(self, X: Any, means: Any) -> Any:
        before, after = X[:, : self.columns.start], X[:, self.columns.stop :]
        if issparse(X):
            return hstack([before, csr_matrix(means), after], format="csr")
        return np.hstack([before, means, after])


@dataclass(frozen=True, slots=True, eq=False)
class _Transformed:
    """The rows of a split."""

    split: int
    data: Data


class SplitRows:
    """The rows of each split as the steps after target means see them; threads may share it.

    The rows of one split are kept, because the fits of a split follow each other.

    Parameters
    ----------
    data : Data
        Rows and splits.
    step : TargetMeans or None
        Unfitted first step; without one, all splits have the same rows.
    """

    def __init__(self, data: Data, step: TargetMeans | None) -> None:
        self._data, self._step = data, step
        self._lock = threading.Lock()
        self._last: _Transformed | None = None

    @property
    def are_shared(self) -> bool:
        """Whether all splits have the same rows."""
        return self._step is None

    def at(self, split: int) -> Data:
        """Return rows and splits; only the rows of this split, by its position, may be used."""
        if self._step is None:
            return self._data
        with self._lock:
            if self._last is None or self._last.split != split:
                self._last = None  # so that no more than one copy of the rows is kept
                self._last = _Transformed(split, self._transform(split, self._step))
            return self._last.data

    def _transform(self, split: int, step: TargetMeans) -> Data:
        data = self._data
        train, test = data.splits[split]
        fitted = clone(step)
        Z = fitted.fit_transform(take_rows(data.X, train), np.asarray(data.y)[train])
        Z_test = fitted.transform(take_rows(data.X, test))
        return replace(data, X=_scatter(Z, train, Z_test, test, data.X.shape[0]))


def _scatter(Z: Any, train: Any, Z_test: Any, test: Any, n_rows: int) -> Any:
    """Return a matrix of n_rows with the rows of both parts at their positions."""
    if issparse(Z):
        places = np.zeros(n_rows, np.int64)
        places[train] = np.arange(len(train))
        places[test] = len(train) + np.arange(len(test))
        return vstack([Z, Z_test], format="csr")[places]
    X = np.zeros((n_rows, Z.shape[1]))
    X[train], X[test] = Z, Z_test
    return X


def split_off(problem: Problem) -> tuple[TargetMeans | None, Problem]:
    """Take target means off the pipeline of a problem, if they are its first step.

    Parameters
    ----------
    problem : Problem
        The question.

    Returns
    -------
    step : TargetMeans or None
        Unfitted; None if the first step is another, or if a candidate sets it.
    rest : Problem
        The question for the rows that the step returns; `problem` itself if there is no step.
    """
    estimator = problem.estimator
    if type(estimator) is not Pipeline or len(estimator.steps) < 2:
        return None, problem
    (_, first), *others = estimator.steps
    names = {name for name, _ in others}
    heads = {key.partition("__")[0] for params in problem.candidates for key in params}
    if type(first) is not TargetMeans or not heads <= names:
        return None, problem
    rest = Pipeline(others, memory=estimator.memory)
    return first, replace(problem, estimator=rest)
