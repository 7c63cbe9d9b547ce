"""Tries every value of the grids on a few rows, so that none fails after hours of search.

A value is wrong if no candidate with it can be fitted and predicts probabilities. So a grid may
hold combinations that do not go together.
"""

import warnings
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from lightgbm.basic import LightGBMError
from sklearn.model_selection import ParameterGrid

from training.data.encoding import to_table
from training.data.rows import Rows
from training.errors import SearchError
from training.models.grids import ParamGrid
from training.models.pipelines import PipelineFactory, unwrap
from training.text import first_line

N_ROWS_OF_CLASS = 20
# Trees enough to see whether a value is taken.
MAX_TREES = 2
# Candidates that may fail before their common value is called wrong.
MAX_TRIALS = 12
FIT_ERRORS = (LightGBMError, ValueError, TypeError, KeyError, ArithmeticError)


def sample_rows(rows: Rows) -> Rows:
    """Return the first few rows of each class, without their weights.

    Parameters
    ----------
    rows : Rows
        Rows to learn from.

    Returns
    -------
    Rows
        At most `N_ROWS_OF_CLASS` rows of each class.
    """
    numbers = [
        np.flatnonzero(rows.y == code)[:N_ROWS_OF_CLASS] for code in np.unique(rows.y)
    ]
    chosen = np.sort(np.concatenate(numbers))
    return Rows(rows.X[chosen], rows.y[chosen])


def try_grid(factory: PipelineFactory, param_grid: ParamGrid, rows: Rows) -> None:
    """Try every value of a grid.

    Parameters
    ----------
    factory : PipelineFactory
        Factory of the family's pipelines.
    param_grid : list of dict
        Grid of the family, whose names are right.
    rows : Rows
        A few rows of each class, from `sample_rows`.

    Raises
    ------
    SearchError
        If no candidate with a value can be fitted. It names the value and the reason.
    """
    for grid in map(_lower_trees, param_grid):
        for name, position in _list_untried(factory, grid, rows):
            value = grid[name][position]
            together = ParameterGrid({**grid, name: [value]})
            # Alone, so that a value is not blamed for another that fails with all of them.
            candidates = [{name: value}, *islice(together, MAX_TRIALS)]
            reasons = [_try(factory, params, rows) for params in candidates]
            if all(reasons):
                raise SearchError(
                    f"search.{factory.family.name}.{name}: no candidate with {value!r} can be "
                    f"fitted: {reasons[0]}; correct the value, or leave it out"
                )


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
    factory: PipelineFactory, grid: dict[str, list[Any]], rows: Rows
) -> Iterator[tuple[str, int]]:
    """Yield the values, as name and position, that no candidate of a first round has shown good.

    The first round has as many candidates as the longest list has values.
    """
    good: set[tuple[str, int]] = set()
    for turn in range(max(map(len, grid.values()), default=1)):
        positions = {name: turn % len(values) for name, values in grid.items()}
        params = {name: grid[name][position] for name, position in positions.items()}
        if not _try(factory, params, rows):
            good |= set(positions.items())
    for name, values in grid.items():
        yield from (
            (name, position)
            for position in range(len(values))
            if (name, position) not in good
        )


def _try(factory: PipelineFactory, params: dict[str, Any], rows: Rows) -> str:
    """Fit a candidate; return why this fails, or an empty text."""
    table = to_table(rows.X, factory.schema)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pipeline = unwrap(factory.make_final_pipeline(params).fit(table, rows.y))
            total = pipeline.predict_proba(table).sum(axis=1)
        except FIT_ERRORS as error:
            return first_line(error)
    return "" if np.allclose(total, 1) else "its answers are no probabilities"
