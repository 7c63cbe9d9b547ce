"""Models of mixed tables, calibrated or not, answer as scikit-learn and LightGBM do."""

from collections.abc import Callable
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from grpc_server.errors import ArtifactCorrupt, GoldenMismatch
from grpc_server.model import LoadedModel, load_model
from grpc_server.model.calibration import IsotonicMap
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from support import write_artifact
from table_support import (
    GRADES,
    add_golden_examples,
    calibrate,
    table_lightgbm,
    table_logistic,
    table_rows,
    to_record,
)

FAMILIES = {"lightgbm": table_lightgbm, "logistic_regression": table_logistic}
METHODS = [None, "sigmoid", "isotonic"]


def load(
    folder: Path, family: str, n_classes: int, method: str | None
) -> tuple[LoadedModel, Any]:
    """Return a model and the estimator that it was made from."""
    artifact, estimator, rows = FAMILIES[family](n_classes)
    if method is not None:
        estimator = calibrate(artifact, estimator, n_classes, method)
    add_golden_examples(artifact, rows[:20], estimator.predict_proba(rows[:20]))
    return load_model(write_artifact(folder, artifact)), estimator


def rows_of(model: LoadedModel, rows: np.ndarray) -> list[list[float]]:
    """Return the rows that the server makes of the records of `rows`."""
    made = []
    for row in rows:
        record = Struct()
        record.update(to_record(row))
        made.append(list(model.input_schema.row_from_record(record.fields)))
    return made


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_as_its_library(
    family: str, n_classes: int, method: str | None, tmp_path: Path
) -> None:
    model, estimator = load(tmp_path, family, n_classes, method)
    rows = table_rows(300, seed=2)

    actual = [
        model.estimator.predict_probabilities(row) for row in rows_of(model, rows)
    ]

    exact = family == "lightgbm" and method is None
    # An isotonic map magnifies the rounding of a dot product where it is steep.
    atol = 0 if exact else 1e-9 if method == "isotonic" else 1e-12
    np.testing.assert_allclose(actual, estimator.predict_proba(rows), rtol=0, atol=atol)
    assert model.calibration == method


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_bit_by_bit_what_each_row_is_alone(
    family: str, n_classes: int, method: str | None, tmp_path: Path
) -> None:
    model, _ = load(tmp_path, family, n_classes, method)
    rows = table_rows(100, seed=3)

    batch = model.estimator.predict_batch(np.ascontiguousarray(rows))

    alone = [list(model.estimator.predict_probabilities(row)) for row in rows.tolist()]
    assert batch.tolist() == alone


@pytest.mark.parametrize("n_classes", [2, 3])
def test_an_unknown_category_is_the_same_as_a_missing_one(
    n_classes: int, tmp_path: Path
) -> None:
    model, estimator = load(tmp_path, "logistic_regression", n_classes, None)
    rows = table_rows(5)
    record = Struct()
    record.update(to_record(rows[0]) | {"city": "Atlantis", "grade": 11})
    rows[0, 3:] = nan

    row = model.input_schema.row_from_record(record.fields)

    np.testing.assert_allclose(
        [model.estimator.predict_probabilities(row)],
        estimator.predict_proba(rows[:1]),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("method", [None, "isotonic"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_lightgbm_s_contributions_add_up_to_its_raw_score(
    n_classes: int, method: str | None, tmp_path: Path
) -> None:
    artifact, classifier, rows = table_lightgbm(n_classes)
    model, _ = load(tmp_path, "lightgbm", n_classes, method)
    rows = rows[:40]
    raw = np.asarray(
        classifier.booster_.predict(rows, raw_score=True, num_threads=1)
    ).reshape(40, -1)
    expected = np.asarray(
        classifier.booster_.predict(rows, pred_contrib=True, num_threads=1)
    )

    for number, row in enumerate(rows.tolist()):
        for position in range(n_classes):
            output = position if n_classes > 2 else 0
            explanation = model.estimator.explain(row, position)
            parts = expected[number, output * 6 : output * 6 + 6]
            assert [*explanation.contributions, explanation.base] == parts.tolist()
            assert explanation.score == pytest.approx(raw[number, output], abs=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logistic_regression_s_contributions_add_up_to_its_output(
    n_classes: int, tmp_path: Path
) -> None:
    model, pipeline = load(tmp_path, "logistic_regression", n_classes, None)
    rows = table_rows(40)
    decision = pipeline.decision_function(rows).reshape(40, -1)
    coefficients = pipeline[-1].coef_

    for number, row in enumerate(rows.tolist()):
        for position in range(n_classes):
            output = position if n_classes > 2 else 0
            explanation = model.estimator.explain(row, position)
            total = explanation.base + sum(explanation.contributions)
            assert explanation.score == pytest.approx(total, abs=1e-9)
            assert explanation.score == pytest.approx(
                decision[number, output], abs=1e-9
            )
            grade = coefficients[output, 6 + int(row[4])]
            assert explanation.contributions[4] == grade


@given(
    knots=st.lists(
        st.tuples(st.floats(-50, 50), st.floats(0, 1)),
        min_size=1,
        max_size=8,
        unique_by=lambda knot: round(knot[0], 3),
    ),
    score=st.floats(-100, 100),
)
def test_an_isotonic_map_is_numpy_s_interpolation(
    knots: list[tuple[float, float]], score: float
) -> None:
    inputs = sorted(x for x, _ in knots)
    outputs = sorted(y for _, y in knots)

    actual = IsotonicMap(tuple(inputs), tuple(outputs))(score)

    assert actual == pytest.approx(np.interp(score, inputs, outputs), abs=1e-12)


def test_an_isotonic_map_is_exact_at_its_knots_and_outside() -> None:
    fitted = IsotonicRegression(out_of_bounds="clip").fit(
        [1, 2, 3, 4], [0, 0.5, 0.4, 1]
    )
    isotonic = IsotonicMap(tuple(fitted.X_thresholds_), tuple(fitted.y_thresholds_))

    for score in (-inf, 0.0, 1.0, 1.5, 2.0, 2.5, 3.25, 4.0, 9.0, inf):
        assert isotonic(score) == fitted.predict([min(max(score, -1e9), 1e9)])[0]


@pytest.mark.parametrize("n_knots", [1, 2, 3])
def test_an_isotonic_map_has_no_value_for_what_is_no_number(n_knots: int) -> None:
    """A score that overflows is no number; its answer is refused by its probabilities."""
    inputs, outputs = (-1.0, 0.0, 1.0)[:n_knots], (0.2, 0.5, 0.9)[:n_knots]

    assert isnan(IsotonicMap(inputs, outputs)(nan))


def test_no_class_that_has_a_chance_leaves_all_alike(tmp_path: Path) -> None:
    artifact, estimator, rows = table_lightgbm(3)
    for _ in range(3):
        artifact.calibration.maps.add().isotonic.inputs.append(0.5)
        artifact.calibration.maps[-1].isotonic.outputs.append(0.0)
    add_golden_examples(artifact, rows[:2], np.full((2, 3), 1 / 3))

    model = load_model(write_artifact(tmp_path, artifact))

    assert model.estimator.predict_probabilities(rows[0]) == [1 / 3] * 3


def _mix_kinds(artifact: ModelArtifact) -> None:
    artifact.calibration.maps[0].isotonic.inputs.append(0.0)
    artifact.calibration.maps[0].isotonic.outputs.append(0.0)


def _unset_kinds(artifact: ModelArtifact) -> None:
    for calibration_map in artifact.calibration.maps:
        calibration_map.Clear()


def _fall(artifact: ModelArtifact) -> None:
    outputs = artifact.calibration.maps[0].isotonic.outputs
    outputs[0], outputs[-1] = outputs[-1], outputs[0]


CORRUPTIONS: dict[str, tuple[str, Callable[[ModelArtifact], object], str]] = {
    "no maps": (
        "sigmoid",
        lambda a: a.calibration.ClearField("maps"),
        "calibration.maps has 0 maps, not 3",
    ),
    "kinds mixed": ("sigmoid", _mix_kinds, "different or unknown kinds"),
    "kind unknown": (
        "sigmoid",
        _unset_kinds,
        "different or unknown kinds",
    ),
    "infinite slope": (
        "sigmoid",
        lambda a: setattr(a.calibration.maps[1].sigmoid, "slope", inf),
        "a sigmoid that is not finite",
    ),
    "lengths differ": (
        "isotonic",
        lambda a: a.calibration.maps[1].isotonic.outputs.pop(),
        "both need the same number",
    ),
    "inputs do not ascend": (
        "isotonic",
        lambda a: a.calibration.maps[1].isotonic.inputs.__setitem__(0, 9.0),
        "inputs that do not ascend",
    ),
    "input is nan": (
        "isotonic",
        lambda a: a.calibration.maps[1].isotonic.inputs.__setitem__(0, nan),
        "inputs that do not ascend",
    ),
    "outputs fall": ("isotonic", _fall, "outputs that fall"),
    "output above 1": (
        "isotonic",
        lambda a: a.calibration.maps[2].isotonic.outputs.__setitem__(-1, 1.5),
        "or are not in [0, 1]",
    ),
    "weights of one feature only": (
        "sigmoid",
        lambda a: a.logistic_regression.category_weights.pop(),
        "category_weights has 1 messages; the 2",
    ),
    "too few weights": (
        "sigmoid",
        lambda a: a.logistic_regression.category_weights[1].values.pop(),
        "category_weights[1].values has 8 values, not 9",
    ),
    "a weight is nan": (
        "sigmoid",
        lambda a: a.logistic_regression.category_weights[0].values.__setitem__(0, nan),
        "category_weights[0].values has a value that is not finite",
    ),
    "categorical before numeric": (
        "sigmoid",
        lambda a: a.input_schema.features.reverse(),
        "a categorical feature before one that is not",
    ),
    "category twice": (
        "sigmoid",
        lambda a: a.input_schema.features[3].categorical.strings.values.append("Oslo"),
        'feature "city" has no categories, or a category twice',
    ),
    "no categories": (
        "sigmoid",
        lambda a: a.input_schema.features[3].categorical.strings.ClearField("values"),
        'feature "city" has no categories, or a category twice',
    ),
    "categories of no type": (
        "sigmoid",
        lambda a: a.input_schema.features[3].categorical.Clear(),
        'feature "city" is of an unknown kind',
    ),
    "category without a digit": (
        "sigmoid",
        lambda a: a.input_schema.features[4].categorical.integers.values.append(
            2**53 + 1
        ),
        'feature "grade" has a category outside of [-2^53, 2^53]',
    ),
    "golden record of an unfit value": (
        "sigmoid",
        lambda a: a.golden_examples[0].record.update({"smoker": 1}),
        'golden example 0: record["smoker"]: 1.0 is not allowed; it takes true or false',
    ),
    "golden row by position": (
        "sigmoid",
        lambda a: a.golden_examples[0].ClearField("record"),
        "golden example 0: features: takes numbers only",
    ),
}


@pytest.mark.parametrize(
    ("method", "corrupt", "message"), CORRUPTIONS.values(), ids=CORRUPTIONS
)
def test_an_altered_artifact_is_refused_and_named(
    method: str,
    corrupt: Callable[[ModelArtifact], object],
    message: str,
    tmp_path: Path,
) -> None:
    artifact, pipeline, rows = table_logistic(3)
    calibrated = calibrate(artifact, pipeline, 3, method)
    add_golden_examples(artifact, rows[:3], calibrated.predict_proba(rows[:3]))
    corrupt(artifact)

    with pytest.raises(ArtifactCorrupt) as caught:
        load_model(write_artifact(tmp_path, artifact))

    assert message in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_another_calibration_is_found_out(family: str, tmp_path: Path) -> None:
    artifact, estimator, rows = FAMILIES[family](3)
    calibrated = calibrate(artifact, estimator, 3, "sigmoid")
    add_golden_examples(artifact, rows[:3], calibrated.predict_proba(rows[:3]))
    artifact.calibration.maps[0].sigmoid.intercept += 1e-10

    with pytest.raises(GoldenMismatch, match="golden example"):
        load_model(write_artifact(tmp_path, artifact))


def test_the_largest_whole_number_of_a_double_is_a_category(tmp_path: Path) -> None:
    model, _ = load(tmp_path, "lightgbm", 2, None)
    record = Struct()
    record.update(to_record(table_rows(1)[0]) | {"grade": GRADES[2]})

    assert model.input_schema.row_from_record(record.fields)[4] == 2.0
