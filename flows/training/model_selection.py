"""The searches: every candidate of a family's grid on the same folds.

The result has the shape of scikit-learn's `cv_results_`, so that what finds it may change.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import cpu_count, parallel_config
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold

from training.dataset import Schema
from training.errors import SearchError
from training.families import LIGHTGBM, LOGISTIC_REGRESSION, Recipe
from training.grids import ParamGrid, check_grid
from training.matrix import Rows

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What both searches have in common, so that their scores compare.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer.
    n_folds : int
        Folds, stratified and shuffled; 2 or more.
    seed : int
        Seed of the folds and of what the classifiers draw.
    early_stopping_rounds : int
        0 for none. LightGBM only.
    """

    scoring: str
    n_folds: int
    seed: int
    early_stopping_rounds: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """What a search found.

    Parameters
    ----------
    family : str
        Name of the family.
    cv_results : dict of str to array-like of shape (n_candidates,)
        scikit-learn's `cv_results_`, with the classifier's own parameter names.
    best_index : int
        Position of the best candidate.
    notes : tuple of str
        What a user should know: fits that did not converge, candidates that failed.
    """

    family: str
    cv_results: dict[str, Any]
    best_index: int
    notes: tuple[str, ...]

    @property
    def best_params(self) -> dict[str, Any]:
        """Parameters of the best candidate, by the classifier's own names."""
        params: dict[str, Any] = self.cv_results["params"][self.best_index]
        return params

    @property
    def best_score(self) -> float:
        """Mean score of the best candidate over the folds."""
        return float(self.cv_results["mean_test_score"][self.best_index])


def share_of_cores(n_branches: int) -> int:
    """Return the fits that one of `n_branches` on this machine runs at once.

    Counts the cores that the process may use: by its affinity and by its control group's quota.
    """
    return max(1, int(cpu_count()) // n_branches)


def resolve_scoring(scoring: str, schema: Schema) -> str:
    """Return the scorer that `scoring` means for the number of classes, and check that it scores.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer; "roc_auc" means "roc_auc_ovr" for more than two classes.
    schema : Schema
        Columns and classes of the rows.

    Raises
    ------
    SearchError
        If there is no such scorer, or it cannot score classes as many.
    """
    if scoring == "roc_auc" and not schema.is_binary:
        scoring = "roc_auc_ovr"
    if scoring not in get_scorer_names():
        raise SearchError(
            f"--scoring {scoring!r} is no scorer of scikit-learn; classifiers take, for example, "
            "roc_auc, accuracy, balanced_accuracy, average_precision, neg_log_loss, f1_macro"
        )
    n_classes = len(schema.class_labels)
    y = np.tile(np.arange(n_classes), 2)
    X = np.zeros((len(y), 1))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            score = get_scorer(scoring)(
                DummyClassifier(strategy="prior").fit(X, y), X, y
            )
    except (ValueError, AttributeError, TypeError) as error:
        raise SearchError(
            f"--scoring {scoring} cannot score {n_classes} classes: {error}"
        ) from None
    if not np.isfinite(score):
        raise SearchError(f"--scoring {scoring} cannot score {n_classes} classes")
    return scoring


def search_logistic_regression(
    rows: Rows,
    schema: Schema,
    param_grid: ParamGrid,
    settings: SearchSettings,
    *,
    n_jobs: int = 1,
    report: Report = print,
) -> SearchResult:
    """Search the grid of logistic regression; parameters and errors as in `search_lightgbm`."""
    search = _Search(
        Recipe(LOGISTIC_REGRESSION, schema, settings.seed), param_grid, settings
    )
    return search.run(rows, n_jobs, report)


def search_lightgbm(
    rows: Rows,
    schema: Schema,
    param_grid: ParamGrid,
    settings: SearchSettings,
    *,
    n_jobs: int = 1,
    report: Report = print,
) -> SearchResult:
    """Search the grid of LightGBM.

    Parameters
    ----------
    rows : Rows
        Rows to learn from, without the hold-out.
    schema : Schema
        Columns and classes of the rows.
    param_grid : list of dict
        Lists of values by the classifier's own parameter names.
    settings : SearchSettings
        Folds and scoring.
    n_jobs : int, default=1
        Fits at once.
    report : callable, default=print
        Gets a line at the start and one at the end.

    Raises
    ------
    SearchError
        If the classifier lacks a parameter of the grid, or no candidate could be scored.
    """
    recipe = Recipe(LIGHTGBM, schema, settings.seed, settings.early_stopping_rounds)
    return _Search(recipe, param_grid, settings).run(rows, n_jobs, report)


@dataclass(frozen=True, slots=True)
class _Search:
    """One family's search."""

    recipe: Recipe
    param_grid: ParamGrid
    settings: SearchSettings

    def run(self, rows: Rows, n_jobs: int, report: Report) -> SearchResult:
        check_grid(self.recipe, self.param_grid)
        scoring, n_folds = self.settings.scoring, self.settings.n_folds
        name = self.recipe.family.display_name
        n_candidates = len(ParameterGrid(self.param_grid))
        report(f"{name}: {n_candidates} candidates on {n_folds} folds, {scoring}")
        search = self._make_search(n_jobs)
        try:
            notes = _fit(search, rows)
        except SearchError as error:
            raise SearchError(f"{name}: {error}") from None
        result = SearchResult(
            self.recipe.family.name,
            _with_own_names(search.cv_results_, self.recipe.parameter_prefix),
            int(search.best_index_),
            notes,
        )
        for note in notes:
            report(f"{name}: {note}")
        report(
            f"{name}: best {scoring} {result.best_score:.6g} with {result.best_params}"
        )
        return result

    def _make_search(self, n_jobs: int) -> GridSearchCV:
        prefix, settings = self.recipe.parameter_prefix, self.settings
        return GridSearchCV(
            self.recipe.make_search_pipeline(),
            [{prefix + name: grid[name] for name in grid} for grid in self.param_grid],
            scoring=settings.scoring,
            cv=StratifiedKFold(
                settings.n_folds, shuffle=True, random_state=settings.seed
            ),
            n_jobs=n_jobs,
            refit=False,
        )


def _fit(search: GridSearchCV, rows: Rows) -> tuple[str, ...]:
    """Run a search; return what a user should know of it."""
    try:
        # Threads: both families' solvers let go of the interpreter, and rows are not copied.
        with warnings.catch_warnings(record=True) as caught, parallel_config(
            "threading"
        ):
            warnings.simplefilter("always")
            search.fit(rows.X, rows.y)
    except ValueError as error:
        raise SearchError(_last_line(str(error))) from None
    scored = np.isfinite(search.cv_results_["mean_test_score"])
    if not scored.any():
        raise SearchError(f"no candidate has a score: {_failure(caught)}")
    n_not_converged = sum(
        issubclass(item.category, ConvergenceWarning) for item in caught
    )
    notes = {
        f"{n_not_converged} fits did not converge; their scores may be too low": n_not_converged,
        f"{(~scored).sum()} candidates have no score: {_failure(caught)}": (
            ~scored
        ).sum(),
    }
    return tuple(note for note, count in notes.items() if count)


def _failure(caught: list[warnings.WarningMessage]) -> str:
    # Of a scorer that fails, scikit-learn tells in a plain warning with these words.
    messages = [
        str(item.message)
        for item in caught
        if item.category is FitFailedWarning
        or str(item.message).startswith("Scoring failed")
    ]
    return _last_line(messages[-1]) if messages else "a fold cannot be scored"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _with_own_names(cv_results: dict[str, Any], prefix: str) -> dict[str, Any]:
    renamed = {
        key.replace(f"param_{prefix}", "param_"): cv_results[key] for key in cv_results
    }
    renamed["params"] = [
        {name.removeprefix(prefix): value for name, value in params.items()}
        for params in cv_results["params"]
    ]
    return renamed
