"""Calibration: the message's formula and the registered model answer as scikit-learn does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV, _SigmoidCalibration
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline

from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.encoding import encode
from training.artifact.formula import apply_calibration, evaluate_formula
from training.artifact.golden import ScoredRows
from training.artifact.provenance import Provenance
from training.data.encoding import to_table
from training.data.rows import Rows, join_rows
from training.data.splitting import Splitting
from training.errors import ArtifactError, SearchError
from training.models.calibration import check_method
from training.models.evaluation import decide
from training.models.families import FAMILIES
from training.models.final_model import FinalModel, PostFit, fit_final_model
from training.models.pipelines import PipelineFactory
from training.models.thresholds import choose_threshold, parse_threshold
from training.registry.tracking import TRUSTED_TYPES
from training.report.vega import summarize
from training.trained_model import TrainedModel

from training_support import SETTINGS, make_rows, train_family

pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning"
)

PROVENANCE = Provenance("TrainFlow/1", "ab", "", {}, {})
FOLDS = StratifiedKFold(SETTINGS.n_folds, shuffle=True, random_state=SETTINGS.seed)
both_families = pytest.mark.parametrize("family", list(FAMILIES))
both_methods = pytest.mark.parametrize("method", ["sigmoid", "isotonic"])


def make(
    family: str,
    method: str,
    n_classes: int = 2,
    threshold: str = "0.5",
    *,
    rounds: int = 0,
    **kind: Any,
) -> tuple[TrainedModel, Rows, Rows]:
    schema, train, holdout = make_rows(n_classes, **kind)
    settings = replace(
        SETTINGS,
        scoring="roc_auc" if n_classes == 2 else "roc_auc_ovr",
        early_stopping_rounds=rounds,
    )
    post_fit = PostFit(method, parse_threshold(threshold))
    trained = train_family(
        family, schema, train, holdout, settings=settings, post_fit=post_fit
    )
    return trained, train, holdout


def make_unfitted(trained: TrainedModel, rounds: int = 0) -> Pipeline:
    family = FAMILIES[trained.winner.family]
    factory = PipelineFactory(family, trained.plan.schema, SETTINGS.seed, rounds)
    return factory.make_final_pipeline(trained.winner.best_params)


def dense(rows: Rows) -> Any:
    return rows.X if isinstance(rows.X, np.ndarray) else rows.X.toarray()


@pytest.mark.parametrize(
    "kind",
    [{}, {"missing": True}, {"sparse": True}, {"rounds": 2}],
    ids=["plain", "missing", "sparse", "early stopping"],
)
@pytest.mark.parametrize("n_classes", [2, 3])
@both_methods
@both_families
def test_the_formula_of_the_message_answers_as_the_model(
    family: str, method: str, n_classes: int, kind: dict[str, Any]
) -> None:
    trained, train, holdout = make(family, method, n_classes, **kind)
    artifact = pb.ModelArtifact.FromString(trained.artifact)

    kinds = {map_.WhichOneof("kind") for map_ in artifact.calibration.maps}
    assert kinds == {method}
    assert len(artifact.calibration.maps) == (1 if n_classes == 2 else n_classes)
    for rows in (train, holdout):
        np.testing.assert_allclose(
            evaluate_formula(artifact, dense(rows)),
            trained.estimator.predict_proba(to_table(rows.X, trained.plan.schema)),
            rtol=0,
            atol=1e-12,
        )


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("n_classes", [2, 3])
@both_methods
@both_families
def test_the_winner_is_calibrated_as_scikit_learn_does_it(
    family: str, method: str, n_classes: int, rounds: int
) -> None:
    """The scored twin on the training rows, the registered model on all; labels may be text."""
    trained, train, holdout = make(family, method, n_classes, rounds=rounds)
    schema = trained.plan.schema
    X = to_table(holdout.X, schema)
    both = [
        (trained.twin.estimator, train),
        (trained.estimator, join_rows(train, holdout)),
    ]

    for model, rows in both:
        labels = np.asarray(schema.class_labels)[rows.y]
        plain = CalibratedClassifierCV(
            make_unfitted(trained, rounds), method=method, cv=FOLDS, ensemble=False
        ).fit(to_table(rows.X, schema), labels)
        assert model.classes_.tolist() == plain.classes_.tolist()
        assert np.array_equal(model.predict_proba(X), plain.predict_proba(X))


def choose_again(
    trained: TrainedModel, rows: Rows, method: str, threshold: str
) -> float:
    """Choose the threshold on folds of some rows, with scikit-learn's own functions."""
    X, pipeline = to_table(rows.X, trained.plan.schema), make_unfitted(trained)
    name = "predict_proba" if method == "none" else "decision_function"
    unseen = cross_val_predict(pipeline, X, rows.y, cv=FOLDS, method=name)
    scores = unseen if unseen.ndim == 1 else unseen[:, 1]
    if method == "sigmoid":
        scores = _SigmoidCalibration().fit(scores, rows.y).predict(scores)
    elif method == "isotonic":
        calibrator = IsotonicRegression(out_of_bounds="clip")
        scores = calibrator.fit(scores, rows.y).predict(scores)
    rule = parse_threshold(threshold)
    return choose_threshold(rule, rows.y == 1, scores)  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", ["f1", "youden", "cost:7:1"])
@pytest.mark.parametrize("method", ["none", "sigmoid", "isotonic"])
@both_families
def test_the_threshold_is_chosen_on_rows_that_were_not_seen(
    family: str, method: str, threshold: str
) -> None:
    """The test computes the thresholds again; the hold-out is decided without looking at it."""
    trained, train, holdout = make(family, method, threshold=threshold)
    twin, metrics = trained.twin, trained.metrics

    expected = [
        choose_again(trained, rows, method, threshold)
        for rows in (train, join_rows(train, holdout))
    ]

    artifact = pb.ModelArtifact.FromString(trained.artifact)
    assert [twin.threshold, trained.threshold] == pytest.approx(expected)
    assert artifact.threshold == metrics["threshold"] == trained.threshold
    assert metrics.get("holdout_threshold", trained.threshold) == twin.threshold
    assert f"(--threshold {threshold})" in summarize(trained)
    X_new = to_table(holdout.X, trained.plan.schema)
    for model, own_threshold in (
        (twin.estimator, twin.threshold),
        (trained.estimator, trained.threshold),
    ):
        predicted = decide(model.predict_proba(X_new), own_threshold)
        assert model.predict(X_new).tolist() == predicted.tolist()
    decided = twin.estimator.predict(X_new) == holdout.y
    assert metrics["holdout_accuracy"] == decided.mean()
    X_golden = np.array([example.features for example in artifact.golden_examples])
    golden = decide(evaluate_formula(artifact, X_golden), artifact.threshold)
    assert [example.label for example in artifact.golden_examples] == [
        str(code) for code in golden
    ]


def test_without_a_flag_nothing_is_on_top_of_the_pipeline() -> None:
    trained, _, _ = make("lightgbm", "none")

    artifact = pb.ModelArtifact.FromString(trained.artifact)
    assert isinstance(trained.estimator, Pipeline)
    assert not artifact.HasField("calibration")
    assert artifact.threshold == trained.metrics["threshold"] == 0.5


def test_a_given_threshold_is_the_threshold_of_the_model() -> None:
    trained, _, holdout = make("lightgbm", "none", threshold="0.8")
    X = to_table(holdout.X, trained.plan.schema)

    above = trained.estimator.predict_proba(X)[:, 1] > 0.8

    assert pb.ModelArtifact.FromString(trained.artifact).threshold == 0.8
    assert trained.estimator.predict(X).tolist() == above.astype(int).tolist()
    assert 0 < above.sum() < (trained.estimator.predict_proba(X)[:, 1] > 0.5).sum()


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 9.0}])
@both_families
def test_probabilities_that_class_weights_have_shifted_are_calibrated(
    family: str, class_weight: Any
) -> None:
    """The log says so, and says it otherwise where rows have an order in which none is repeated."""
    schema, _, _ = make_rows()
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 5))
    y = (rng.random(4000) < 0.1 / (1 + np.exp(-2 * X[:, 0]))).astype(np.int64)
    train, holdout = Rows(X[:3000], y[:3000]), Rows(X[3000:], y[3000:])
    grids = {family: [{"class_weight": [class_weight]}]}

    corrected, asked, shifted = (
        train_family(
            family,
            schema,
            train,
            holdout,
            grids=grids,
            post_fit=PostFit(method),
            settings=replace(SETTINGS, splitting=splitting),
        )
        for method, splitting in (
            ("none", Splitting.STRATIFIED),
            ("sigmoid", Splitting.STRATIFIED),
            ("none", Splitting.TIMED),
        )
    )

    name = "holdout_expected_calibration_error"
    assert corrected.metrics == asked.metrics
    assert corrected.metrics[name] < shifted.metrics[name] / 5
    assert "are calibrated (sigmoid), because class_weight" in summarize(corrected)
    assert "are no frequencies, because class_weight" in summarize(shifted)


def test_the_maps_of_more_classes_may_all_be_zero() -> None:
    step = pb.CalibrationMap(isotonic=pb.IsotonicMap(inputs=[0, 1], outputs=[0, 1]))
    message = pb.Calibration(maps=[step] * 3)

    probabilities = apply_calibration(message, np.array([[0, 0, 0], [0.5, 2, -1]]))

    np.testing.assert_allclose(probabilities, [[1 / 3] * 3, [1 / 3, 2 / 3, 0]])


def test_an_isotonic_map_may_have_one_knot() -> None:
    knot = pb.CalibrationMap(isotonic=pb.IsotonicMap(inputs=[0.3], outputs=[0.2]))

    probabilities = apply_calibration(
        pb.Calibration(maps=[knot]), np.array([[-9.0], [0.3], [9.0]])
    )

    np.testing.assert_allclose(probabilities, [[0.8, 0.2]] * 3)


@pytest.mark.parametrize("rounds", [0, 2])
@pytest.mark.parametrize("n_classes", [2, 3])
@both_methods
@both_families
def test_a_calibrated_model_needs_no_class_but_the_reviewed_ones(
    family: str, method: str, n_classes: int, rounds: int, tmp_path: Path
) -> None:
    threshold = "f1" if n_classes == 2 else "0.5"
    trained, _, holdout = make(
        family, method, n_classes, threshold, rounds=rounds, missing=True
    )
    X = to_table(holdout.X, trained.plan.schema)

    skops.io.dump(trained.estimator, tmp_path / "model.skops")
    loaded = skops.io.load(tmp_path / "model.skops", trusted=list(TRUSTED_TYPES))

    assert np.array_equal(loaded.predict_proba(X), trained.estimator.predict_proba(X))
    assert loaded.predict(X).tolist() == trained.estimator.predict(X).tolist()
    assert tuple(loaded.feature_names_in_) == trained.plan.schema.feature_names


@pytest.mark.parametrize(
    ("family", "remedy"),
    [("logistic_regression", "rescale"), ("lightgbm", "search.lightgbm")],
)
def test_a_calibration_that_answers_otherwise_is_refused(
    family: str, remedy: str
) -> None:
    schema, train, holdout = make_rows()
    X, labels = to_table(train.X, schema), schema.class_labels
    pipeline = PipelineFactory(FAMILIES[family], schema, 0).make_final_pipeline({})
    folds = tuple(FOLDS.split(train.X, train.y))
    model = fit_final_model(
        pipeline, PostFit("isotonic"), folds, X=X, y=train.y, class_labels=labels
    )
    right = model.predictor.predict_proba(to_table(holdout.X, schema))

    encode(model, schema, family, ScoredRows(dense(holdout), right), PROVENANCE)
    wrong = ScoredRows(dense(holdout), np.abs(right - 1e-11))
    with pytest.raises(ArtifactError, match=f"differ by 1.0e-11 .*{remedy}"):
        encode(model, schema, family, wrong, PROVENANCE)


def test_rounding_may_show_on_a_cliff_of_isotonic_regression() -> None:
    """Between two raw scores that are 1e-9 apart, an error grows by a factor of 1e9."""
    schema, train, _ = make_rows()
    pipeline = PipelineFactory(
        FAMILIES["logistic_regression"], schema, 0
    ).make_search_pipeline()
    X = np.asarray(train.X)[:1]
    raw_score = pipeline.fit(train.X, train.y).decision_function(X)
    cliff = IsotonicRegression(out_of_bounds="clip").fit(
        raw_score + [-1e-9, 1e-9], [0, 1]
    )
    model = FinalModel(pipeline, pipeline, (cliff,), 0.5)

    def write(error: float) -> pb.ModelArtifact:
        p = cliff.predict(raw_score + error)
        golden = ScoredRows(X, np.column_stack([1 - p, p]))
        return encode(model, schema, "logistic_regression", golden, PROVENANCE)

    write(5e-13)
    with pytest.raises(ArtifactError, match="differ by"):
        write(1e-11)


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SearchError) as caught:
        check_method("platt")

    assert str(caught.value) == (
        "--calibration is 'platt'; it has to be one of none, sigmoid, isotonic"
    )
