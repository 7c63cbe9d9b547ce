"""Features that are not numbers: in records, in batches and in GetModel."""

from collections.abc import Callable
from math import inf, isnan, nan
from typing import Any

import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct

from grpc_server.errors import InvalidInstance
from grpc_server.model.schema import Feature, InputSchema
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from table_support import (
    CITIES,
    GRADES,
    add_golden_examples,
    calibrate,
    table_artifact,
    table_lightgbm,
    table_logistic,
    to_record,
)
from wire import violations

Serve = Callable[[ModelArtifact], PredictionServiceStub]
GOOD: dict[str, Any] = {
    "age": 40.5,
    "hours": 1e4,
    "smoker": True,
    "city": "Zürich",
    "grade": -5,
}


def table_schema(refuse_unknown: bool = False) -> InputSchema:
    message = table_artifact(2).input_schema
    for feature in message.features[3:]:
        feature.categorical.refuse_unknown = refuse_unknown
    return InputSchema.from_message(message)


def read(schema: InputSchema, **changes: Any) -> list[float]:
    record = Struct()
    record.update(GOOD | changes)
    return list(schema.row_from_record(record.fields))


def test_a_record_becomes_numbers() -> None:
    assert read(table_schema()) == [40.5, 1e4, 1.0, 2.0, 1.0]
    assert read(table_schema(), smoker=False, city="", grade=2**53)[2:] == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "position"),
    [
        ({"age": None}, 0),
        ({"city": None}, 3),
        ({"city": "Atlantis"}, 3),
        # The feature is not nullable, but an unknown category still counts as missing.
        ({"grade": 11}, 4),
        ({"grade": 1e300}, 4),
    ],
)
def test_what_is_missing_or_not_known_is_nan(
    changes: dict[str, Any], position: int
) -> None:
    row = read(table_schema(), **changes)

    assert [isnan(number) for number in row] == [j == position for j in range(5)]


CITY = 'a text such as "Oslo", "", "Zürich" or null'
GRADE = f"a whole number such as 10, -5, {2**53}"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("age", "40", 'the text "40" is not allowed; it takes a finite number or null'),
        (
            "age",
            True,
            "the boolean true is not allowed; it takes a finite number or null",
        ),
        ("hours", None, "null is not allowed; it takes a finite number"),
        ("smoker", 1, "1.0 is not allowed; it takes true or false"),
        ("smoker", "true", 'the text "true" is not allowed; it takes true or false'),
        ("smoker", None, "null is not allowed; it takes true or false"),
        ("city", 3, f"3.0 is not allowed; it takes {CITY}"),
        ("city", False, f"the boolean false is not allowed; it takes {CITY}"),
        ("city", ["Oslo"], f"a list is not allowed; it takes {CITY}"),
        ("grade", 10.5, f"10.5 is not allowed; it takes {GRADE}"),
        ("grade", "10", f'the text "10" is not allowed; it takes {GRADE}'),
        ("grade", True, f"the boolean true is not allowed; it takes {GRADE}"),
        ("grade", inf, f"inf is not allowed; it takes {GRADE}"),
        ("grade", nan, f"nan is not allowed; it takes {GRADE}"),
        ("grade", None, f"null is not allowed; it takes {GRADE}"),
        ("grade", {}, f"an object is not allowed; it takes {GRADE}"),
    ],
)
def test_a_member_of_another_kind_is_named(name: str, value: Any, problem: str) -> None:
    with pytest.raises(InvalidInstance) as caught:
        read(table_schema(), **{name: value})

    (violation,) = caught.value.violations
    assert (violation.field, violation.description) == (f'record["{name}"]', problem)


def test_an_unknown_category_may_be_refused() -> None:
    with pytest.raises(InvalidInstance) as caught:
        read(table_schema(refuse_unknown=True), city="Atlantis", grade=11)

    assert [(v.field, v.description) for v in caught.value.violations] == [
        (
            'record["city"]',
            'the text "Atlantis" is not allowed; it takes one of "Oslo", "", "Zürich" or null',
        ),
        (
            'record["grade"]',
            f"11.0 is not allowed; it takes one of 10, -5, {2**53}",
        ),
    ]


def test_many_categories_are_shortened() -> None:
    message = table_artifact(2).input_schema
    message.features[3].categorical.strings.values.extend(map(str, range(100)))
    schema = InputSchema.from_message(message)

    with pytest.raises(InvalidInstance) as caught:
        read(schema, city=1)

    (violation,) = caught.value.violations
    assert violation.description.endswith("… or null")
    assert '"9"' in violation.description and '"99"' not in violation.description


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" risk ", '" risk "'),
        ("a\nb\t", r'"a\nb\t"'),
        ("\x00\x1b[31m", r'"\x00\x1b[31m"'),
        ('say "no"', r'"say \"no\""'),
        ("back\\slash", r'"back\\slash"'),
        ("Zürich \N{GRINNING FACE}", '"Zürich \N{GRINNING FACE}"'),
        # No-break space, zero-width space, and one that turns the direction of writing.
        ("\u00a0\u200b\u202e", r'"\xa0\u200b\u202e"'),
        ("é" * 81, '"' + "é" * 79 + '…"'),
        ("\x01" * 10_000_000, '"' + r"\x01" * 19 + r'\x0…"'),
    ],
)
def test_a_text_is_shown_so_that_each_character_is_seen(text: str, shown: str) -> None:
    schema = InputSchema((Feature(text, nullable=False),))
    record = Struct()
    record.fields["x"].string_value = text
    record.fields[text].string_value = text

    with pytest.raises(InvalidInstance) as caught:
        schema.row_from_record(record.fields)

    unfit, unknown = caught.value.violations
    assert unfit.field == f"record[{shown}]"
    assert unfit.description.startswith(f"the text {shown} is not allowed")
    if len(text) > 1 and len(text) < 80:
        plain = text if text == "Zürich \N{GRINNING FACE}" else shown
        assert unknown.description.endswith(f"which has: {plain}")


def served(
    serve: Serve, family: str, n_classes: int
) -> tuple[PredictionServiceStub, np.ndarray, np.ndarray]:
    """Serve a model. Return a stub, rows, and the probabilities of the model's library."""
    make = {"lightgbm": table_lightgbm, "logistic_regression": table_logistic}[family]
    artifact, estimator, rows = make(n_classes)
    expected = np.asarray(estimator.predict_proba(rows))
    add_golden_examples(artifact, rows[:5], expected[:5])
    return serve(artifact), rows[:60], expected[:60]


def columns_of(rows: np.ndarray) -> list[pb.Column]:
    """Return the columns of a batch, with nonsense where a value is missing."""
    age, hours, smoker, city, grade = rows.T
    cities = ["nowhere" if isnan(code) else CITIES[int(code)] for code in city]
    return [
        pb.Column(name="grade", doubles=pb.DoubleValues(values=np.take(GRADES, grade.astype(int)))),
        pb.Column(
            name="city",
            strings=pb.StringValues(values=cities),
            missing_rows=np.flatnonzero(np.isnan(city)),
        ),
        pb.Column(name="smoker", booleans=pb.BoolValues(values=smoker == 1)),
        pb.Column(name="hours", doubles=pb.DoubleValues(values=hours)),
        pb.Column(name="age", doubles=pb.DoubleValues(values=age)),
    ]  # fmt: skip


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_records_and_columns_are_answered_as_by_the_library(
    serve: Serve, family: str, n_classes: int
) -> None:
    stub, rows, expected = served(serve, family, n_classes)

    batch = stub.BatchPredict(pb.BatchPredictRequest(columns=columns_of(rows)))
    alone = []
    for row in rows:
        request = pb.PredictRequest()
        request.record.update(to_record(row))
        alone.append(stub.Predict(request))

    atol = 0 if family == "lightgbm" else 1e-12
    probabilities = np.reshape(batch.probabilities, (-1, n_classes))
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=atol)
    assert [p for one in alone for p in one.probabilities] == list(batch.probabilities)
    assert [one.label for one in alone] == [batch.classes[p] for p in batch.positions]


def test_columns_of_another_kind_are_named(serve: Serve) -> None:
    stub, rows, _ = served(serve, "lightgbm", 2)
    columns = columns_of(rows[:3])
    columns[0].doubles.values[1] = 0.5
    columns[1].ClearField("missing_rows")
    columns[2].doubles.values.extend([1.0] * 3)
    columns[4].missing_rows.append(7)

    found = violations(
        lambda: stub.BatchPredict(pb.BatchPredictRequest(columns=columns))
    )

    assert found == [
        (
            'columns["smoker"]',
            "doubles came; it takes booleans, each true or false",
        ),
        (
            'columns["age"].missing_rows[0]',
            "7 is not a row number; the rows are 0 to 2",
        ),
        (
            'columns["grade"].doubles.values[1]',
            f"0.5 is not allowed; it takes {GRADE}",
        ),
    ]


def test_an_unknown_category_of_a_batch_may_be_refused(serve: Serve) -> None:
    artifact, classifier, rows = table_lightgbm(2)
    artifact.input_schema.features[3].categorical.refuse_unknown = True
    add_golden_examples(
        artifact, rows[:5], np.asarray(classifier.predict_proba(rows[:5]))
    )
    columns = columns_of(rows[:3])
    columns[1].ClearField("missing_rows")
    columns[1].strings.values[2] = "Atlantis"
    columns[1].missing_rows.extend([0, 1])

    request = pb.BatchPredictRequest(columns=columns)
    found = violations(lambda: serve(artifact).BatchPredict(request))

    assert found == [
        (
            'columns["city"].strings.values[2]',
            'the text "Atlantis" is not allowed; it takes one of "Oslo", "", "Zürich" or null',
        )
    ]


def test_by_position_a_model_with_other_kinds_is_not_asked(serve: Serve) -> None:
    stub, rows, _ = served(serve, "lightgbm", 2)
    problem = "takes numbers only, and these features are not numeric: smoker, city, grade; send "

    assert violations(
        lambda: stub.Predict(pb.PredictRequest(features=np.nan_to_num(rows[0])))
    ) == [("features", problem + "record")]
    assert violations(
        lambda: stub.BatchPredict(pb.BatchPredictRequest(values=np.nan_to_num(rows[0])))
    ) == [("values", problem + "columns")]


def test_get_model_describes_kinds_and_categories(serve: Serve) -> None:
    artifact, pipeline, rows = table_logistic(2)
    artifact.input_schema.features[4].categorical.refuse_unknown = True
    calibrated = calibrate(artifact, pipeline, 2, "isotonic")
    add_golden_examples(artifact, rows[:5], calibrated.predict_proba(rows[:5]))

    model = serve(artifact).GetModel(pb.GetModelRequest())

    assert model.calibration == pb.CALIBRATION_ISOTONIC
    assert list(model.features) == [
        pb.Feature(name="age", kind=pb.FEATURE_KIND_NUMERIC, nullable=True),
        pb.Feature(name="hours", kind=pb.FEATURE_KIND_NUMERIC),
        pb.Feature(name="smoker", kind=pb.FEATURE_KIND_BOOLEAN),
        pb.Feature(
            name="city",
            kind=pb.FEATURE_KIND_CATEGORICAL_TEXT,
            nullable=True,
            categories=CITIES,
        ),
        pb.Feature(
            name="grade",
            kind=pb.FEATURE_KIND_CATEGORICAL_INTEGER,
            categories=map(str, GRADES),
            refuse_unknown=True,
        ),
    ]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("family", ["lightgbm", "logistic_regression"])
def test_an_explanation_names_the_largest_contributions(
    serve: Serve, family: str, n_classes: int
) -> None:
    stub, rows, _ = served(serve, family, n_classes)

    for row in rows[:10]:
        request = pb.PredictRequest(explain_top_k=4_000_000_000)
        request.record.update(to_record(row))
        response = stub.Predict(request)
        request.explain_top_k = 2
        two = stub.Predict(request).explanation

        full = response.explanation
        values = [contribution.value for contribution in full.contributions]
        assert sorted(c.feature for c in full.contributions) == sorted(GOOD)
        assert sorted(values, key=abs, reverse=True) == values
        assert full.score == pytest.approx(full.base + sum(values), abs=1e-9)
        assert list(two.contributions) == list(full.contributions[:2])
        # The probability is computed from the score.
        if n_classes == 2:
            assert full.label == "1"
            p = 1 / (1 + np.exp(-full.score))
            assert response.probabilities[1] == pytest.approx(p, abs=1e-9)
        else:
            assert full.label == response.label


def test_without_being_asked_nothing_is_explained(
    serve: Serve, logistic_artifact: ModelArtifact
) -> None:
    stub = serve(logistic_artifact)

    assert not stub.Predict(pb.PredictRequest(features=[1, 3])).HasField("explanation")
    explanation = stub.Predict(
        pb.PredictRequest(features=[2, 3], explain_top_k=1)
    ).explanation
    assert explanation == pb.Explanation(
        label="1",
        score=2.5,
        base=0.5,
        contributions=[pb.Contribution(feature="f0", value=2.0)],
    )
