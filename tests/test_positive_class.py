"""The class that matters, as the user names it, from the flag to the answer."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, recall_score

from prediction import PredictionClient
from training.data.dataset import load_dataset
from training.data.encoding import to_table
from training.data.positive import put_positive_last
from training.data.rows import Rows
from training.data.schema import Schema
from training.errors import DataError, SearchError
from training.models.class_labels import check_class_weight
from training.models.families import FAMILIES
from training.models.family_search import FamilySearch
from training.models.final_model import PostFit
from training.models.grids import ParamGrid, parse_grids
from training.models.thresholds import parse_threshold
from training.registry.comparison import NotComparable, score_model
from training.trained_model import TrainedModel

from support import running_server
from training_support import SETTINGS, make_rows, train_family

FRAUD = ("fraud", "legit")


def flip(schema: Schema, rows: Rows) -> tuple[Schema, Rows]:
    """Return the same rows with the first label as the positive class."""
    first, second = FRAUD
    return replace(schema, class_labels=(second, first)), replace(rows, y=1 - rows.y)


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def train_fraud(family: str, **changes: Any) -> tuple[TrainedModel, Rows]:
    schema, train, holdout = make_rows()
    flipped, train = flip(schema, train)
    _, holdout = flip(schema, holdout)
    return train_family(family, flipped, train, holdout, **changes), holdout


def write(folder: Path, labels: list[Any]) -> str:
    path = folder / "table.csv"
    frame = pd.DataFrame({"x": np.arange(len(labels)) / 7, "target": labels})
    frame.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(
    ("labels", "positive", "expected"),
    [
        (["fraud", "legit"], "", ("fraud", "legit")),
        (["fraud", "legit"], "legit", ("fraud", "legit")),
        (["fraud", "legit"], "fraud", ("legit", "fraud")),
        ([0, 1], "0", (1, 0)),
        ([-1, 1], "-1", (1, -1)),
        (["a", "b", "c"], "", ("a", "b", "c")),
    ],
)
def test_the_positive_class_is_the_last(
    labels: list[Any], positive: str, expected: tuple[Any, ...], tmp_path: Path
) -> None:
    table = labels * 4
    dataset = put_positive_last(
        load_dataset(write(tmp_path, table), "target"), positive
    )

    assert dataset.schema.class_labels == expected
    assert [dataset.schema.class_labels[code] for code in dataset.y] == table


@pytest.mark.parametrize(
    ("labels", "positive", "message"),
    [
        (
            ["no", "yes"],
            "Yes",
            "--positive is 'Yes', which is not a label; the labels are 'no', 'yes'",
        ),
        (["a", "b", "c"], "a", "--positive is 'a', but there are 3 classes"),
    ],
)
def test_a_positive_class_that_cannot_be_is_refused(
    labels: list[Any], positive: str, message: str, tmp_path: Path
) -> None:
    dataset = load_dataset(write(tmp_path, labels * 4), "target")

    with pytest.raises(DataError, match=message):
        put_positive_last(dataset, positive)


def test_metrics_are_about_the_positive_class(family: str) -> None:
    trained, holdout = train_fraud(
        family, post_fit=PostFit("none", parse_threshold("0.3"))
    )
    table = to_table(holdout.X, trained.plan.schema)

    is_fraud = holdout.y == 1
    probability = trained.twin.estimator.predict_proba(table)[:, 1]
    predicted = trained.twin.estimator.predict(table) == "fraud"

    assert trained.estimator.classes_.tolist() == ["legit", "fraud"]
    assert np.array_equal(predicted, probability > 0.3)
    expected = average_precision_score(is_fraud, probability)
    assert trained.metrics["holdout_average_precision"] == expected
    assert trained.metrics["holdout_recall"] == recall_score(is_fraud, predicted)
    # It learned to find frauds, not the others.
    assert trained.metrics["holdout_roc_auc"] > 0.7


@pytest.mark.slow
@pytest.mark.parametrize("calibration", ["none", "sigmoid", "isotonic"])
@pytest.mark.parametrize("threshold", ["0.5", "cost:5:1"])
def test_the_positive_class_goes_from_the_flag_to_the_answer(
    family: str, calibration: str, threshold: str, tmp_path: Path
) -> None:
    post_fit = PostFit(calibration, parse_threshold(threshold))
    trained, holdout = train_fraud(family, post_fit=post_fit)
    table = to_table(holdout.X, trained.plan.schema)
    (tmp_path / "model.binpb").write_bytes(trained.artifact)

    with running_server(tmp_path) as server:
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            model = client.get_model()
            answers = [client.predict(row) for row in holdout.X.tolist()]

    assert list(model.classes) == ["legit", "fraud"]
    assert model.threshold == trained.threshold
    np.testing.assert_allclose(
        [answer.probabilities for answer in answers],
        trained.estimator.predict_proba(table),
        rtol=0,
        atol=1e-12,
    )
    predicted = trained.estimator.predict(table).tolist()
    assert [answer.label for answer in answers] == predicted


def test_a_champion_with_the_other_order_is_named_with_the_way_to_keep_it() -> None:
    trained, holdout = train_fraud("lightgbm")
    schema = replace(trained.plan.schema, class_labels=FRAUD)

    with pytest.raises(
        NotComparable, match="in this order; --positive 'fraud' keeps it"
    ):
        score_model(trained.estimator, holdout, schema, "roc_auc")


@pytest.mark.parametrize("scoring", ["accuracy", "roc_auc", "average_precision"])
def test_a_champion_whose_classes_are_not_sorted_is_scored(scoring: str) -> None:
    trained, holdout = train_fraud("lightgbm")

    score = score_model(trained.twin.estimator, holdout, trained.plan.schema, scoring)

    assert score == trained.metrics[f"holdout_{scoring}"]


GRIDS: dict[str, ParamGrid] = {
    "logistic_regression": [{"C": [1.0], "class_weight": [None, {"legit": 9.0}]}],
    "lightgbm": [{"n_estimators": [5, 9], "class_weight": [None, {"legit": 9.0}]}],
}


def test_classes_are_weighed_by_their_labels(family: str) -> None:
    """The weight follows its label, in whatever order the labels are."""
    schema, train, _ = make_rows()
    searches = []
    for this_schema, rows in (
        (replace(schema, class_labels=FRAUD), train),
        flip(schema, train),
    ):
        search = FamilySearch(
            FAMILIES[family],
            this_schema,
            GRIDS[family],
            replace(SETTINGS, scoring="balanced_accuracy"),
        )
        searches.append(search.run(rows, report=lambda line: None))
    sorted_, flipped = (search.cv_results["mean_test_score"] for search in searches)

    np.testing.assert_allclose(sorted_, flipped, atol=0.02)
    assert len(set(sorted_.tolist())) > 1
    results = searches[0].cv_results
    assert results["params"][-1]["class_weight"] == {"legit": 9.0}
    assert results["param_class_weight"][-1] == {"legit": 9.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"0": 1.0, "1": 5.0},
            "weighs '0', which is not a label; the labels are 'fraud', 'legit'",
        ),
        ({"fraud": 0.0}, "weighs 'fraud' with 0.0; a weight is a number above 0"),
        ({"fraud": "5"}, "weighs 'fraud' with '5'"),
        ({"fraud": True}, "weighs 'fraud' with True"),
        ({"fraud": float("inf")}, "weighs 'fraud' with inf"),
        (
            "even",
            'is \'even\'; it has to be "none", "balanced" or weights by label',
        ),
        (5.0, "is 5.0; it has to be"),
    ],
)
def test_weights_that_cannot_be_are_refused(value: Any, message: str) -> None:
    with pytest.raises(SearchError) as caught:
        check_class_weight("search.lightgbm.class_weight", value, FRAUD)

    assert str(caught.value).startswith(f"search.lightgbm.class_weight {message}")


def test_labels_that_are_numbers_are_weighed_as_toml_writes_them() -> None:
    grids = parse_grids(
        {"logistic_regression": {"class_weight": [{"0": 1, "1": 5}]}, "lightgbm": {}}
    )

    check_class_weight(
        "place", grids["logistic_regression"][0]["class_weight"][0], (0, 1)
    )
