"""The winner of a flow run: chosen, fitted, scored once on the hold-out, and written down."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from prediction.artifact import seal
from training.artifact.encoding import (
    Provenance,
    ScoredRows,
    choose_golden_rows,
    encode,
)
from training.artifact.provenance import find_library_versions
from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.schema import Schema
from training.data.splitting import make_folds
from training.errors import SearchError
from training.models.evaluation import Bin, evaluate, measure_reliability
from training.models.families import FAMILIES, Recipe, make_fit_params
from training.models.family_search import SearchResult
from training.models.final_model import FinalModel, Finish, fit_final_model
from training.plan import FlowRun, Plan

# How far from 1 the probabilities of a row may sum up: what rounding leaves, and no more.
MAX_EXCESS = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A fitted model that asks to be registered.

    Parameters
    ----------
    run : FlowRun
        Where it comes from.
    schema : Schema
        Columns and classes.
    schema_file : str
        The columns as --config schema would say them.
    scoring : str
        Scorer that chose it.
    winner : SearchResult
        Search that it won.
    cv_table : DataFrame
        Every candidate of every family, a row each.
    failures : mapping of str to str
        Why a family has no candidate, by the family's name.
    finish : Finish
        How it was calibrated, and how its threshold was found.
    model : estimator
        Fitted on the training rows; predicts labels.
    threshold : float
        Threshold between two classes, [0, 1].
    metrics : mapping of str to float
        Metrics on the hold-out and the winner's score on the folds, by name.
    reliability : tuple of Bin
        Points of the reliability curve on the hold-out.
    artifact : bytes
        What the server reads, serialised.
    library_versions : mapping of str to str
        Versions of the libraries that fitted it.
    """

    run: FlowRun
    schema: Schema
    schema_file: str
    scoring: str
    winner: SearchResult
    cv_table: pd.DataFrame
    failures: Mapping[str, str]
    finish: Finish
    model: BaseEstimator
    threshold: float
    metrics: Mapping[str, float]
    reliability: tuple[Bin, ...]
    artifact: bytes
    library_versions: Mapping[str, str]

    @property
    def artifact_sha256(self) -> str:
        """Digest of the artifact in lower-case hexadecimal digits."""
        return hashlib.sha256(self.artifact).hexdigest()


def choose_winner(
    results: Mapping[str, SearchResult], failures: Mapping[str, str]
) -> SearchResult:
    """Return the search with the best score; of equal scores the simpler family's.

    Parameters
    ----------
    results : mapping of str to SearchResult
        Searches that came to their end, by family.
    failures : mapping of str to str
        Why the others did not, by family.

    Raises
    ------
    SearchError
        If there is no result at all.
    """
    if not results:
        reasons = "; ".join(
            f"{family}: {reason}" for family, reason in failures.items()
        )
        raise SearchError(f"both searches failed. {reasons}")
    in_order = [results[name] for name in FAMILIES if name in results]
    return max(in_order, key=lambda result: result.best_score)


def make_candidate(
    plan: Plan,
    results: Mapping[str, SearchResult],
    failures: Mapping[str, str],
    *,
    train: Rows,
    holdout: Rows,
) -> Candidate:
    """Fit the winner on all training rows and score it, once, on the hold-out.

    Parameters
    ----------
    plan : Plan
        Plan of the run.
    results, failures : mapping
        As in `choose_winner`.
    train, holdout : Rows
        Rows that the plan refers to.

    Raises
    ------
    SearchError
        If every search failed.
    ArtifactError
        If the winner cannot be written down so that it answers the same when read.
    """
    schema, scoring = plan.schema, plan.settings.scoring
    winner = choose_winner(results, failures)
    final = fit(plan, winner, train)
    X = to_table(holdout.X, schema)
    _check_probabilities(final.pipeline.predict_proba(X), winner)
    probabilities = final.predictor.predict_proba(X)
    class_codes = range(len(schema.class_labels))
    metrics = evaluate(holdout.y, probabilities, class_codes, final.threshold)
    metrics[f"cv_best_{scoring}"] = winner.best_score
    if schema.is_binary:
        metrics["threshold"] = final.threshold
    provenance = Provenance(
        training_run_id=plan.run.run_id,
        data_sha256=plan.run.data_sha256,
        code_version=plan.run.code_version,
        library_versions=find_library_versions(),
        metrics=metrics,
    )
    golden = _choose_golden(holdout, probabilities)
    artifact = encode(final, schema, winner.family, golden, provenance)
    return Candidate(
        run=plan.run,
        schema=schema,
        schema_file=plan.schema_file,
        scoring=scoring,
        winner=winner,
        cv_table=make_cv_table(results),
        failures=dict(failures),
        finish=plan.finish,
        model=final.predictor,
        threshold=final.threshold,
        metrics=metrics,
        reliability=measure_reliability(holdout.y, probabilities),
        artifact=seal(artifact.SerializeToString(deterministic=True)),
        library_versions=provenance.library_versions,
    )


def _check_probabilities(
    probabilities: NDArray[np.float64], winner: SearchResult
) -> None:
    """Refuse what some of LightGBM's objectives answer in place of probabilities."""
    in_range = (probabilities >= 0).all() and (probabilities <= 1).all()
    if not in_range or np.abs(probabilities.sum(axis=1) - 1).max() > MAX_EXCESS:
        raise SearchError(
            f"the best candidate, {FAMILIES[winner.family].display_name} with "
            f"{winner.best_params}, answers no probabilities: they have to be in [0, 1] and to sum "
            f"to 1. Remove it from search.{winner.family}"
        )


def fit(plan: Plan, winner: SearchResult, train: Rows) -> FinalModel:
    """Return the winner, fitted on labels as the user writes them."""
    family, schema, settings = FAMILIES[winner.family], plan.schema, plan.settings
    recipe = Recipe(family, schema, settings.seed, settings.early_stopping_rounds)
    return fit_final_model(
        recipe.make_final_pipeline(winner.best_params),
        plan.finish,
        make_folds(train, settings.n_folds, settings.seed, settings.splitting),
        X=to_table(train.X, schema),
        labels=np.asarray(schema.class_labels)[train.y],
        fit_params=make_fit_params(train),
    )


def make_cv_table(results: Mapping[str, SearchResult]) -> pd.DataFrame:
    """Return every candidate of every family, a row each, times left out: they never repeat."""
    tables = []
    for family, result in results.items():
        columns = {
            key: values
            for key, values in result.cv_results.items()
            if key != "params" and not key.endswith("_time")
        }
        tables.append(pd.DataFrame({"family": family, **columns}))
    return pd.concat(tables, ignore_index=True)


def _choose_golden(holdout: Rows, probabilities: NDArray[np.float64]) -> ScoredRows:
    X = holdout.X
    if not isinstance(X, np.ndarray):
        rows = choose_golden_rows(holdout.y, np.zeros((len(holdout.y), 0), dtype=bool))
        return ScoredRows(X[rows].toarray(), probabilities[rows])
    rows = choose_golden_rows(holdout.y, np.isnan(X))
    return ScoredRows(np.asarray(X[rows]), probabilities[rows])
