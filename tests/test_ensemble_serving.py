"""The server averages the members of an ensemble to the last bit, and refuses a hostile one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_artifact_fuzz import HOSTILE_TREES

from grpc_server.errors import ArtifactCorrupt, InvalidInstance
from grpc_server.model import load_model
from grpc_server.model.artifact_limits import MAX_COEFFICIENTS, MAX_COUNT
from grpc_server.model.ensemble import EnsembleEstimator, read_ensemble
from grpc_server.model.estimator import Explanation
from grpc_server.model.loaded import LoadedModel
from grpc_server.model.schema import InputSchema
from prediction.artifact.v1.model_artifact_pb2 import (
    OBJECTIVE_BINARY,
    BoostedTree,
    BoostedTrees,
    EnsembleMember,
    LogisticRegression,
    ModelArtifact,
)
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    GetModelRequest,
    PredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from support import artifact_without_estimator, lightgbm_artifact, write_artifact

ROW = [1.0, 3.0]
# The members' probabilities of the second class at ROW: of the trees it is 1 / (1 + exp(0)).
OF_LINEAR, OF_TREES = 0.6224593312018546, 0.5


def trees(*leaves: float) -> BoostedTrees:
    """Return trees of one leaf each, for two classes."""
    return BoostedTrees(
        objective=OBJECTIVE_BINARY,
        sigmoid=1.0,
        trees=[BoostedTree(leaf_values=[leaf]) for leaf in leaves],
    )


def linear(intercept: float = 0.5) -> LogisticRegression:
    """Return a logistic regression of two columns, for two classes."""
    return LogisticRegression(
        coefficients=[2.0, -1.0], intercepts=[intercept], centers=[1.0, 3.0]
    )


@pytest.fixture
def artifact() -> ModelArtifact:
    """A logistic regression that counts three times, and trees that count once."""
    artifact = artifact_without_estimator(2, 2)
    artifact.provenance.family = "ensemble"
    artifact.provenance.display_name = "Ensemble"
    artifact.ensemble.members.add(count=3, logistic_regression=linear())
    artifact.ensemble.members.add(count=1, boosted_trees=trees(0.25, -0.25))
    second = (3 * OF_LINEAR + 1 * OF_TREES) / 4
    first = (3 * (1 - OF_LINEAR) + 1 * (1 - OF_TREES)) / 4
    artifact.golden_examples.add(features=ROW, probabilities=[first, second], label="1")
    return artifact


def load(artifact: ModelArtifact, folder: Path) -> LoadedModel:
    return load_model(write_artifact(folder / "model", artifact))


class Constant:
    """An estimator with the same probabilities for every row."""

    def __init__(self, probabilities: list[float]) -> None:
        self._probabilities = probabilities

    def predict_probabilities(self, row: object) -> list[float]:
        return self._probabilities

    def predict_batch(self, X: np.ndarray) -> np.ndarray:
        return np.array([self._probabilities] * len(X))

    def explain(self, row: object, position: int) -> Explanation:
        raise AssertionError

    outputs, batch_outputs = predict_probabilities, predict_batch


members = st.lists(
    st.tuples(st.integers(1, MAX_COUNT), st.floats(0, 1)), min_size=2, max_size=50
)


@given(members)
def test_a_mean_is_the_stated_sum_to_the_last_bit_for_a_row_and_a_batch(
    members: list[tuple[int, float]],
) -> None:
    counts = [count for count, _ in members]
    answers = [[1.0 - p, p] for _, p in members]
    estimator = EnsembleEstimator([Constant(answer) for answer in answers], counts)
    expected = np.average(np.array(answers), axis=0, weights=counts)

    row = estimator.predict_probabilities(ROW)

    assert list(row) == expected.tolist()
    np.testing.assert_array_equal(
        estimator.predict_batch(np.zeros((3, 2))), [expected] * 3
    )
    assert all(0 <= p <= 1 for p in row)
    assert abs(sum(row) - 1) < 1e-12


def test_every_way_to_ask_gives_the_same_bits(
    artifact: ModelArtifact, serve: Callable[[ModelArtifact], PredictionServiceStub]
) -> None:
    stub = serve(artifact)
    rows = np.random.default_rng(0).normal(size=(50, 2))

    single = [stub.Predict(PredictRequest(features=row)).probabilities for row in rows]
    batch = stub.BatchPredict(BatchPredictRequest(values=rows.ravel())).probabilities

    assert np.ravel(single).tolist() == list(batch)
    assert len({tuple(row) for row in single}) == 50


def test_the_description_names_the_members(
    artifact: ModelArtifact, serve: Callable[[ModelArtifact], PredictionServiceStub]
) -> None:
    described = serve(artifact).GetModel(GetModelRequest())

    assert described.model == "Ensemble"
    assert [(m.model, m.weight) for m in described.members] == [
        ("Logistic Regression", 0.75),
        ("LightGBM", 0.25),
    ]


def test_an_explanation_is_the_weighted_mean_and_adds_up(
    artifact: ModelArtifact, tmp_path: Path
) -> None:
    explanation = load(artifact, tmp_path).estimator.explain([2.0, 5.0], 1)

    assert explanation.contributions == [0.75 * 2.0, 0.75 * -2.0]
    assert explanation.base == 0.75 * 0.5
    assert explanation.score == explanation.base + sum(explanation.contributions)


def test_the_calibration_of_an_ensemble_maps_its_mean(
    artifact: ModelArtifact, tmp_path: Path
) -> None:
    artifact.calibration.maps.add().isotonic.inputs.extend([0.0, 1.0])
    artifact.calibration.maps[0].isotonic.outputs.extend([0.0, 0.5])
    (golden,) = artifact.golden_examples
    second = golden.probabilities[1] / 2
    golden.probabilities[:] = [1 - second, second]
    golden.label = "0"

    model = load(artifact, tmp_path)

    assert model.estimator.predict_probabilities(ROW)[1] == pytest.approx(second)
    assert model.estimator.predict_batch(np.array([ROW]))[0, 1] == pytest.approx(second)


def test_explanations_share_one_limit(
    artifact: ModelArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One member is within the limit of steps, two together are beyond it."""
    split = BoostedTree(
        leaf_values=[0.0, 1.0],
        split_features=[0],
        decision_types=[2],
        left_children=[-1],
        right_children=[-2],
        thresholds=[0.5],
        leaf_counts=[5, 5],
        node_counts=[10],
    )
    schema = InputSchema.from_message(artifact.input_schema)
    artifact.ensemble.members[1].boosted_trees.trees[0].CopyFrom(split)
    alone = read_ensemble(artifact.ensemble, schema, 2)
    artifact.ensemble.members.append(artifact.ensemble.members[1])
    both = read_ensemble(artifact.ensemble, schema, 2)
    monkeypatch.setattr("grpc_server.model.lightgbm.MAX_EXPLANATION_STEPS", 3)

    alone.explain(ROW, 1)

    with pytest.raises(InvalidInstance, match="up to 4 steps"):
        both.explain(ROW, 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m.clear(), "its estimator is missing|has 0 members"),
        (lambda m: m.pop(), "has 1 members; 2 to 50"),
        (lambda m: m.extend([m[0]] * 49), "ensemble.members: 51; the limit is 50"),
        (lambda m: m.extend([m[0]] * 10**6), "ensemble.members: 1000002"),
        (lambda m: setattr(m[1], "count", 0), r"members\[1\].count is 0; 1 to"),
        (lambda m: setattr(m[0], "count", 2**32 - 1), r"members\[0\].count is 4294967"),
        (
            lambda m: m[1].ClearField("boosted_trees"),
            r"members\[1\]: its estimator is missing",
        ),
        (
            lambda m: m[0].logistic_regression.coefficients.pop(),
            r"members\[0\]: logistic_regression.coefficients has 1 values, not 2",
        ),
        (
            lambda m: m[0].logistic_regression.intercepts.append(1.0),
            r"members\[0\]: logistic_regression.intercepts has 2",
        ),
        (
            lambda m: m[1].boosted_trees.trees.pop(),
            "golden example 0 gives",
        ),
        (
            lambda m: setattr(m[1].boosted_trees, "objective", 2),
            r"members\[1\]: lightgbm: the objective is 'multiclass'",
        ),
        (
            lambda m: m[1]
            .boosted_trees.trees[0]
            .leaf_values.__setitem__(0, float("nan")),
            r"members\[1\]: lightgbm: tree 0: a leaf's value is not finite",
        ),
        (
            lambda m: [
                x.logistic_regression.coefficients.extend(
                    [0.0] * (MAX_COEFFICIENTS // 2)
                )
                for x in (m[0], m.add(count=1))
            ],
            "logistic_regression.coefficients: 1000002; the limit is 1000000",
        ),
        (
            lambda m: [
                m.add(count=1).boosted_trees.trees.extend([BoostedTree()] * 60_000)
                for _ in range(2)
            ],
            "trees of all ensemble.members: 120002; the limit is 100000",
        ),
    ],
)
def test_a_hostile_ensemble_is_refused_by_name(
    artifact: ModelArtifact,
    tmp_path: Path,
    spoil: Callable[[object], object],
    message: str,
) -> None:
    spoil(artifact.ensemble.members)

    with pytest.raises(Exception, match=message) as caught:
        load(artifact, tmp_path)

    assert caught.type.__module__ == "grpc_server.errors"


@pytest.mark.parametrize("name", HOSTILE_TREES)
def test_hostile_trees_are_refused_in_a_member_too(name: str, tmp_path: Path) -> None:
    artifact, _, _ = lightgbm_artifact(2)
    good = artifact.boosted_trees
    members = [EnsembleMember(count=1, boosted_trees=good) for _ in range(2)]
    HOSTILE_TREES[name](members[1].boosted_trees)
    artifact.ensemble.members.extend(members)

    with pytest.raises(ArtifactCorrupt, match=r"ensemble.members\[1\]: lightgbm: "):
        load(artifact, tmp_path)


def test_a_nested_ensemble_is_refused(artifact: ModelArtifact, tmp_path: Path) -> None:
    """A member has no field for an ensemble: one that a newer trainer writes is unknown."""
    nested = EnsembleMember(count=1).SerializeToString()
    inner = artifact.ensemble.SerializeToString()
    # Field 10 with a length before it, as in ModelArtifact.
    unknown = nested + bytes([10 << 3 | 2, len(inner) & 0x7F | 0x80, len(inner) >> 7])
    artifact.ensemble.members.add().MergeFromString(unknown + inner)

    with pytest.raises(
        ArtifactCorrupt, match=r"members\[2\]: its estimator is missing"
    ):
        load(artifact, tmp_path)
