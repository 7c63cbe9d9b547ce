"""Tries every value of the grids on a few rows, so that none fails after hours of search.

A value is wrong if no candidate with it can be fitted and predicts probabilities. So a grid may
hold combinations that do not go together.
"""

import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from lightgbm.basic import LightGBMError
from numpy.typing import NDArray
from sklearn.model_selection import ParameterGrid

from training.data.encoding import to_table
from training.data.rows import Rows
from training.errors import SearchError
from training.models.class_labels import CLASS_WEIGHT
from training.models.grids import ParamGrid
from training.models.magnitudes import cut_magnitudes
from training.models.pipelines import PipelineFactory, unwrap
from training.text import first_line, shorten

N_ROWS_OF_CLASS = 20
# Classes enough to see whether a value is taken. A fit of thousands takes minutes.
MAX_CLASSES = 50
MAX_SHOWN_CHARACTERS = 200
# Trees enough to see whether a value is taken.
MAX_TREES = 2
# Candidates that may fail before their common value is called wrong.
MAX_TRIALS = 12
Check = Callable[[Any], None]
FIT_ERRORS = (LightGBMError, ValueError, TypeError, KeyError, ArithmeticError)


def sample_rows(rows: Rows, taken: NDArray[np.int64] | None = None) -> Rows:
    """Return the first few rows of each class, without their weights.

    Parameters
    ----------
    rows : Rows
        Rows to learn from.
    taken : ndarray of int64, shape (n_taken,), optional
        Positions of the rows to choose from, ascending; all by default.

    Returns
    -------
    Rows
        At most `N_ROWS_OF_CLASS` rows of each class. A value whose square overflows is cut, because
        no value of a grid is to blame for it; the search names its column.
    """
    y = rows.y if taken is None else rows.y[taken]
    numbers = [np.flatnonzero(y == code)[:N_ROWS_OF_CLASS] for code in np.unique(y)]
    chosen = np.sort(np.concatenate(numbers))
    chosen = chosen if taken is None else taken[chosen]
    return Rows(cut_magnitudes(rows.X[chosen]), rows.y[chosen])


def _allow(_: Any) -> None:
    """Allow every fitted pipeline."""


def try_grid(
    factory: PipelineFactory, param_grid: ParamGrid, rows: Rows, check: Check = _allow
) -> None:
    """Try every value of a grid.

    Parameters
    ----------
    factory : PipelineFactory
        Factory of the family's pipelines.
    param_grid : list of dict
        Grid of the family, whose names are right.
    rows : Rows
        A few rows of each class, from `sample_rows`.
    check : callable, optional
        Takes a fitted pipeline, and raises ValueError if it could not be registered.

    Raises
    ------
    SearchError
        If no candidate with a value can be fitted. It names the value and the reason.
    """
    for grid in map(_lower_trees, param_grid):
        few = _take_classes(rows, grid)
        for name, position in _list_untried(factory, grid, few, check):
            value = grid[name][position]
            together = ParameterGrid({**grid, name: [value]})
            # Alone, so that a value is not blamed for another that fails with all of them.
            candidates = [{name: value}, *islice(together, MAX_TRIALS)]
            reasons = [_try(factory, params, few, check) for params in candidates]
            if all(reasons):
                shown = shorten(repr(value), MAX_SHOWN_CHARACTERS)
                raise SearchError(
                    f"search.{factory.family.name}.{name}: no candidate with {shown} can be "
                    f"fitted: {reasons[0]}; correct the value, or leave it out"
                )


def _take_classes(rows: Rows, grid: dict[str, list[Any]]) -> Rows:
    """Return the rows of the first few classes; of all if the grid weighs them one by one."""
    weights = grid.get(CLASS_WEIGHT, [])
    codes = np.unique(rows.y)
    if len(codes) <= MAX_CLASSES or any(isinstance(each, dict) for each in weights):
        return rows
    chosen = np.isin(rows.y, codes[:MAX_CLASSES])
    return Rows(rows.X[chosen], rows.y[chosen])


def _lower_trees(grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return a grid whose numbers of trees are few; those that become equal are tried once."""
    if "n_estimators" not in grid:
        return grid
    few: list[Any] = []
    for value in grid["n_estimators"]:
        lowered = MAX_TREES if isinstance(value, int) and value > MAX_TREES else value
        few += [] if lowered in few else [lowered]
    return {**grid, "n_estimators": few}


def _list_untried(
    factory: PipelineFactory, grid: dict[str, list[Any]], rows: Rows, check: Check
) -> Iterator[tuple[str, int]]:
    """Yield the values, as name and position, that no candidate of a first round has shown good.

    The first round has as many candidates as the longest list has values.
    """
    good: set[tuple[str, int]] = set()
    for turn in range(max(map(len, grid.values()), default=1)):
        positions = {name: turn % len(values) for name, values in grid.items()}
        params = {name: grid[name][position] for name, position in positions.items()}
        if not _try(factory, params, rows, check):
            good |= set(positions.items())
    for name, values in grid.items():
        yield from (
            (name, position)
            for position in range(len(values))
            if (name, position) not in good
        )


def _try(
    factory: PipelineFactory, params: dict[str, Any], rows: Rows, check: Check
) -> str:
    """Fit a candidate; return why this fails, or an empty text."""
    table = to_table(rows.X, factory.schema)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pipeline = unwrap(factory.make_final_pipeline(params).fit(table, rows.y))
            answers = pipeline.predict_proba(table)
            check(pipeline)
        except FIT_ERRORS as error:
            return first_line(error)
    are_probabilities = np.allclose(answers.sum(axis=1), 1) and answers.min() >= 0
    return "" if are_probabilities else "its answers are no probabilities"
