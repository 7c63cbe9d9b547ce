"""An ensemble is the greedy mean of candidates on the folds, and is served as it was fitted."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline

from grpc_server.model import load_model
from grpc_server.model.loaded import LoadedModel
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.schema import Schema
from training.data.splitting import Splitting
from training.errors import SearchError
from training.models.averaging import make_average
from training.models.ensembles import (
    EnsembleSearch,
    check_ensemble,
    choose_greedily,
    make_judge,
)
from training.models.families import FAMILIES
from training.models.family_search import FamilySearch
from training.models.final_model import PostFit, fit_final_model
from training.models.grids import ParamGrid
from training.models.out_of_fold import predict_folds
from training.models.pipelines import PipelineFactory
from training.models.search_values import SearchResult, SearchSettings
from training.models.thresholds import parse_threshold
from training.models.winner import Winner
from training.parameters import FlowParameters
from training.plan import FileStore, TrainingRequest, make_plan
from training.registry.tracking import register
from training.report.vega import summarize
from training.trained_model import TrainedModel, train_model

from mixed_support import make_mixed_rows
from training_support import SETTINGS, make_rows, make_small_plan

GRIDS: dict[str, ParamGrid] = {
    "logistic_regression": [{"C": [0.1, 1.0]}],
    "lightgbm": [{"n_estimators": [20, 60], "colsample_bytree": [0.5, 1.0]}],
}
METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "neg_log_loss": lambda y, P: -log_loss(y, P, labels=[0, 1]),
    "roc_auc": lambda y, P: roc_auc_score(y, P[:, 1]),
    "accuracy": lambda y, P: accuracy_score(y, P[:, 1] > P[:, 0]),
}


def ignore(line: str) -> None:
    """Drop a line for the user."""


def search_all(
    schema: Schema,
    train: Rows,
    settings: SearchSettings,
    grids: Mapping[str, ParamGrid] = GRIDS,
) -> dict[str, SearchResult]:
    return {
        name: FamilySearch(FAMILIES[name], schema, grid, settings).run(
            train, report=ignore
        )
        for name, grid in grids.items()
    }


def train_ensemble(
    schema: Schema, train: Rows, holdout: Rows, **changes: Any
) -> TrainedModel:
    """Train with --ensemble 6, all searches included."""
    settings = replace(SETTINGS, scoring="neg_log_loss", **changes.pop("settings", {}))
    plan = make_small_plan(
        schema,
        settings=settings,
        parameters=FlowParameters(ensemble=6, **changes.pop("parameters", {})),
        **{"grids": GRIDS, **changes},
    )
    results = search_all(schema, train, settings, plan.grids)
    return train_model(plan, results, {}, train=train, holdout=holdout)


def serve(trained: TrainedModel, folder: Path) -> LoadedModel:
    (folder / "model.binpb").write_bytes(trained.artifact)
    return load_model(folder)


def select_plainly(
    answers: Sequence[np.ndarray], y: np.ndarray, tests: Any, scoring: str, n: int
) -> tuple[int, ...]:
    """Select as Caruana et al. describe it, with arrays of all rows and no sharing."""
    metric = METRICS[scoring]

    def score(picks: Sequence[int]) -> float:
        mean = np.sum([answers[pick] for pick in picks], axis=0) / len(picks)
        return float(np.mean([metric(y[test], mean[test]) for test in tests]))

    rounds: list[tuple[int, ...]] = [(0,)]
    while len(rounds) < n:
        trials = [(*rounds[-1], candidate) for candidate in range(len(answers))]
        rounds.append(trials[int(np.argmax([score(trial) for trial in trials]))])
    return rounds[int(np.argmax([score(picks) for picks in rounds]))]


@pytest.mark.parametrize("scoring", METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_the_choice_is_that_of_a_plain_implementation(scoring: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 120)
    second = 1 / (1 + np.exp(-(2 * y - 1 + rng.normal(0, 2, (7, 120)))))
    # Eighths, so that means are exact and equal scores are equal numbers.
    second = np.round(second * 6 + 1) / 8
    answers = [np.column_stack([1 - p, p]) for p in second]
    folds = tuple(StratifiedKFold(4).split(y, y))
    tests = [test for _, test in folds]

    picks, score, alone = choose_greedily(
        [tuple(a[test] for test in tests) for a in answers],
        make_judge(scoring, y, folds),
        4,
    )

    assert picks == select_plainly(answers, y, tests, scoring, 4)
    assert score >= alone
    assert picks[0] == 0


def test_a_mean_without_a_score_is_not_chosen() -> None:
    answers = [(np.array([[0.4, 0.6]]),), (np.array([[math.nan, math.nan]]),)]

    picks, score, alone = choose_greedily(answers, lambda a: float(a[0][0, 1]), 3)

    assert (picks, score, alone) == ((0,), 0.6, 0.6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_answers_on_the_folds_have_the_scores_of_the_search(
    family: str, n_classes: int
) -> None:
    schema, train, _ = make_rows(n_classes, missing=True)
    settings = replace(SETTINGS, scoring="neg_log_loss")
    search = FamilySearch(FAMILIES[family], schema, GRIDS[family], settings)
    result = search.run(train, report=ignore)
    judge = make_judge("neg_log_loss", train.y, search.split(train).splits)

    answers = predict_folds(search, train, n_threads=2)

    scores = [judge(answer) for answer in answers]
    expected = result.cv_results["mean_test_score"]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)


def test_prefixes_share_a_fit_to_the_last_bit() -> None:
    schema, train, _ = make_rows()
    grid: ParamGrid = [{"n_estimators": [40, 5, 20], "subsample": [0.8]}]
    search = FamilySearch(FAMILIES["lightgbm"], schema, grid, SETTINGS)
    factory = PipelineFactory(FAMILIES["lightgbm"], schema, SETTINGS.seed)
    data = search.split(train)

    answers = predict_folds(search, train)

    for params, of_folds in zip([40, 5, 20], answers, strict=True):
        for (fit, test), actual in zip(data.splits, of_folds, strict=True):
            alone = factory.make_search_pipeline().set_params(
                classifier__n_estimators=params, classifier__subsample=0.8
            )
            alone.fit(data.X[fit], data.y[fit])
            np.testing.assert_array_equal(actual, alone.predict_proba(data.X[test]))


@pytest.mark.parametrize("value", [1, -3, 10**9, 51])
def test_a_senseless_number_is_refused_with_what_is_allowed(value: int) -> None:
    with pytest.raises(SearchError, match=rf"--ensemble is {value}; .*\[2, 50\]"):
        check_ensemble(value)


def test_a_senseless_number_stops_before_the_table_is_read(tmp_path: Path) -> None:
    parameters = FlowParameters(data="there is none.csv", ensemble=1)
    request = TrainingRequest("TrainFlow/1", parameters, {}, "")

    with pytest.raises(SearchError, match="--ensemble is 1"):
        make_plan(request, FileStore(tmp_path, str, lambda url, folder: folder))


@pytest.mark.parametrize("value", [0, 2, 50])
def test_a_sensible_number_is_taken(value: int) -> None:
    check_ensemble(value)


def choose(
    results: dict[str, SearchResult], schema: Schema, train: Rows, n_rounds: int = 6
) -> Winner:
    best = max(results.values(), key=lambda result: result.best_score)
    settings = replace(SETTINGS, scoring="neg_log_loss")
    search = EnsembleSearch(schema, settings, n_rounds)
    return search.run(best, results, train, report=ignore)


def test_one_family_is_enough() -> None:
    schema, train, _ = make_rows()
    results = search_all(schema, train, replace(SETTINGS, scoring="neg_log_loss"))

    winner = choose({"lightgbm": results["lightgbm"]}, schema, train)

    assert {member.family for member in winner.members} == {"lightgbm"}
    assert winner.best_score >= results["lightgbm"].best_score - 1e-9


def test_candidates_without_a_score_are_left_out() -> None:
    """As with --max_minutes, which may leave a single complete candidate."""
    schema, train, _ = make_rows()
    (result,) = [search_all(schema, train, SETTINGS)["lightgbm"]]
    scores = np.full(4, np.nan)
    scores[result.best_index] = result.best_score
    few = replace(result, cv_results={**result.cv_results, "mean_test_score": scores})

    winner = choose({"lightgbm": few}, schema, train)

    assert not winner.is_ensemble
    assert winner.family == "lightgbm"
    assert winner.best_params == result.best_params
    assert "no mean of 1 candidates" in winner.note


def test_a_candidate_whose_answers_are_no_probabilities_is_no_member() -> None:
    schema, train, _ = make_rows(seed=1)
    grid: ParamGrid = [
        {"n_estimators": [20, 60], "objective": ["binary", "cross_entropy_lambda"]}
    ]
    settings = replace(SETTINGS, scoring="roc_auc")
    result = search_all(schema, train, settings, {"lightgbm": grid})["lightgbm"]
    binary = [p["objective"] == "binary" for p in result.cv_results["params"]]
    best = replace(
        result,
        best_index=int(
            np.argmax(np.where(binary, result.cv_results["mean_test_score"], -1))
        ),
    )

    winner = EnsembleSearch(schema, settings, 6).run(
        best, {"lightgbm": best}, train, report=ignore
    )

    assert {m.params["objective"] for m in winner.members} == {"binary"}
    assert "of 2 candidates" in winner.note


def test_answers_are_bounded_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    schema, train, _ = make_rows()
    results = search_all(schema, train, SETTINGS)
    # Two candidates of each family: 240 rows of two classes, 8 bytes each.
    monkeypatch.setattr(
        "training.models.ensembles.MAX_BYTES", 2 * 2 * len(train.y) * 2 * 8
    )
    lines: list[str] = []

    EnsembleSearch(schema, SETTINGS, 2).run(
        results["lightgbm"], results, train, report=lines.append
    )

    assert ["best 2 candidates" in line for line in lines] == [True, True]


@pytest.mark.parametrize(
    ("n_classes", "case"),
    [
        (2, {}),
        (2, {"post_fit": PostFit("isotonic")}),
        (2, {"post_fit": PostFit("none", parse_threshold("f1"))}),
        (2, {"post_fit": PostFit("sigmoid", parse_threshold("f1"))}),
        (3, {"parameters": {"final_fit": "train"}}),
        (3, {"post_fit": PostFit("sigmoid")}),
        (3, {"settings": {"early_stopping_rounds": 5}}),
    ],
    ids=str,
)
def test_the_server_answers_as_the_ensemble(
    n_classes: int, case: dict[str, Any], tmp_path: Path
) -> None:
    schema, train, holdout = make_rows(n_classes, missing=True, seed=1)

    trained = train_ensemble(schema, train, holdout, **case)

    assert trained.winner.is_ensemble
    model, X = serve(trained, tmp_path), np.array(train.X)
    assert len(model.members) == len(trained.winner.members)
    batch, table = model.estimator.predict_batch(X), to_table(X, schema)
    rows = [list(model.estimator.predict_probabilities(row)) for row in X.tolist()]
    assert rows == batch.tolist()
    np.testing.assert_allclose(
        batch, trained.estimator.predict_proba(table), rtol=0, atol=1e-12
    )
    decided = [model.classes.labels[p] for p in model.classes.decide_batch(batch)]
    assert decided == list(map(str, trained.estimator.predict(table)))


def test_weights_and_cuts_by_time_apply_to_members(tmp_path: Path) -> None:
    schema, train, holdout = make_rows(seed=1)
    rng = np.random.default_rng(0)
    train = replace(train, weight=rng.random(len(train.y)))
    holdout = replace(holdout, weight=rng.random(len(holdout.y)))

    trained = train_ensemble(
        schema, train, holdout, settings={"splitting": Splitting.TIMED}
    )

    members = trained.winner.members
    assert len(members) > 1
    model = serve(trained, tmp_path)
    expected = trained.estimator.predict_proba(to_table(holdout.X, schema))
    np.testing.assert_allclose(
        model.estimator.predict_batch(np.array(holdout.X)), expected, rtol=0, atol=1e-12
    )


def test_weights_by_class_of_a_member_are_put_right() -> None:
    schema, train, holdout = make_rows(seed=1)
    settings = replace(SETTINGS, scoring="roc_auc")
    grids: dict[str, ParamGrid] = {
        "lightgbm": [{**GRIDS["lightgbm"][0], "class_weight": ["balanced"]}],
        "logistic_regression": GRIDS["logistic_regression"],
    }
    results = search_all(schema, train, settings, grids)
    plan = make_small_plan(
        schema, settings=settings, parameters=FlowParameters(ensemble=6)
    )

    trained = train_model(plan, results, {}, train=train, holdout=holdout)

    assert trained.winner.is_ensemble
    assert ModelArtifact.FromString(trained.artifact).HasField("calibration")
    assert "class_weight balanced shifts them" in summarize(trained)


def test_the_ensemble_is_no_worse_on_the_folds_and_says_so() -> None:
    schema, train, holdout = make_rows(3, seed=1)

    trained = train_ensemble(schema, train, holdout)

    winner, text = trained.winner, summarize(trained)
    assert trained.metrics["cv_best_neg_log_loss"] == winner.best_score
    assert winner.best_score > trained.metrics["cv_best_single_neg_log_loss"]
    assert f"An ensemble of {len(winner.members)} of 6 candidates" in text
    for member in winner.members:
        assert f"{member.count}/{sum(winner.counts)} " in text
        assert f"with {dict(member.params)}" in text
    provenance = ModelArtifact.FromString(trained.artifact).provenance
    assert (provenance.family, provenance.display_name) == ("ensemble", "Ensemble")


class Constant(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """A classifier with the same probability of the second class for every row."""

    def __init__(self, second: float = 0.5) -> None:
        self.second = second

    def fit(self, X: Any, y: Any) -> "Constant":
        """Learn the classes."""
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities, shape (n_rows, 2)."""
        return np.array([[1 - self.second, self.second]] * len(X))


def test_a_tie_is_decided_as_the_server_decides() -> None:
    """Both means are rounded to the number after 0.5; the server predicts the second class."""
    seconds = [0.523472881529053, 0.9029247735170858, 0.08925093263989652]
    pipelines = [Pipeline([("classifier", Constant(second))]) for second in seconds]
    X, y = np.zeros((4, 1)), np.array([0, 1, 0, 1])

    model = fit_final_model(
        make_average(pipelines, [1, 3, 3]),
        PostFit(),
        (),
        X=X,
        y=y,
        class_labels=("no", "yes"),
    )

    assert model.pipeline.predict_proba(X)[0].tolist() == [np.nextafter(0.5, 1)] * 2
    assert set(model.predictor.predict(X)) == {"yes"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_classes", "grids"),
    [
        (2, {"lightgbm": GRIDS["lightgbm"]}),
        (3, {**GRIDS, "logistic_regression": [{"C": [0.003]}]}),
    ],
    ids=["trees", "both families"],
)
def test_a_table_of_all_kinds_is_answered_by_registry_and_server_alike(
    n_classes: int, grids: dict[str, ParamGrid], store: MlflowClient, tmp_path: Path
) -> None:
    raw, schema, train, holdout = make_mixed_rows(n_classes)
    trained = train_ensemble(schema, train, holdout, grids=grids)
    assert trained.winner.is_ensemble

    outcome = register(trained, holdout, experiment="exp", model_name="mixed")
    artifact = ModelArtifact.FromString(trained.artifact)

    uri = f"models:/mixed/{outcome.version}"
    registered, model = mlflow.sklearn.load_model(uri), serve(trained, tmp_path)
    expected = registered.predict_proba(raw)
    batch = model.estimator.predict_batch(np.array(holdout.X))
    # Members of trees alone give the same bits.
    is_linear = any(
        m.HasField("logistic_regression") for m in artifact.ensemble.members
    )
    np.testing.assert_allclose(batch, expected, rtol=0, atol=1e-12 * is_linear)
    labels = mlflow.pyfunc.load_model(uri).predict(raw)
    positions = model.classes.decide_batch(batch)
    assert [str(x) for x in labels] == [model.classes.labels[p] for p in positions]
    run = store.get_run(outcome.run_id)
    assert run.data.tags["family"] == "ensemble"
    members = [run.data.params[f"member_{i + 1}"] for i in range(len(model.members))]
    for member, text in zip(trained.winner.members, members, strict=True):
        assert text.startswith(f"{member.count}/{sum(trained.winner.counts)} ")
        assert member.family in text
