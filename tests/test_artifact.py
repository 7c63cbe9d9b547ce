"""Artifacts are complete and answer as the fitted model; training refuses all others."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from grpc_server.model.schema import InputSchema
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.artifact.encoding import encode
from training.artifact.golden import MAX_GOLDEN_EXAMPLES, ScoredRows, choose_golden_rows
from training.artifact.provenance import (
    Provenance,
    find_code_version,
    find_library_versions,
)
from training.data.schema import Feature, Schema
from training.errors import ArtifactError, SearchError
from training.models.families import LIGHTGBM
from training.models.family_search import FamilySearch
from training.models.grids import ParamGrid
from training.models.pipelines import PipelineFactory
from training.models.search_values import SearchSettings
from training.trained_model import train_model

from training_support import as_final, make_rows, make_small_plan, train_family

PROVENANCE = Provenance(
    "TrainFlow/1", "ab", "", {}, {}, datetime(2026, 1, 2, tzinfo=UTC)
)


@pytest.mark.parametrize("family", ["logistic_regression", "lightgbm"])
def test_an_artifact_is_complete(family: str) -> None:
    schema, train, holdout = make_rows(3, missing=True)
    trained = train_family(family, schema, train, holdout)

    artifact = ModelArtifact.FromString(trained.artifact)

    assert [f.name for f in artifact.input_schema.features] == list(
        schema.feature_names
    )
    assert [f.nullable for f in artifact.input_schema.features] == list(schema.nullable)
    assert list(artifact.class_labels.strings.values) == list(schema.class_labels)
    assert not artifact.HasField("threshold")
    estimators = {"lightgbm": "boosted_trees"}
    assert artifact.WhichOneof("estimator") == estimators.get(family, family)
    provenance = artifact.provenance
    assert provenance.family == family
    assert provenance.training_run_id == "TrainFlow/1"
    assert provenance.data_sha256 == "ab" * 32
    assert provenance.code_version == "c0ffee"
    assert set(provenance.library_versions) >= {"lightgbm", "scikit-learn", "numpy"}
    assert provenance.metrics["holdout_roc_auc"] == trained.metrics["holdout_roc_auc"]
    assert len(artifact.golden_examples) >= MAX_GOLDEN_EXAMPLES
    assert {example.label for example in artifact.golden_examples} <= set(
        schema.class_labels
    )


def test_what_a_log_may_hold_of_a_column_goes_to_the_server(tmp_path: Path) -> None:
    schema, train, holdout = make_rows()
    rules = ["", "drop", "hash"]
    features = tuple(
        replace(feature, redaction=rule)
        for feature, rule in zip(schema.features, cycle(rules))
    )
    trained = train_family(
        "lightgbm", replace(schema, features=features), train, holdout
    )

    artifact = ModelArtifact.FromString(trained.artifact)
    artifact.input_schema.features[3].redaction = 9  # type: ignore[assignment]
    served = InputSchema.from_message(artifact.input_schema)

    # What the server does not know is taken for the strictest rule.
    assert [f.redaction for f in served.features][:4] == [*rules, "drop"]


def test_two_classes_have_a_threshold_and_integer_labels() -> None:
    schema, train, holdout = make_rows()

    artifact = ModelArtifact.FromString(
        train_family("lightgbm", schema, train, holdout).artifact
    )

    assert artifact.threshold == 0.5
    assert list(artifact.class_labels.integers.values) == [0, 1]


def test_golden_rows_are_spread_and_hold_every_class_and_a_missing_value() -> None:
    y = np.zeros(1000, dtype=np.int64)
    y[501], y[502] = 1, 2
    is_missing = np.zeros((1000, 3), dtype=bool)
    is_missing[777:, 0] = is_missing[888:, 2] = True

    rows = choose_golden_rows(y, is_missing)

    assert {0, 501, 502, 777, 888, 999} <= set(rows.tolist())
    assert len(rows) == MAX_GOLDEN_EXAMPLES + 4
    assert (np.diff(rows) > 0).all()


def test_a_model_whose_terms_cancel_is_refused() -> None:
    """Centring keeps a large mean exact, but no sum can hold coefficients of extreme size."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2)) * [1e-9, 1]
    y = (X[:, 1] > 0).astype(int)
    classifier = LogisticRegression(C=1e9, max_iter=5000).fit(X, y)
    scaler = StandardScaler().fit(X)
    pipeline = Pipeline([("preprocess", scaler), ("classifier", classifier)])
    schema = Schema((Feature("a"), Feature("b")), (0, 1))
    wrong = np.full((50, 2), 0.5)

    with pytest.raises(ArtifactError, match="differ by .* from scikit-learn's"):
        encode(
            as_final(pipeline),
            schema,
            "logistic_regression",
            ScoredRows(X, wrong),
            PROVENANCE,
        )


def test_a_large_mean_costs_no_digits() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) + [1e9, -1e6]
    y = (X[:, 0] - 1e9 + rng.normal(size=200) > 0).astype(int)
    pipeline = Pipeline(
        [("preprocess", StandardScaler()), ("classifier", LogisticRegression())]
    ).fit(X, y)
    schema = Schema((Feature("a"), Feature("b")), (0, 1))
    golden = ScoredRows(X, pipeline.predict_proba(X))

    artifact = encode(
        as_final(pipeline), schema, "logistic_regression", golden, PROVENANCE
    )

    assert len(artifact.golden_examples) == 200


def test_the_code_version_is_the_commit_or_empty(tmp_path: Path) -> None:
    assert find_code_version(tmp_path) == ""
    assert find_code_version(tmp_path / "nowhere") == ""


def test_the_code_version_tells_changes(tmp_path: Path) -> None:
    import subprocess

    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        (tmp_path / "file").write_text("1")
        subprocess.run([*git, *arguments], check=True)
    clean = find_code_version(tmp_path)
    (tmp_path / "file").write_text("2")

    assert len(clean) == 40
    assert find_code_version(tmp_path) == f"{clean}-dirty"


def test_library_versions_are_the_installed_ones() -> None:
    import sklearn

    assert find_library_versions()["scikit-learn"] == sklearn.__version__


@pytest.mark.parametrize(
    ("n_classes", "objective"), [(2, "cross_entropy_lambda"), (3, "multiclassova")]
)
def test_an_objective_without_probabilities_is_named(
    n_classes: int, objective: str
) -> None:
    schema, train, holdout = make_rows(n_classes)
    settings = SearchSettings("accuracy", 3, 0)
    grid: ParamGrid = [{"objective": [objective], "n_estimators": [20]}]
    result = FamilySearch(LIGHTGBM, schema, grid, settings).run(
        train, report=lambda line: None
    )
    plan = make_small_plan(schema, settings=settings)

    with pytest.raises(SearchError, match=f"{objective}.*predicts no probabilities"):
        train_model(plan, {"lightgbm": result}, {}, train=train, holdout=holdout)


def test_an_artifact_that_answers_otherwise_is_refused() -> None:
    schema, train, holdout = make_rows()
    X = np.asarray(holdout.X)
    pipeline = PipelineFactory(LIGHTGBM, schema, 0).make_search_pipeline()
    pipeline.fit(train.X, train.y)
    wrong = ScoredRows(X, np.full((len(X), 2), 0.5))

    with pytest.raises(ArtifactError, match="do not give the probabilities"):
        encode(as_final(pipeline), schema, "lightgbm", wrong, PROVENANCE)
