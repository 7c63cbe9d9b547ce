"""The searches: every candidate of a family's grid on the same folds.

What the folds, the scorer and the families are to a search; how one is done is `training.search`'s.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import ParameterGrid

from training.data.rows import Rows
from training.data.schema import Schema
from training.data.splitting import Splitting, make_folds
from training.errors import SearchError
from training.models.families import Family, Recipe, make_fit_params
from training.models.grids import ParamGrid, check_grid
from training.search import (
    Data,
    Meter,
    Problem,
    Progress,
    Row,
    break_ties,
    find_left_out,
    merge,
    plan,
    run_shard,
)

Report = Callable[[str], None]
Watch = Callable[[Progress], None]


def _ignore_progress(_: Progress) -> None:
    """Take what nobody watches."""


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What both searches have in common, so that their scores compare.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer.
    n_folds : int
        Folds; 2 or more.
    seed : int
        Seed of the folds and of what the classifiers draw.
    early_stopping_rounds : int
        0 for none. LightGBM only.
    max_minutes : float
        After how many minutes a shard begins no more fits; 0 for never.
    splitting : Splitting
        How the folds are made.
    """

    scoring: str
    n_folds: int
    seed: int
    early_stopping_rounds: int = 0
    max_minutes: float = 0.0
    splitting: Splitting = Splitting.STRATIFIED


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


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a search: shard `number`, from 0, of `n_shards`."""

    number: int = 0
    n_shards: int = 1


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What came out of a shard.

    Parameters
    ----------
    rows : tuple of Row
        Scores by candidate and split.
    n_not_converged : int
        Fits whose solver gave up.
    scoring_failure : str
        Why a fit could not be scored; empty if all could.
    """

    rows: tuple[Row, ...]
    n_not_converged: int
    scoring_failure: str


@dataclass(frozen=True, slots=True)
class FamilySearch:
    """The search of a family: shards of it run anywhere, their results are merged anywhere.

    Parameters
    ----------
    family : Family
        The family.
    schema : Schema
        Columns and classes of the rows.
    param_grid : list of dict
        Lists of values by the classifier's own parameter names.
    settings : SearchSettings
        Folds and scoring.
    """

    family: Family
    schema: Schema
    param_grid: ParamGrid
    settings: SearchSettings

    def run(
        self, rows: Rows, *, n_jobs: int = 1, report: Report = print
    ) -> SearchResult:
        """Search in one piece; parameters and errors as in `run_shard` and `merge`."""
        shard = self.run_shard(rows, Part(), n_jobs=n_jobs, report=report)
        return self.merge([shard], report=report)

    def run_shard(
        self,
        rows: Rows,
        part: Part,
        *,
        n_jobs: int = 1,
        report: Report = print,
        watch: Watch = _ignore_progress,
    ) -> ShardResult:
        """Fit and score the candidates of a shard.

        Parameters
        ----------
        rows : Rows
            Rows to learn from, without the hold-out.
        part : Part
            Which shard.
        n_jobs : int, default=1
            Fits at once.
        report : callable, default=print
            Gets lines for the user, one every few seconds.
        watch : callable
            Gets the progress as often.

        Raises
        ------
        SearchError
            If the classifier lacks a parameter of the grid.
        """
        check_grid(self._recipe, self.param_grid)
        problem, data = self._make_problem(), self._split(rows)
        shard = plan(problem, data, part.n_shards)[part.number]
        report(self._announce(len(problem.candidates), part))

        def tell(progress: Progress) -> None:
            report(f"{self.family.display_name}: {progress}")
            watch(progress)

        meter = Meter(shard, tell, time.monotonic)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scored = run_shard(
                problem,
                data,
                shard,
                n_threads=n_jobs,
                emit=meter.count,
                log=lambda line: report(f"{self.family.display_name}: {line}"),
                should_stop=self._make_deadline(),
            )
        if end := meter.look():
            watch(end)
        n_not_converged = sum(
            issubclass(item.category, ConvergenceWarning) for item in caught
        )
        return ShardResult(scored, n_not_converged, _find_scoring_failure(caught))

    def merge(
        self, shards: Sequence[ShardResult], *, report: Report = print
    ) -> SearchResult:
        """Put the results of all shards together.

        Raises
        ------
        SearchError
            If no candidate has a score.
        """
        name, problem = self.family.display_name, self._make_problem()
        rows = [row for shard in shards for row in shard.rows]
        try:
            with warnings.catch_warnings():
                # Candidates without a score are noted below.
                warnings.simplefilter("ignore")
                cv_results = merge(problem, self.settings.n_folds, rows)
        except ValueError as error:
            raise SearchError(f"{name}: {_last_line(str(error))}") from None
        scores = cv_results["mean_test_score"]
        left_out = find_left_out(problem, self.settings.n_folds, rows)
        notes = (
            *self._note_left_out(problem, left_out),
            *_take_notes(scores, shards, left_out),
        )
        if len(left_out) == len(scores):
            raise SearchError(
                f"{name}: no candidate was finished within --max_minutes "
                f"{self.settings.max_minutes:g}; give it more, or a smaller grid"
            )
        if not np.isfinite(scores).any():
            raise SearchError(
                f"{name}: no candidate has a score: {_find_failure(shards)}"
            )
        best = break_ties(problem, rows, scores, int(np.nanargmax(scores)))
        result = SearchResult(
            self.family.name,
            _with_own_names(cv_results, self._recipe.parameter_prefix),
            best,
            notes,
        )
        for note in notes:
            report(f"{name}: {note}")
        report(
            f"{name}: best {self.settings.scoring} {result.best_score:.6g} "
            f"with {result.best_params}"
        )
        return result

    @property
    def _recipe(self) -> Recipe:
        settings = self.settings
        return Recipe(
            self.family, self.schema, settings.seed, settings.early_stopping_rounds
        )

    def _make_deadline(self) -> Callable[[], bool] | None:
        if not self.settings.max_minutes:
            return None
        end = time.monotonic() + self.settings.max_minutes * 60
        return lambda: time.monotonic() >= end

    def _note_left_out(
        self, problem: Problem, left_out: Sequence[int]
    ) -> tuple[str, ...]:
        if not left_out:
            return ()
        prefix = self._recipe.parameter_prefix
        first = {
            name.removeprefix(prefix): value
            for name, value in problem.candidates[left_out[0]].items()
        }
        return (
            f"{len(left_out)} of {len(problem.candidates)} candidates were left out for lack of "
            f"time (--max_minutes {self.settings.max_minutes:g}), such as {first}",
        )

    def _announce(self, n_candidates: int, part: Part) -> str:
        which = (
            "" if part.n_shards == 1 else f", part {part.number + 1} of {part.n_shards}"
        )
        return (
            f"{self.family.display_name}: {n_candidates} candidates on "
            f"{self.settings.n_folds} folds, {self.settings.scoring}{which}"
        )

    def _make_problem(self) -> Problem:
        prefix = self._recipe.parameter_prefix
        grids = [
            {prefix + name: grid[name] for name in grid} for grid in self.param_grid
        ]
        return Problem(
            self._recipe.make_search_pipeline(),
            tuple(ParameterGrid(grids)),
            get_scorer(self.settings.scoring),
        )

    def _split(self, rows: Rows) -> Data:
        settings = self.settings
        splits = make_folds(rows, settings.n_folds, settings.seed, settings.splitting)
        X = self._recipe.arrange(rows.X)
        return Data(X, rows.y, splits, make_fit_params(rows))


def _take_notes(
    scores: NDArray[Any], shards: Sequence[ShardResult], left_out: Sequence[int]
) -> tuple[str, ...]:
    n_not_converged = sum(shard.n_not_converged for shard in shards)
    n_without = int((~np.isfinite(scores)).sum()) - len(left_out)
    counts = {
        f"{n_not_converged} fits did not converge; their scores may be too low": n_not_converged,
        f"{n_without} candidates have no score: {_find_failure(shards)}": n_without,
    }
    return tuple(note for note, count in counts.items() if count)


def _find_failure(shards: Sequence[ShardResult]) -> str:
    errors = [row.fit_error for shard in shards for row in shard.rows if row.fit_error]
    failures = [shard.scoring_failure for shard in shards if shard.scoring_failure]
    reasons = [*errors, *failures, "a fold cannot be scored"]
    return _last_line(reasons[0])


def _find_scoring_failure(caught: list[warnings.WarningMessage]) -> str:
    # Of a scorer that fails, scikit-learn tells in a plain warning with these words.
    messages = [str(item.message) for item in caught]
    failures = [text for text in messages if text.startswith("Scoring failed")]
    return _last_line(failures[-1]) if failures else ""


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
