"""Training and serving together: the server answers as the model that training wrote."""

from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from grpc_server.model import load_model
from prediction import PredictionClient
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import PredictRequest
from training.data.dataset import load_dataset
from training.data.encoding import to_table
from training.data.rows import Rows
from training.data.splitting import split_holdout
from training.models.families import LIGHTGBM
from training.models.final_model import PostFit
from training.models.pipelines import PipelineFactory, unwrap
from training.models.search_values import SearchSettings
from training.models.thresholds import EVEN, LowestCost

from support import connect, running_server, write_artifact
from training_support import make_rows, train_family

TOLERANCES = {"logistic_regression": 1e-12, "lightgbm": 0.0}


@pytest.mark.parametrize("kind", ["plain", "missing", "sparse"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("family", TOLERANCES)
def test_the_server_answers_as_the_libraries_of_the_training(
    family: str, n_classes: int, kind: str, tmp_path: Path
) -> None:
    schema, train, holdout = make_rows(
        n_classes, missing=kind == "missing", sparse=kind == "sparse"
    )
    trained = train_family(family, schema, train, holdout)
    expected = trained.estimator.predict_proba(to_table(holdout.X, schema))
    labels = trained.estimator.predict(to_table(holdout.X, schema))

    artifact = ModelArtifact.FromString(trained.artifact)
    model = load_model(write_artifact(tmp_path, artifact))

    X = holdout.X if isinstance(holdout.X, np.ndarray) else holdout.X.toarray()
    rows = [model.input_schema.row_from_features(row) for row in X.tolist()]
    actual = np.array([model.estimator.predict_probabilities(row) for row in rows])
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCES[family])
    decided = [
        model.classes.labels[model.classes.decide(row)] for row in actual.tolist()
    ]
    assert decided == [str(label) for label in labels]


@pytest.mark.parametrize(
    "labels", [(0, 1), (3, 7), ("no", "yes"), ("high", "low", "mid")]
)
@pytest.mark.parametrize("family", TOLERANCES)
def test_early_stopping_is_in_the_artifact(
    family: str, labels: tuple[int, ...] | tuple[str, ...], tmp_path: Path
) -> None:
    """Early stopping watches rows with labels, so text labels must not change it."""
    schema, train, holdout = make_rows(len(labels))
    schema = replace(schema, class_labels=labels)
    scoring = "roc_auc" if schema.is_binary else "roc_auc_ovr"
    settings = SearchSettings(scoring, 3, 0, early_stopping_rounds=2)
    trained = train_family(family, schema, train, holdout, settings=settings)
    expected = trained.estimator.predict_proba(to_table(holdout.X, schema))

    model = load_model(
        write_artifact(tmp_path, ModelArtifact.FromString(trained.artifact))
    )

    actual = [model.estimator.predict_probabilities(row) for row in holdout.X.tolist()]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCES[family])


def test_where_lightgbm_stops_does_not_depend_on_how_labels_are_written() -> None:
    schema, train, _ = make_rows()
    pipelines = [
        PipelineFactory(LIGHTGBM, schema, 0, 3)
        .make_search_pipeline()
        .fit(train.X, labels)
        for labels in (train.y, train.y + 5, np.array(["a", "b"])[train.y])
    ]

    stops = [unwrap(pipeline)[-1].best_iteration_ for pipeline in pipelines]

    assert stops[0] < 100
    assert stops == [stops[0]] * 3


@pytest.mark.parametrize("family", TOLERANCES)
def test_every_row_of_the_embedded_data_set_is_answered_alike_over_the_wire(
    family: str, tmp_path: Path
) -> None:
    dataset = load_dataset("breast_cancer", "target")
    split = split_holdout(dataset, 0.2, 3, 0)
    train, holdout = (
        Rows(dataset.X[rows], dataset.y[rows]) for rows in (split.train, split.holdout)
    )
    trained = train_family(family, dataset.schema, train, holdout)
    expected = trained.estimator.predict_proba(to_table(dataset.X, dataset.schema))
    folder = write_artifact(tmp_path, ModelArtifact.FromString(trained.artifact))

    with running_server(folder) as server, connect(server) as stub:
        responses = [stub.Predict(PredictRequest(features=row)) for row in dataset.X]

    actual = [response.probabilities for response in responses]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCES[family])
    assert [r.prediction for r in responses] == expected.argmax(axis=1).tolist()


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("family", TOLERANCES)
def test_calibration_and_threshold_are_answered_over_the_wire(
    family: str, method: str, n_classes: int, tmp_path: Path
) -> None:
    schema, train, holdout = make_rows(n_classes, missing=True)
    post_fit = PostFit(method, LowestCost(5, 1) if n_classes == 2 else EVEN)
    trained = train_family(family, schema, train, holdout, post_fit=post_fit)
    X = to_table(holdout.X, schema)
    folder = write_artifact(tmp_path, ModelArtifact.FromString(trained.artifact))

    with running_server(folder) as server:
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            answers = [
                client.predict([None if isnan(value) else value for value in row])
                for row in holdout.X
            ]
            model = client.get_model()

    expected = trained.estimator.predict_proba(X)
    actual = [answer.probabilities for answer in answers]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)
    labels = [str(label) for label in trained.estimator.predict(X)]
    assert [answer.label for answer in answers] == labels
    assert model.threshold == (trained.threshold if n_classes == 2 else None)
    if n_classes == 2:
        assert trained.threshold < 0.4
        assert labels != [str(label) for label in expected.argmax(axis=1)]
