"""The model of a run: chosen, fitted, scored once on the hold-out, and written as an artifact.

training rows ──▶ scored twin ──▶ metrics on the hold-out
all rows ──▶ registered model ──▶ artifact
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from prediction.artifact import seal
from training.artifact.encoding import encode
from training.artifact.golden import take_golden
from training.artifact.provenance import Provenance, find_library_versions
from training.artifact.reference import describe_reference, describe_scores
from training.data.disk import Scratch
from training.data.encoding import to_table
from training.data.row_digests import list_learned
from training.data.rows import Rows, join_rows
from training.data.splitting import NO_FOLDS, Splitting, make_folds
from training.errors import SearchError
from training.models.averaging import make_average
from training.models.baseline import find_weakness
from training.models.ensembles import OFF, EnsembleSearch
from training.models.evaluation import (
    CALIBRATION_ERROR,
    PREFIX,
    Bin,
    are_probabilities,
    evaluate,
    measure_reliability,
)
from training.models.families import FAMILIES, find_display_name
from training.models.final_model import (
    FinalModel,
    PostFit,
    correct_class_weight,
    fit_final_model,
)
from training.models.importance import measure_importance
from training.models.pipelines import PipelineFactory, make_fit_params
from training.models.scored_twin import TRAIN, ScoredTwin
from training.models.search_values import SearchResult, make_cv_table
from training.models.served_latency import ServedLatency
from training.models.winner import Member, Winner, make_single
from training.plan import Plan


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel:
    """A fitted model that is ready to be registered.

    Parameters
    ----------
    plan : Plan
        Plan of the run that it comes from.
    winner : Winner
        The candidate that it is, or those that it averages.
    cv_table : DataFrame, shape (n_candidates, n_columns)
        Every candidate of every family, one row each.
    failures : mapping of str to str
        Why a family has no candidate, by the family's name.
    estimator : estimator
        The model that is registered and served; predicts labels. It has learned from all rows, or
        is the twin's estimator.
    threshold : float
        Its threshold between two classes, [0, 1].
    twin : ScoredTwin
        The model that has not seen the hold-out.
    metrics : mapping of str to float
        The twin's metrics on the hold-out and the winner's score on the folds, by name.
    reliability : tuple of Bin
        Points of the twin's reliability curve on the hold-out.
    artifact : bytes
        The artifact that the server reads, serialised.
    library_versions : mapping of str to str
        Versions of the libraries that fitted it, by name.
    weakness : str
        Why the twin is no better than the class shares; empty if it is better.
    latency : ServedLatency or None
        Time that the server's code takes for one row with the artifact; None if it was not
        measured.
    """

    plan: Plan
    winner: Winner
    cv_table: pd.DataFrame
    failures: Mapping[str, str]
    estimator: BaseEstimator
    threshold: float
    twin: ScoredTwin
    metrics: Mapping[str, float]
    reliability: tuple[Bin, ...]
    artifact: bytes
    library_versions: Mapping[str, str]
    weakness: str = ""
    latency: ServedLatency | None = None

    @property
    def figures(self) -> Mapping[str, float]:
        """All that MLflow keeps as metrics: those of the hold-out, and the latency."""
        return {**self.metrics, **(self.latency.figures if self.latency else {})}

    @property
    def artifact_sha256(self) -> str:
        """SHA-256 of the artifact in lower-case hexadecimal digits."""
        return hashlib.sha256(self.artifact).hexdigest()


def choose_winner(
    results: Mapping[str, SearchResult], failures: Mapping[str, str]
) -> SearchResult:
    """Return the search with the best score; a tie goes to the simpler family.

    Parameters
    ----------
    results : mapping of str to SearchResult
        Results of the searches that ended well, by family.
    failures : mapping of str to str
        Why the other searches failed, by family.

    Returns
    -------
    SearchResult
        One of the results.

    Raises
    ------
    SearchError
        If there is no result.
    """
    if not results:
        reasons = "; ".join(
            f"{family}: {reason}" for family, reason in failures.items()
        )
        raise SearchError(f"both searches failed. {reasons}")
    in_order = [results[name] for name in FAMILIES if name in results]
    return max(in_order, key=lambda result: result.best_score)


def train_model(
    plan: Plan,
    results: Mapping[str, SearchResult],
    failures: Mapping[str, str],
    *,
    train: Rows,
    holdout: Rows,
    scratch: Scratch | None = None,
) -> TrainedModel:
    """Fit the winner on the training rows, score it once on the hold-out, and fit it on all rows.

    Parameters
    ----------
    plan : Plan
        Plan of the run.
    results, failures : mapping
        As in `choose_winner`.
    train, holdout : Rows
        Rows that the plan refers to.
    scratch : Scratch, optional
        Where rows are kept if they are large; without it, all is in memory. The model is the same.

    Returns
    -------
    TrainedModel
        The winner, with its metrics and its artifact.

    Raises
    ------
    SearchError
        If every search failed, or the winner does not predict probabilities.
    ArtifactError
        If the artifact would not answer as the winner does.
    """
    winner = find_winner(plan, results, failures, train)
    scored = fit_winner(plan, winner, train, scratch)
    probabilities = _predict(plan, winner, scored, holdout)
    learned = train
    if plan.run.parameters.final_fit == TRAIN:
        final, answers = scored, probabilities
    else:
        learned = join_rows(train, holdout, scratch=scratch)
        final = fit_winner(plan, winner, learned, scratch)
        answers = _predict(plan, winner, final, holdout)
    metrics = _measure(plan, winner, scored, holdout.y, probabilities)
    metrics |= _tell_thresholds(plan, scored, final)
    provenance = Provenance(
        training_run_id=plan.run.run_id,
        data_sha256=plan.run.data_sha256,
        code_version=plan.run.code_version,
        library_versions=find_library_versions(),
        metrics=metrics,
    )
    golden = take_golden(holdout, answers)
    artifact = encode(final, plan.schema, winner.family, golden, provenance)
    artifact.reference.CopyFrom(
        describe_reference(
            learned,
            plan.schema,
            measure_importance(final, plan.schema, learned),
            describe_scores(probabilities, holdout.weight),
            metrics[CALIBRATION_ERROR],
        )
    )
    return TrainedModel(
        plan=plan,
        winner=winner,
        cv_table=make_cv_table(results),
        failures=dict(failures),
        estimator=final.predictor,
        threshold=final.threshold,
        twin=ScoredTwin(
            scored.predictor, scored.threshold, list_learned(train, plan.schema)
        ),
        metrics=metrics,
        reliability=measure_reliability(holdout.y, probabilities),
        artifact=seal(artifact.SerializeToString(deterministic=True)),
        library_versions=provenance.library_versions,
        weakness=find_weakness(
            train.y, holdout.y, probabilities, metrics[f"{PREFIX}roc_auc"]
        ),
    )


def find_winner(
    plan: Plan,
    results: Mapping[str, SearchResult],
    failures: Mapping[str, str],
    train: Rows,
) -> Winner:
    """Return the best candidate, or the ensemble that answers the folds better.

    Parameters
    ----------
    plan : Plan
        Plan of the run, which says whether to try an ensemble.
    results, failures : mapping
        As in `choose_winner`.
    train : Rows
        Rows that the searches have learned from.

    Returns
    -------
    Winner
        What the run fits at the end.

    Raises
    ------
    SearchError
        If there is no result.
    """
    best, n_rounds = choose_winner(results, failures), plan.run.parameters.ensemble
    if n_rounds == OFF:
        return make_single(best)
    search = EnsembleSearch(plan.schema, plan.settings, n_rounds)
    return search.run(best, results, train)


def _predict(
    plan: Plan, winner: Winner, model: FinalModel, rows: Rows
) -> NDArray[np.float64]:
    """Return a model's probabilities, shape (n_rows, n_classes), after a check."""
    X = to_table(rows.X, plan.schema)
    _check_probabilities(model.pipeline.predict_proba(X), winner)
    return np.asarray(model.predictor.predict_proba(X))


def _check_probabilities(probabilities: NDArray[np.float64], winner: Winner) -> None:
    """Refuse a model whose predictions are not probabilities."""
    if not are_probabilities(probabilities):
        raise SearchError(
            f"the best candidate, {find_display_name(winner.members[0].family)} with "
            f"{winner.best_params}, predicts no probabilities, which are in [0, 1] and sum to 1; "
            f"remove it from search.{winner.members[0].family}"
        )


def _measure(
    plan: Plan,
    winner: Winner,
    scored: FinalModel,
    y: NDArray[np.int64],
    probabilities: NDArray[np.float64],
) -> dict[str, float]:
    """Return the metrics on the hold-out and the winner's score on the folds."""
    class_codes = range(len(plan.schema.class_labels))
    metrics = evaluate(y, probabilities, class_codes, scored.threshold)
    metrics[f"cv_best_{plan.settings.scoring}"] = winner.best_score
    if winner.is_ensemble:
        metrics[f"cv_best_single_{plan.settings.scoring}"] = winner.members[0].score
    return metrics


def _tell_thresholds(
    plan: Plan, scored: FinalModel, final: FinalModel
) -> dict[str, float]:
    """Return the registered model's threshold, and that of the hold-out where it is another."""
    if not plan.schema.is_binary:
        return {}
    own = {"threshold": final.threshold}
    if scored.threshold == final.threshold:
        return own
    return {**own, f"{PREFIX}threshold": scored.threshold}


def fit_winner(
    plan: Plan, winner: Winner, rows: Rows, scratch: Scratch | None = None
) -> FinalModel:
    """Fit the winner on rows, with its calibration and its threshold on folds of these rows.

    Parameters
    ----------
    plan : Plan
        Plan of the run.
    winner : Winner
        The candidate that is fitted, or those that are averaged.
    rows : Rows
        Rows to learn from: the training rows, or all.
    scratch : Scratch, optional
        Where rows are kept if they are large; without it, all is in memory.

    Returns
    -------
    FinalModel
        It predicts labels as the user writes them.
    """
    schema, settings = plan.schema, plan.settings
    is_large = scratch is not None and rows.X.data.nbytes >= scratch.large_bytes
    pipelines = [_make_pipeline(plan, member) for member in winner.members]
    post_fit, folds = find_post_fit(plan, winner), NO_FOLDS
    if post_fit.needs_folds:
        folds = make_folds(rows, settings.n_folds, settings.seed, settings.splitting)
    return fit_final_model(
        make_average(pipelines, winner.counts),
        post_fit,
        folds,
        # Without folds, each column or each row is seen by itself, so the layout does not matter.
        X=to_table(rows.X, schema, copy=post_fit.needs_folds or not is_large),
        y=rows.y,
        class_labels=schema.class_labels,
        fit_params=make_fit_params(rows),
        scratch=scratch,
    )


def _make_pipeline(plan: Plan, member: Member) -> Pipeline:
    factory = PipelineFactory(
        FAMILIES[member.family],
        plan.schema,
        plan.settings.seed,
        plan.settings.early_stopping_rounds,
    )
    return factory.make_final_pipeline(member.params)


def find_post_fit(plan: Plan, winner: Winner) -> PostFit:
    """Return the steps after the winner's fit: those of the plan, and what its weights need.

    Parameters
    ----------
    plan : Plan
        Plan of the run.
    winner : Winner
        The candidate that is fitted, or those that are averaged.

    Returns
    -------
    PostFit
        Calibration and threshold.
    """
    counts_each_row_once = (
        plan.train.weight is None and plan.settings.splitting != Splitting.TIMED
    )
    return correct_class_weight(
        plan.post_fit, winner.class_weight, can_calibrate=counts_each_row_once
    )
