"""Searches the grid of a family: every candidate on the same folds.

    FamilySearch.run_shard      one task for each shard, on any machine
        │
        ▼
    ShardResult ... ShardResult
        │
        ▼
    FamilySearch.merge  ──▶  SearchResult, the same for any number of shards

This module supplies folds, scorer and pipelines; `training.search` runs the search.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from joblib import cpu_count
from sklearn.metrics import get_scorer
from sklearn.model_selection import ParameterGrid

from training.data.rows import Rows
from training.data.schema import Schema
from training.data.splitting import make_folds
from training.errors import SearchError
from training.models.class_labels import CLASS_WEIGHT, encode_params
from training.models.families import LOGISTIC_REGRESSION, Family
from training.models.grids import ParamGrid, check_grid
from training.models.magnitudes import check_magnitudes
from training.models.memory import find_available_bytes
from training.models.pipelines import PipelineFactory, make_fit_params
from training.models.search_notes import (
    find_failure,
    last_line,
    make_shard_result,
    note_fits,
)
from training.models.search_values import (
    SearchResult,
    SearchSettings,
    ShardResult,
    ShardSpec,
)
from training.search import (
    Data,
    Meter,
    Problem,
    Progress,
    break_ties,
    find_left_out,
    merge,
    plan,
    run_shard,
)

Report = Callable[[str], None]
Watch = Callable[[Progress], None]


def _ignore_progress(_: Progress) -> None:
    """Ignore progress that nobody watches."""


def share_of_cores(n_searches: int) -> int:
    """Return how many fits each of `n_searches` on this machine may run at once, 1 or more.

    The cores that the process may use are counted by its affinity and by its control group's quota.
    """
    return max(1, int(cpu_count()) // n_searches)


def count_fits_at_once(n_bytes: int, n_searches: int) -> int:
    """Return how many fits a search on this machine may run at once, 1 or more.

    Each of several searches may use all cores, since the others may be over long before it: the
    operating system shares the cores among those that run. If the memory cannot hold a copy of the
    rows for each fit of all searches, each gets its share of the cores.

    Parameters
    ----------
    n_bytes : int
        Size of the rows.
    n_searches : int
        Searches on this machine.

    Returns
    -------
    int
    """
    n_cores = share_of_cores(1)
    needed = n_bytes * n_cores * n_searches
    if needed <= find_available_bytes() / 2:
        return n_cores
    return share_of_cores(n_searches)


@dataclass(frozen=True, slots=True)
class FamilySearch:
    """The search of one family. Its shards may run on any machine, and merge on any machine.

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
        """Search in one shard; parameters and errors as in `run_shard` and `merge`."""
        shard = self.run_shard(rows, ShardSpec(), n_jobs=n_jobs, report=report)
        return self.merge([shard], report=report)

    def run_shard(
        self,
        rows: Rows,
        spec: ShardSpec,
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
        spec : ShardSpec
            Which shard.
        n_jobs : int, default=1
            Number of fits that run at once.
        report : callable, default=print
            Receives lines for the user, one every few seconds.
        watch : callable, optional
            Receives the progress as often.

        Returns
        -------
        ShardResult
            What `merge` takes.

        Raises
        ------
        SearchError
            If the classifier lacks a parameter of the grid.
        """
        check_grid(self._factory, self.param_grid)
        name = self.family.display_name
        problem, data = self.make_problem(), self.split(rows)
        shard = plan(problem, data, spec.n_shards)[spec.number]
        report(self._announce(len(problem.candidates), spec))

        def tell(progress: Progress) -> None:
            report(f"{name}: {progress}")
            watch(progress)

        max_seconds = self.settings.max_minutes * 60 or inf
        meter = Meter(shard, tell, time.monotonic, max_seconds)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scores = run_shard(
                problem,
                data,
                shard,
                n_threads=n_jobs,
                emit=meter.count,
                log=lambda line: report(f"{name}: {line}"),
                should_stop=self._make_deadline(),
            )
        if end := meter.look():
            watch(end)
        n_all = sum(len(task.shared_fit.candidates) for task in shard)
        if self.settings.max_minutes and len(scores) < n_all:
            report(
                f"{name}: stopped by --max_minutes {self.settings.max_minutes:g} after "
                f"{len(scores)} of {n_all} scores"
            )
        return make_shard_result(scores, caught)

    def merge(
        self, shards: Sequence[ShardResult], *, report: Report = print
    ) -> SearchResult:
        """Merge the outcomes of all shards.

        Parameters
        ----------
        shards : sequence of ShardResult
            Outcomes of all shards, in any order.
        report : callable, default=print
            Receives lines for the user.

        Returns
        -------
        SearchResult
            The same for any number of shards.

        Raises
        ------
        SearchError
            If no candidate has a score.
        """
        name, problem = self.family.display_name, self.make_problem()
        scores = [score for shard in shards for score in shard.scores]
        cv_results = self._merge_scores(problem, scores)
        left_out = find_left_out(problem, self.settings.n_folds, scores)
        mean_scores = cv_results["mean_test_score"]
        self._check_scores(mean_scores, left_out, shards, report)
        result = SearchResult(
            self.family.name,
            self._with_own_words(cv_results),
            break_ties(problem, scores, mean_scores, int(np.nanargmax(mean_scores))),
            (
                *self._note_left_out(problem, left_out),
                *note_fits(mean_scores, shards, len(left_out)),
            ),
        )
        for note in result.notes:
            report(f"{name}: {note}")
        report(
            f"{name}: best {self.settings.scoring} {result.best_score:.6g} "
            f"with {result.best_params}"
        )
        return result

    def _merge_scores(self, problem: Problem, scores: Sequence[Any]) -> dict[str, Any]:
        try:
            with warnings.catch_warnings():
                # The result's notes name the candidates without a score.
                warnings.simplefilter("ignore")
                return merge(problem, self.settings.n_folds, scores)
        except ValueError as error:
            raise SearchError(
                f"{self.family.display_name}: {last_line(str(error))}"
            ) from None

    def _check_scores(
        self,
        mean_scores: Any,
        left_out: Sequence[int],
        shards: Sequence[ShardResult],
        report: Report,
    ) -> None:
        """Raise SearchError if no candidate has a score."""
        name = self.family.display_name
        if len(left_out) == len(mean_scores):
            message = (
                f"{name}: no candidate was finished within --max_minutes "
                f"{self.settings.max_minutes:g}; give it more, or a smaller grid"
            )
            # The flow goes on with the other family, so the log has to say it too.
            report(message)
            raise SearchError(message)
        if not np.isfinite(mean_scores).any():
            raise SearchError(
                f"{name}: no candidate has a score: {find_failure(shards)}"
            )

    @property
    def _factory(self) -> PipelineFactory:
        settings = self.settings
        return PipelineFactory(
            self.family, self.schema, settings.seed, settings.early_stopping_rounds
        )

    def make_problem(self) -> Problem:
        """Return the candidates as the question of a search."""
        prefix, labels = self._factory.parameter_prefix, self.schema.class_labels
        candidates = tuple(
            {
                prefix + name: value
                for name, value in encode_params(params, labels).items()
            }
            for params in self._candidates
        )
        return Problem(
            self._factory.make_search_pipeline(),
            candidates,
            get_scorer(self.settings.scoring),
        )

    @property
    def _candidates(self) -> list[dict[str, Any]]:
        """The candidates in the user's words."""
        return list(ParameterGrid(self.param_grid))

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
        first = self._candidates[left_out[0]]
        return (
            f"{len(left_out)} of {len(problem.candidates)} candidates were left out for lack of "
            f"time (--max_minutes {self.settings.max_minutes:g}), such as {first}",
        )

    def _announce(self, n_candidates: int, spec: ShardSpec) -> str:
        shard = f", shard {spec.number + 1} of {spec.n_shards}"
        return (
            f"{self.family.display_name}: {n_candidates} candidates on "
            f"{self.settings.n_folds} folds, {self.settings.scoring}"
            f"{shard if spec.n_shards > 1 else ''}"
        )

    def split(self, rows: Rows) -> Data:
        """Return rows as the search takes them, with their folds."""
        settings = self.settings
        splits = make_folds(rows, settings.n_folds, settings.seed, settings.splitting)
        if self.family == LOGISTIC_REGRESSION:
            check_magnitudes(rows.X, self.schema.feature_names)
        X = self._factory.arrange(rows.X)
        return Data(X, rows.y, splits, make_fit_params(rows))

    def _with_own_words(self, cv_results: dict[str, Any]) -> dict[str, Any]:
        """Return `cv_results_` with the classifier's own parameter names, and the user's labels."""
        prefix, candidates = self._factory.parameter_prefix, self._candidates
        renamed = {
            key.replace(f"param_{prefix}", "param_"): values
            for key, values in cv_results.items()
        }
        renamed["params"] = candidates
        if (weights := renamed.get(f"param_{CLASS_WEIGHT}")) is not None:
            for position, params in enumerate(candidates):
                if CLASS_WEIGHT in params:
                    weights[position] = params[CLASS_WEIGHT]
        return renamed
