"""Artifacts of all kinds, changed anywhere in their structure, are refused or served right.

Where `test_artifact_fuzz` changes bytes and numbers, this changes what its schema lets one change:
any field of any message, with the values that break things.
"""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import NDArray

from grpc_server.model import load_model
from prediction.artifact import FILE_NAME, seal
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.artifact.boosted_trees import encode_booster
from training.artifact.formula import evaluate_formula

from support import artifact_without_estimator, write_artifact

# Loads each artifact of a folder, and asks it for answers of every kind.
CHILD = """
import sys
from pathlib import Path
import numpy as np
from grpc_server.errors import InvalidInstance, StartupError
from grpc_server.model import load_model
from grpc_server.model.arrays import find_unlike_one
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        model = load_model(path)
    except StartupError as error:
        assert len(str(error)) < 2000, len(str(error))
        print("refused", flush=True)
        continue
    features = model.input_schema.features
    X = np.random.default_rng(0).normal(size=(20, len(features))) * 3
    for position, feature in enumerate(features):
        if feature.n_categories:
            X[:, position] = np.arange(20) % feature.n_categories
    probabilities = model.estimator.predict_batch(X)
    alone = [model.estimator.predict_probabilities(row) for row in X.tolist()]
    assert np.array_equal(probabilities, alone, equal_nan=True)
    is_answer = find_unlike_one(probabilities, 1e-6) is None
    assert not is_answer or (0 <= probabilities).all()
    try:
        model.estimator.explain(X[0].tolist(), 1)
    except InvalidInstance:
        pass
    print("served", flush=True)
"""

INTEGERS = [0, 1, -1, 2, 31, 255, 2**31 - 1, -(2**31), 2**32 - 1, 2**62, -(2**63)]
DOUBLES = [0.0, -0.0, 1.0, -1.0, 0.5, 1e308, -1e308, 5e-324]
DOUBLES += [float("nan"), float("inf"), -float("inf")]
RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
}
TEXTS = ["", "x", "f1", "\0", "é" * 100, "l" * 20_000, "a\nb", "1", "0"]


N_ROWS = 300


@pytest.fixture(scope="module")
def artifacts() -> list[ModelArtifact]:
    """Artifacts of both families, for two and three classes, plain and calibrated in both ways."""
    X = make_rows()
    made = []
    for n_classes in (2, 3):
        for artifact in (make_linear(n_classes), make_trees(X, n_classes)):
            for method in ("none", "sigmoid", "isotonic"):
                copy = ModelArtifact()
                copy.CopyFrom(artifact)
                calibrate(copy, method, 1 if n_classes == 2 else n_classes)
                add_golden_examples(copy, X[:8], n_classes)
                made.append(copy)
    return made


def make_rows() -> NDArray[np.float64]:
    """Return rows of two numbers, a truth value, and two features of 3 and 40 categories."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, 5))
    X[::7, 0] = np.nan
    X[:, 2] = X[:, 2] > 0
    X[:, 3], X[:, 4] = rng.integers(0, 3, N_ROWS), rng.integers(0, 40, N_ROWS)
    return X


def make_frame(n_classes: int) -> ModelArtifact:
    artifact = artifact_without_estimator(5, n_classes)
    features = artifact.input_schema.features
    features[0].nullable = True
    features[2].boolean.SetInParent()
    features[3].categorical.strings.values.extend("abc")
    features[3].categorical.refuse_unknown = True
    features[4].categorical.integers.values.extend(range(40))
    return artifact


def make_linear(n_classes: int) -> ModelArtifact:
    artifact, rng = make_frame(n_classes), np.random.default_rng(1)
    n_outputs = 1 if n_classes == 2 else n_classes
    linear = artifact.logistic_regression
    linear.coefficients.extend(rng.normal(size=3 * n_outputs))
    linear.intercepts.extend(rng.normal(size=n_outputs))
    linear.centers.extend(rng.normal(size=3))
    linear.imputed_values.extend(rng.normal(size=3))
    for n_categories in (3, 40):
        weights = rng.normal(size=n_outputs * n_categories)
        linear.category_weights.add(values=weights)
    return artifact


def make_trees(X: NDArray[np.float64], n_classes: int) -> ModelArtifact:
    artifact = make_frame(n_classes)
    y = (X[:, 1] > 0) + (X[:, 4] % (n_classes - 1) == 0).astype(int)
    parameters = {"objective": "binary", "num_leaves": 7, "min_data_per_group": 1}
    if n_classes > 2:
        parameters |= {"objective": "multiclass", "num_class": n_classes}
    booster = lightgbm.train(
        {**parameters, "num_threads": 1, "verbose": -1},
        lightgbm.Dataset(X, y % n_classes, categorical_feature=[3, 4]),
        num_boost_round=10,
    )
    artifact.boosted_trees.CopyFrom(encode_booster(booster))
    return artifact


def calibrate(artifact: ModelArtifact, method: str, n_maps: int) -> None:
    for _ in range(0 if method == "none" else n_maps):
        added = artifact.calibration.maps.add()
        if method == "sigmoid":
            added.sigmoid.slope, added.sigmoid.intercept = -1.5, 0.25
        else:
            added.isotonic.inputs.extend([-2.0, -0.5, 0.5, 3.0])
            added.isotonic.outputs.extend([0.0, 0.25, 0.5, 1.0])


def add_golden_examples(
    artifact: ModelArtifact, X: NDArray[np.float64], n_classes: int
) -> None:
    """Add rows with the probabilities that the trainer's formula gives."""
    artifact.golden_examples.add(probabilities=[0.0] * n_classes)
    expected = evaluate_formula(artifact, X)
    del artifact.golden_examples[:]
    for row, probabilities in zip(X, expected, strict=True):
        example = artifact.golden_examples.add(probabilities=probabilities)
        example.label = str(probabilities.argmax())
        for position, number in enumerate(row.tolist()):
            value = example.record.fields[f"f{position}"]
            if number != number:
                value.null_value = 0  # type: ignore[assignment]
            elif position == 2:
                value.bool_value = bool(number)
            elif position == 3:
                value.string_value = "abc"[int(number)]
            else:
                value.number_value = number


def mutate(message: Message, rng: random.Random) -> None:
    """Change one thing of a message, at any depth."""
    descriptor = message.DESCRIPTOR
    there: list[Any] = [field for field, _ in message.ListFields()]
    every: list[Any] = list(descriptor.fields)
    fields = there if there and rng.random() < 0.9 else every
    if not fields:
        return
    field = rng.choice(fields)
    if is_map(field):
        message.ClearField(field.name)
    elif field.is_repeated:
        mutate_list(getattr(message, field.name), field, rng)
    elif field.message_type is None:
        setattr(message, field.name, draw(field, rng))
    elif rng.random() < 0.05:
        message.ClearField(field.name)
    else:
        getattr(message, field.name).SetInParent()
        mutate(getattr(message, field.name), rng)


def is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.GetOptions().map_entry


def mutate_list(values: Any, field: FieldDescriptor, rng: random.Random) -> None:
    place = rng.randrange(len(values)) if values else 0
    what = rng.choice(["change"] * 6 + ["delete", "cut", "double", "add", "swap"])
    if what == "add" or not values:
        if field.message_type is None:
            values.append(draw(field, rng))
        else:
            values.add()
    elif what == "delete":
        del values[place]
    elif what == "cut":
        del values[place:]
    elif what == "double":
        values.extend(list(values[place : place + 3]))
    elif field.message_type is not None:
        mutate(values[place], rng)
    elif what == "swap":
        other = rng.randrange(len(values))
        values[place], values[other] = values[other], values[place]
    else:
        values[place] = draw(field, rng)


def draw(field: FieldDescriptor, rng: random.Random) -> Any:
    """Return a value that a field of this type may hold."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return rng.choice(DOUBLES)
        case FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.CPPTYPE_STRING:
            is_bytes = field.type == FieldDescriptor.TYPE_BYTES
            return b"x" if is_bytes else rng.choice(TEXTS)
        case FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice([0, 1, 2, 3, 1000])
        case kind:
            lowest, highest = RANGES[kind]
            return max(lowest, min(highest, rng.choice(INTEGERS)))


def mutants(bases: list[ModelArtifact], count: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(count):
        artifact = ModelArtifact()
        artifact.CopyFrom(rng.choice(bases))
        artifact.ClearField("sha256")
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            mutate(artifact, rng)
        artifact.ClearField("sha256")
        yield seal(artifact.SerializeToString())


def run(bases: list[ModelArtifact], count: int, seed: int, folder: Path) -> list[str]:
    """Load mutants in one process, and return what became of each."""
    for number, content in enumerate(mutants(bases, count, seed)):
        place = folder / f"{number:06}"
        place.mkdir(parents=True)
        (place / FILE_NAME).write_bytes(content)
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert result.returncode == 0, result.stdout[-100:] + result.stderr[-3000:]
    return result.stdout.split()[1::2]


def test_mutants_of_all_kinds_are_refused_or_served_right(
    artifacts: list[ModelArtifact], tmp_path: Path
) -> None:
    ends = run(artifacts, 400, 0, tmp_path)

    assert ends.count("refused") > 100
    assert ends.count("served") > 20
    assert len(ends) == 400


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_ten_thousand_mutants_of_all_kinds_end_no_process(
    artifacts: list[ModelArtifact], tmp_path: Path
) -> None:
    for seed in range(1, 11):
        assert len(run(artifacts, 1000, seed, tmp_path / str(seed))) == 1000


def test_what_is_mutated_is_served_as_it_is(
    artifacts: list[ModelArtifact], tmp_path: Path
) -> None:
    for number, artifact in enumerate(artifacts):
        load_model(write_artifact(tmp_path / str(number), artifact))
