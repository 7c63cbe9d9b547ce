"""Reading an artifact: exact answers from a sound one, a clear refusal of any other."""

import base64
import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from grpc_server.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    GoldenMismatch,
)
from grpc_server.model import load_model
from grpc_server.model.logistic_regression import LogisticRegression
from grpc_server.model.source import ModelSource
from prediction.artifact import FILE_NAME
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from support import (
    ROOT,
    artifact_without_estimator,
    lightgbm_artifact,
    train_lightgbm,
    write_artifact,
    write_version,
)

finite = st.floats(-1e6, 1e6)
OLD_ARTIFACTS = sorted((ROOT / "tests" / "testdata").glob("artifact-*.base64"))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_lightgbm_answers_exactly_as_its_python_package(
    n_classes: int, tmp_path: Path
) -> None:
    artifact, rows, expected = lightgbm_artifact(n_classes)
    model = load_model(write_artifact(tmp_path, artifact))

    actual = [list(model.estimator.predict_probabilities(row)) for row in rows]

    assert actual == expected.tolist()


def test_lightgbm_answers_exactly_from_many_threads(tmp_path: Path) -> None:
    artifact, rows, expected = lightgbm_artifact(3)
    model = load_model(write_artifact(tmp_path, artifact))

    with ThreadPoolExecutor(8) as pool:
        actual = list(pool.map(model.estimator.predict_probabilities, list(rows) * 10))

    assert actual == expected.tolist() * 10


@given(row=st.lists(finite, min_size=3, max_size=3), outputs=st.integers(1, 4))
def test_logistic_regression_is_its_formula(row: list[float], outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    coefficients, intercepts = rng.normal(size=(outputs, 3)), rng.normal(size=outputs)
    centers = rng.normal(size=3)
    model = LogisticRegression(
        tuple(map(tuple, coefficients.tolist())), tuple(intercepts), tuple(centers), ()
    )

    actual = model.predict_probabilities(row)

    z = intercepts + coefficients @ (np.array(row) - centers)
    expected = softmax([0, z[0]]) if outputs == 1 else softmax(z)
    # The exponential magnifies the rounding of z, which grows with the size of its terms.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)
    assert math.isclose(sum(actual), 1)


def test_logistic_regression_replaces_a_missing_value() -> None:
    model = LogisticRegression(((2.0, -1.0),), (0.5,), (1.0, 3.0), (4.0, 5.0))

    assert model.predict_probabilities([math.nan, 2.0]) == model.predict_probabilities(
        [4.0, 2.0]
    )


def test_extreme_log_odds_do_not_overflow() -> None:
    model = LogisticRegression(((1.0,),), (0.0,), (), ())

    assert model.predict_probabilities([1e308]) == (0.0, 1.0)
    assert model.predict_probabilities([-1e308]) == (1.0, 0.0)


def test_a_probability_equal_to_the_threshold_is_the_first_class(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    classes = load_model(write_artifact(tmp_path, logistic_artifact)).classes

    assert classes.decide([0.5, 0.5]) == 0
    assert classes.decide([0.4, 0.6]) == 1


def test_of_equal_probabilities_the_first_class_is_predicted(tmp_path: Path) -> None:
    artifact, _, _ = lightgbm_artifact(3)
    classes = load_model(write_artifact(tmp_path, artifact)).classes

    assert classes.decide([0.2, 0.4, 0.4]) == 1


def test_a_model_without_a_source_is_named_by_its_digest(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folder = write_artifact(tmp_path, logistic_artifact)
    digest = hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()

    assert load_model(folder).source == ModelSource(
        "", f"sha256:{digest[:12]}", "", digest
    )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactMissing, match="no model at .*model.binpb: No such file"
    ):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["extra_files", "a folder", "7"])
def test_the_model_may_be_one_folder_below(
    name: str, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    (tmp_path / "artifacts" / "empty").mkdir(parents=True)
    (tmp_path / "artifacts" / "MLmodel").write_text("flavors: {}")
    write_version(tmp_path / "registry", logistic_artifact, "7").rename(
        tmp_path / "artifacts" / name
    )

    assert load_model(tmp_path / "artifacts").source.version == "7"


def test_the_model_at_the_top_is_taken_whatever_is_below(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    top = load_model(write_artifact(tmp_path, logistic_artifact)).source
    logistic_artifact.provenance.training_run_id = "another"
    write_artifact(tmp_path / "below", logistic_artifact)

    assert load_model(tmp_path).source == top


def test_a_choice_between_two_models_is_refused(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    for name in ("b", "a", ".hidden"):
        write_artifact(tmp_path / name, logistic_artifact)

    with pytest.raises(
        ArtifactMissing, match="2 folders with one, such as 'a' and 'b'; name one"
    ):
        load_model(tmp_path)


def test_neither_two_folders_below_nor_a_hidden_one_is_looked_in(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    write_artifact(tmp_path / "versions" / "7", logistic_artifact)
    write_artifact(tmp_path / ".trash", logistic_artifact)

    with pytest.raises(ArtifactMissing, match="No such file"):
        load_model(tmp_path)


def test_a_folder_of_thousands_is_not_searched(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    write_artifact(tmp_path / "model", logistic_artifact)
    for number in range(1001):
        (tmp_path / str(number)).touch()

    with pytest.raises(ArtifactMissing, match="more than 1000 entries"):
        load_model(tmp_path)


def test_a_file_that_its_source_does_not_know_is_refused(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folder = write_artifact(tmp_path, logistic_artifact)
    ModelSource("iris", "7", "run", "0" * 64).write(folder)

    with pytest.raises(ArtifactCorrupt, match="altered or only partly written"):
        load_model(folder)


def test_an_unreadable_source_is_refused(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folder = write_artifact(tmp_path, logistic_artifact)
    (folder / "source.json").write_text('{"name": 1}')

    with pytest.raises(ArtifactCorrupt, match="source.json cannot be read"):
        load_model(folder)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_truncated_file_is_refused_wherever_it_ends(
    n_classes: int, tmp_path: Path
) -> None:
    artifact, _, _ = lightgbm_artifact(n_classes)
    content = (write_artifact(tmp_path, artifact) / FILE_NAME).read_bytes()

    for length in range(0, len(content), max(1, len(content) // 97)):
        (tmp_path / FILE_NAME).write_bytes(content[:length])
        with pytest.raises(ArtifactError):
            load_model(tmp_path)


def _set_threshold_of_three(artifact: ModelArtifact) -> None:
    artifact.class_labels.integers.values.append(2)


CORRUPTIONS: dict[str, tuple[Callable[[ModelArtifact], object], str]] = {
    "no features": (lambda a: a.input_schema.Clear(), "input_schema.features is empty"),
    "name twice": (
        lambda a: setattr(a.input_schema.features[1], "name", "f0"),
        "has a name twice",
    ),
    "unknown kind": (
        lambda a: a.input_schema.features[1].ClearField("numeric"),
        'feature "f1" is of an unknown kind',
    ),
    "no classes": (
        lambda a: a.class_labels.Clear(),
        "class_labels must have two or more",
    ),
    "one label twice": (
        lambda a: a.class_labels.integers.values.__setitem__(1, 0),
        "class_labels must have two or more different",
    ),
    "threshold of three classes": (
        _set_threshold_of_three,
        "threshold must be set for two",
    ),
    "no estimator": (
        lambda a: a.ClearField("estimator"),
        "estimator is missing or unknown",
    ),
    "too few coefficients": (
        lambda a: a.logistic_regression.coefficients.pop(),
        "logistic_regression.coefficients has 1 values, not 2",
    ),
    "infinite coefficient": (
        lambda a: a.logistic_regression.coefficients.__setitem__(0, math.inf),
        "logistic_regression.coefficients has a value that is not finite",
    ),
    "no golden examples": (
        lambda a: a.ClearField("golden_examples"),
        "has no golden examples",
    ),
    "golden row too short": (
        lambda a: a.golden_examples[0].features.pop(),
        "golden example 0: features: 1 values came, 2 are needed",
    ),
    "other coefficient": (
        lambda a: a.logistic_regression.intercepts.__setitem__(0, 0.5 + 1e-11),
        "golden example 0 gives",
    ),
    "other label": (
        lambda a: setattr(a.golden_examples[0], "label", "0"),
        'golden example 0 predicts "1"; its trainer got "0"',
    ),
    "other order of classes": (
        lambda a: a.golden_examples[0].probabilities.reverse(),
        "golden example 0 gives",
    ),
    "probability is nan": (
        lambda a: a.golden_examples[0].probabilities.__setitem__(1, math.nan),
        "golden example 0 gives",
    ),
}


@pytest.mark.parametrize(("corrupt", "message"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_an_altered_artifact_is_refused_and_named(
    corrupt: Callable[[ModelArtifact], object],
    message: str,
    logistic_artifact: ModelArtifact,
    tmp_path: Path,
) -> None:
    corrupt(logistic_artifact)

    with pytest.raises(ArtifactError) as caught:
        load_model(write_artifact(tmp_path, logistic_artifact))

    assert message in str(caught.value)
    assert str(tmp_path / FILE_NAME) in str(caught.value)


def test_a_rounding_difference_of_a_dot_product_is_accepted(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    logistic_artifact.logistic_regression.intercepts[0] += 1e-13

    model = load_model(write_artifact(tmp_path, logistic_artifact))

    assert model.display_name == "Logistic Regression"


def test_lightgbm_has_to_agree_to_the_last_bit(tmp_path: Path) -> None:
    artifact, _, _ = lightgbm_artifact(2)
    golden = artifact.golden_examples[0].probabilities
    golden[1] = np.nextafter(golden[1], 1)

    with pytest.raises(GoldenMismatch, match="allowed difference is 0.0"):
        load_model(write_artifact(tmp_path, artifact))


@pytest.mark.parametrize(
    ("n_features", "n_classes", "message"),
    [
        (7, 2, "max_feature_idx is '5'; the artifact has '6'"),
        (6, 3, "num_class is '1'; the artifact has '3'"),
    ],
)
def test_a_booster_of_another_shape_is_refused(
    n_features: int, n_classes: int, message: str, tmp_path: Path
) -> None:
    artifact = artifact_without_estimator(n_features, n_classes)
    artifact.lightgbm.model_text = train_lightgbm(2)[0].model_to_string()
    artifact.golden_examples.add()

    with pytest.raises(ArtifactCorrupt, match=message):
        load_model(write_artifact(tmp_path, artifact))


def test_text_that_is_no_booster_is_refused(tmp_path: Path) -> None:
    artifact = artifact_without_estimator(2, 2)
    artifact.lightgbm.model_text = "tree\nend of trees\n"
    artifact.golden_examples.add()

    with pytest.raises(ArtifactCorrupt, match="lightgbm.model_text"):
        load_model(write_artifact(tmp_path, artifact))


@pytest.mark.parametrize("path", OLD_ARTIFACTS, ids=lambda path: path.stem)
def test_an_artifact_of_an_earlier_version_is_still_read(
    path: Path, tmp_path: Path
) -> None:
    """Its golden examples are what was answered then; its digest came from the registry."""
    content = base64.b64decode(path.read_text())
    (tmp_path / FILE_NAME).write_bytes(content)

    with pytest.raises(ArtifactCorrupt, match="older trainer"):
        load_model(tmp_path)
    ModelSource("old", "1", "", hashlib.sha256(content).hexdigest()).write(tmp_path)
    model = load_model(tmp_path)

    assert model.provenance.family in path.stem


def test_there_is_an_artifact_of_each_family() -> None:
    assert {path.stem.rsplit("-", 1)[-1] for path in OLD_ARTIFACTS} == {
        "lightgbm",
        "logistic_regression",
    }
