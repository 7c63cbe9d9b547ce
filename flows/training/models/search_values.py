"""The values of a search: its settings, its shards and its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from training.data.splitting import Splitting
from training.search import SplitScore


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What both searches have in common, so that their scores compare.

    Parameters
    ----------
    scoring : str
        Name of a scikit-learn scorer.
    n_folds : int
        Folds of the cross-validation, 2 or more.
    seed : int
        Seed of the folds and of the classifiers, [0, 2**31).
    early_stopping_rounds : int
        Rounds without a better loss after which LightGBM stops; 0 never stops it.
    max_minutes : float
        Minutes after which a shard stops; 0 is no limit.
    splitting : Splitting
        How the folds are made.
    """

    scoring: str
    n_folds: int
    seed: int
    early_stopping_rounds: int = 0
    max_minutes: float = 0.0
    splitting: Splitting = Splitting.STRATIFIED


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """Names a shard of a search: number `number`, from 0, of `n_shards`."""

    number: int = 0
    n_shards: int = 1


@dataclass(frozen=True, slots=True)
class ShardResult:
    """The outcome of a shard.

    Parameters
    ----------
    scores : tuple of SplitScore
        Scores by candidate and split.
    n_not_converged : int
        Fits whose solver gave up.
    scoring_failure : str
        Why a fit could not be scored; empty if all could.
    """

    scores: tuple[SplitScore, ...]
    n_not_converged: int
    scoring_failure: str


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The outcome of a search.

    Parameters
    ----------
    family : str
        Name of the family.
    cv_results : dict of str to array-like of shape (n_candidates,)
        scikit-learn's `cv_results_`, with the classifier's own parameter names.
    best_index : int
        Position of the best candidate.
    notes : tuple of str
        Remarks for the user, on fits that failed or did not converge, and on lack of time.
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


def make_cv_table(results: Mapping[str, SearchResult]) -> pd.DataFrame:
    """Put the candidates of all families into one table.

    Parameters
    ----------
    results : mapping of str to SearchResult
        Results of the searches, by family.

    Returns
    -------
    DataFrame, shape (n_candidates, n_columns)
        One row for each candidate, without times: the table is the same in every run.
    """
    tables = []
    for family, result in results.items():
        columns = {
            key: values
            for key, values in result.cv_results.items()
            if key != "params" and not key.endswith("_time")
        }
        tables.append(pd.DataFrame({"family": family, **columns}))
    return pd.concat(tables, ignore_index=True)
