"""A later run meets the champion's scored twin, on rows that neither has learned from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline

from training.data.encoding import to_table
from training.data.row_digests import list_learned
from training.data.rows import Rows, join_rows
from training.data.schema import Schema
from training.models.evaluation import evaluate
from training.models.grids import ParamGrid
from training.parameters import FlowParameters
from training.registry.comparison import score_model
from training.registry.learned_rows import read_learned
from training.registry.registration import Registration
from training.registry.tracking import register
from training.trained_model import TrainedModel

from training_support import make_rows, train_family

pytestmark = pytest.mark.slow

# Trees that remember the rows that they have learned from.
BY_HEART: dict[str, ParamGrid] = {
    "lightgbm": [
        {"n_estimators": [30], "num_leaves": [63], "min_child_samples": [2]},
    ]
}


def enroll(trained: TrainedModel, holdout: Rows) -> Registration:
    return register(trained, holdout, experiment="exp", model_name="churn")


def find_files(client: MlflowClient, version: str) -> Path:
    """Return the folder of a version's extra files, which a test may change."""
    uri = client.get_model_version_download_uri("churn", version)
    return Path(mlflow.artifacts.download_artifacts(uri), "extra_files")


def make_noisy(n_rows: int, seed: int = 0) -> tuple[Schema, Rows]:
    """Return rows whose labels are hardly better than a coin."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 5))
    chance = 1 / (1 + np.exp(-1.5 * X[:, 0]))
    y = (rng.random(n_rows) < chance).astype(np.int64)
    return make_rows()[0], Rows(X, y)


def take(rows: Rows, part: Any) -> Rows:
    return Rows(rows.X[part], rows.y[part])


@pytest.mark.parametrize("kind", [{}, {"sparse": True}], ids=["dense", "sparse"])
def test_the_twin_and_its_rows_are_in_the_version(
    kind: dict[str, Any], store: MlflowClient
) -> None:
    schema, train, holdout = make_rows(**kind)
    trained = train_family("lightgbm", schema, train, holdout)

    outcome = enroll(trained, holdout)

    files = find_files(store, outcome.version)
    twin = mlflow.sklearn.load_model(str(files / "scored_twin"))
    probabilities = twin.predict_proba(to_table(holdout.X, schema))
    again = evaluate(holdout.y, probabilities, [0, 1], trained.twin.threshold)
    logged = store.get_run(outcome.run_id).data
    assert logged.metrics.items() >= again.items()
    assert logged.params["final_fit"] == "all"
    learned = np.concatenate([*read_learned(files / "learned_rows.bin")])
    assert np.array_equal(learned, list_learned(train, schema))
    assert store.get_model_version("churn", "1").tags["final_fit"] == "all"


def test_a_model_of_the_training_rows_is_its_own_twin(store: MlflowClient) -> None:
    schema, train, holdout = make_rows()
    only_train = FlowParameters(final_fit="train")
    first = train_family("lightgbm", schema, train, holdout, parameters=only_train)

    enroll(first, holdout)
    outcome = enroll(
        train_family("lightgbm", schema, train, holdout, run_id="TrainFlow/2"), holdout
    )

    assert not (find_files(store, "1") / "scored_twin").exists()
    score = f"{first.metrics['holdout_roc_auc']:.6g}"
    assert outcome.reason.startswith(
        f"roc_auc {score} on the hold-out, version 1 has {score} (60 of 60 rows, which neither "
        "has learned from). The difference is +0 in [+0, +0] with 95 % confidence"
    )


def test_a_champion_is_not_judged_by_rows_that_it_learned_from(
    store: MlflowClient,
) -> None:
    """It knows half of the new hold-out by heart, and is worse on rows that are new to both."""
    schema, rows = make_noisy(1600)
    parts = np.split(np.random.default_rng(1).permutation(1600), [800, 1200])
    first, new, other = (take(rows, part) for part in parts)
    champion = train_family("lightgbm", schema, first, other, grids=BY_HEART)
    assert enroll(champion, other).alias == "champion"
    seen, train = take(first, slice(0, 300)), take(first, slice(300, None))
    holdout = join_rows(seen, new)
    challenger = train_family(
        "logistic_regression", schema, train, holdout, run_id="TrainFlow/2"
    )

    outcome = enroll(challenger, holdout)

    naive = [
        score_model(model, holdout, schema, "roc_auc")
        for model in (champion.estimator, champion.twin.estimator)
    ]
    challengers = score_model(challenger.twin.estimator, holdout, schema, "roc_auc")
    assert min(naive) > challengers
    assert outcome.alias == "champion"
    assert "(400 of 700 rows, which neither has learned from)" in outcome.reason
    fair = score_model(challenger.twin.estimator, new, schema, "roc_auc")
    assert f"roc_auc {fair:.6g} on the hold-out" in outcome.reason


def test_too_few_fresh_rows_make_a_challenger(store: MlflowClient) -> None:
    schema, train, holdout = make_rows()
    enroll(
        train_family("lightgbm", schema, join_rows(train, holdout), holdout), holdout
    )

    outcome = enroll(
        train_family("lightgbm", schema, train, holdout, run_id="TrainFlow/2"), holdout
    )

    assert outcome.alias == "challenger"
    assert (
        "version 1 cannot be compared on these rows: 0 of the 60 hold-out rows are new to both "
        "models, and 30 are needed; use the table and the --seed of the champion, or bring "
        "new rows. To promote by hand" in outcome.reason
    )


def test_duplicates_of_training_rows_are_left_out(store: MlflowClient) -> None:
    schema, train, holdout = make_rows()
    enroll(train_family("lightgbm", schema, train, holdout), holdout)
    twice = join_rows(holdout, take(train, slice(0, 10)))

    outcome = enroll(
        train_family("lightgbm", schema, train, twice, run_id="TrainFlow/2"), twice
    )

    assert "(60 of 70 rows, which neither has learned from)" in outcome.reason


def test_a_champion_older_than_the_twins_is_compared_as_it_was(
    store: MlflowClient,
) -> None:
    schema, train, holdout = make_rows()
    first = train_family("lightgbm", schema, train, holdout)
    enroll(first, holdout)
    store.delete_model_version_tag("churn", "1", "final_fit")

    outcome = enroll(
        train_family("lightgbm", schema, train, holdout, run_id="TrainFlow/2"), holdout
    )

    of_all = score_model(first.estimator, holdout, schema, "roc_auc")
    told = "all 60 rows; nobody knows which of them it has learned from"
    assert f"version 1 has {of_all:.6g} ({told})" in outcome.reason


def truncate(files: Path) -> None:
    path = files / "learned_rows.bin"
    path.write_bytes(path.read_bytes()[:-4])


def inflate(files: Path) -> None:
    with (files / "learned_rows.bin").open("r+b") as file:
        file.truncate(200 * 2**20)


def replace_digests(files: Path) -> None:
    (files / "learned_rows.bin").write_bytes(b"\x93NUMPY" + bytes(200))


def remove_digests(files: Path) -> None:
    (files / "learned_rows.bin").unlink()


def spoil_twin(files: Path) -> None:
    (files / "scored_twin" / "model.skops").write_bytes(b"no zip")


def spoil_description(files: Path) -> None:
    (files / "scored_twin" / "MLmodel").write_text("- no\n- model\n")


def remove_twin(files: Path) -> None:
    (files / "scored_twin").rename(files / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncate, "its learned_rows.bin was cut short or changed"),
        (inflate, "its learned_rows.bin was cut short or changed"),
        (replace_digests, "its learned_rows.bin has a format that is not known here"),
        (remove_digests, "its learned_rows.bin cannot be read (No such file"),
        (spoil_twin, "its scored twin cannot be loaded (BadZipFile)"),
        (spoil_description, "its scored twin cannot be loaded ("),
        (remove_twin, "its scored twin cannot be loaded ("),
    ],
)
def test_a_champion_whose_files_are_spoiled_stays(
    spoil: Callable[[Path], None], reason: str, store: MlflowClient
) -> None:
    schema, train, holdout = make_rows()
    enroll(train_family("lightgbm", schema, train, holdout), holdout)
    spoil(find_files(store, "1"))

    outcome = enroll(
        train_family("lightgbm", schema, train, holdout, run_id="TrainFlow/2"), holdout
    )

    assert outcome.alias == "challenger"
    assert f"version 1 cannot be compared on these rows: {reason}" in outcome.reason
    assert "To promote by hand" in outcome.reason


def register_foreign(classes: list[str], names: list[str]) -> None:
    """Make another program's model champion."""
    model = make_pipeline(DummyClassifier())
    model.fit(pd.DataFrame(0.0, range(len(classes)), names), classes)
    with mlflow.start_run(experiment_id="0"):
        mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name="churn",
            serialization_format="skops",
        )
    MlflowClient().set_registered_model_alias("churn", "champion", "1")


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ([f"class {number} {'x' * 90}" for number in range(1500)], list("abcde")),
        (["a\x1b[31m", "b"], [f"\x1b]0;{'y' * 20_000}{n}" for n in range(5)]),
    ],
    ids=["classes", "columns"],
)
def test_a_champion_with_endless_names_is_told_in_a_line(
    classes: list[str], names: list[str], store: MlflowClient
) -> None:
    """MLflow would refuse a tag of 100,000 characters, after hours of training."""
    register_foreign(classes, names)
    schema, train, holdout = make_rows()
    if len(classes) == 2:
        schema = replace(schema, class_labels=tuple(classes))

    outcome = enroll(train_family("lightgbm", schema, train, holdout), holdout)

    assert outcome.alias == "challenger" and len(outcome.reason) < 1000
    assert outcome.reason.isprintable()
    assert "version 1 cannot be compared on these rows: its c" in outcome.reason


def test_a_champion_of_an_unknown_fit_stays(store: MlflowClient) -> None:
    schema, train, holdout = make_rows()
    enroll(train_family("lightgbm", schema, train, holdout), holdout)
    store.set_model_version_tag("churn", "1", "final_fit", "half")

    outcome = enroll(
        train_family("lightgbm", schema, train, holdout, run_id="TrainFlow/2"), holdout
    )

    assert outcome.alias == "challenger"
    assert "its tag final_fit is 'half', which is not known here" in outcome.reason


def test_a_weak_twin_never_becomes_champion(store: MlflowClient) -> None:
    """The registered model may know the hold-out by heart; its twin does not."""
    rng = np.random.default_rng(0)
    schema, rows = make_noisy(600)
    rows = replace(rows, y=rng.permutation(rows.y))
    train, holdout = take(rows, slice(0, 400)), take(rows, slice(400, None))
    trained = train_family("lightgbm", schema, train, holdout, grids=BY_HEART)

    outcome = enroll(trained, holdout)

    assert score_model(trained.estimator, holdout, schema, "roc_auc") > 0.9
    assert outcome.alias == "challenger"
    assert trained.weakness and trained.weakness in outcome.reason
