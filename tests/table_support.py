"""Models of tables with every kind of feature, with the answers of scikit-learn and LightGBM."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import lightgbm
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from support import artifact_without_estimator

CITIES = ("Oslo", "", "Zürich")
GRADES = (10, -5, 2**53)
N_NUMERIC = 3


def table_rows(n_rows: int, seed: int = 0) -> np.ndarray:
    """Return coded rows of age, hours, smoker, city and grade; age and city may be missing."""
    rng = np.random.default_rng(seed)
    rows = np.column_stack(
        [
            rng.normal(40, 12, n_rows),
            rng.normal(1e4, 3, n_rows),
            rng.integers(0, 2, n_rows),
            rng.integers(0, len(CITIES), n_rows),
            rng.integers(0, len(GRADES), n_rows),
        ]
    )
    rows[rng.random(n_rows) < 0.2, 0] = np.nan
    rows[rng.random(n_rows) < 0.2, 3] = np.nan
    return rows


def table_classes(rows: np.ndarray, n_classes: int, seed: int = 0) -> np.ndarray:
    """Return a class for each row, which all features and some noise decide."""
    noise = np.random.default_rng(seed).normal(0, 0.7, len(rows))
    age, hours, smoker, city, grade = np.nan_to_num(rows, nan=1.0).T
    signal = (age - 40) / 12 + (hours - 1e4) / 3 + smoker + (city == 2) - grade + noise
    bounds = np.quantile(signal, np.arange(1, n_classes) / n_classes)
    return np.asarray(np.digitize(signal, bounds))


def to_record(row: Sequence[float]) -> dict[str, Any]:
    """Return a row as a caller sends it."""
    age, hours, smoker, city, grade = row
    return {
        "age": None if isnan(age) else age,
        "hours": hours,
        "smoker": bool(smoker),
        "city": None if isnan(city) else CITIES[int(city)],
        "grade": GRADES[int(grade)],
    }


def table_artifact(n_classes: int) -> ModelArtifact:
    """Return an artifact of the table's schema, without an estimator."""
    artifact = artifact_without_estimator(0, n_classes)
    add = artifact.input_schema.features.add
    add(name="age", nullable=True).numeric.SetInParent()
    add(name="hours").numeric.SetInParent()
    add(name="smoker").boolean.SetInParent()
    city = add(name="city", nullable=True)
    city.categorical.strings.values.extend(CITIES)
    grade = add(name="grade")
    grade.categorical.integers.values.extend(GRADES)
    return artifact


def table_lightgbm(
    n_classes: int,
) -> tuple[ModelArtifact, lightgbm.LGBMClassifier, np.ndarray]:
    """Return an artifact without golden examples, what it was made from, and rows."""
    rows = table_rows(600)
    classifier = lightgbm.LGBMClassifier(
        n_estimators=12, num_leaves=7, min_child_samples=5, n_jobs=1, verbose=-1
    )
    classifier.fit(rows, table_classes(rows, n_classes), categorical_feature=[3, 4])
    artifact = table_artifact(n_classes)
    artifact.lightgbm.model_text = classifier.booster_.model_to_string()
    artifact.provenance.family = "lightgbm"
    artifact.provenance.display_name = "LightGBM"
    return artifact, classifier, rows


def table_logistic(n_classes: int) -> tuple[ModelArtifact, Pipeline, np.ndarray]:
    """Return an artifact without golden examples, what it was made from, and rows."""
    rows = table_rows(600)
    encoder = OneHotEncoder(
        categories=[list(map(float, range(3)))] * 2, handle_unknown="ignore"
    )
    pipeline = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(), StandardScaler()), [0, 1, 2]),
            (encoder, [3, 4]),
        ),
        LogisticRegression(max_iter=1000),
    )
    pipeline.fit(rows, table_classes(rows, n_classes))
    artifact = table_artifact(n_classes)
    _write_logistic(artifact, pipeline)
    return artifact, pipeline, rows


def _write_logistic(artifact: ModelArtifact, pipeline: Pipeline) -> None:
    imputer, scaler = pipeline[0].named_transformers_["pipeline"]
    regression = pipeline[-1]
    message = artifact.logistic_regression
    message.centers.extend(scaler.mean_)
    message.imputed_values.extend(imputer.statistics_)
    message.coefficients.extend(
        (regression.coef_[:, :N_NUMERIC] / scaler.scale_).ravel()
    )
    message.intercepts.extend(regression.intercept_)
    for start in (N_NUMERIC, N_NUMERIC + len(CITIES)):
        weights = regression.coef_[:, start : start + 3]
        message.category_weights.add(values=weights.ravel())
    artifact.provenance.family = "logistic_regression"
    artifact.provenance.display_name = "Logistic Regression"


def calibrate(
    artifact: ModelArtifact, estimator: Any, n_classes: int, method: str
) -> CalibratedClassifierCV:
    """Calibrate `estimator` on other rows, and write the maps into `artifact`."""
    rows = table_rows(400, seed=1)
    classes = table_classes(rows, n_classes, seed=1)
    calibrated = CalibratedClassifierCV(FrozenEstimator(estimator), method=method)
    calibrated.fit(rows, classes)
    (classifier,) = calibrated.calibrated_classifiers_
    for calibrator in classifier.calibrators:
        message = artifact.calibration.maps.add()
        if method == "sigmoid":
            message.sigmoid.slope = calibrator.a_
            message.sigmoid.intercept = calibrator.b_
        else:
            message.isotonic.inputs.extend(calibrator.X_thresholds_)
            message.isotonic.outputs.extend(calibrator.y_thresholds_)
    return calibrated


def add_golden_examples(
    artifact: ModelArtifact, rows: np.ndarray, expected: np.ndarray
) -> None:
    """Add golden examples as records."""
    for row, probabilities in zip(rows, expected, strict=True):
        position = int(
            probabilities[1] > 0.5
            if len(probabilities) == 2
            else probabilities.argmax()
        )
        example = artifact.golden_examples.add(
            probabilities=probabilities, label=str(position)
        )
        example.record.update(to_record(row))
