"""No file in the model's place ends the process, hangs it, or is served with other answers."""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import nextafter
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_server.errors import ArtifactCorrupt, ArtifactError, ArtifactUntried
from grpc_server.model import load_model
from grpc_server.model.lightgbm import LightgbmBooster
from grpc_server.model.lightgbm_text import parse_text, write_text
from grpc_server.model.source import SOURCE_FILE_NAME, ModelSource
from grpc_server.model.tree_checks import check_ensemble
from grpc_server.model.trees import read_trees
from grpc_server.trial_load import try_to_load
from prediction.artifact import FILE_NAME, seal
from prediction.artifact.v1 import model_artifact_pb2 as pb
from training.artifact.boosted_trees import encode_booster
from training.artifact.tree_formula import evaluate_trees, trees_to_probabilities

from support import lightgbm_artifact, train_lightgbm, write_artifact

Tree = pb.BoostedTree


def edit_trees(edit: Callable[[pb.BoostedTrees], object]) -> pb.ModelArtifact:
    """Return a good artifact with one thing changed."""
    artifact, _, _ = lightgbm_artifact(2)
    edit(artifact.boosted_trees)
    return artifact


def chain(n_leaves: int) -> Tree:
    """Return a tree in which each node has one leaf and the next node."""
    n_nodes = n_leaves - 1
    return Tree(
        leaf_values=[0.0] * n_leaves,
        split_features=[0] * n_nodes,
        decision_types=[2] * n_nodes,
        left_children=[*range(1, n_nodes), -n_leaves],
        right_children=[-node - 1 for node in range(n_nodes)],
        thresholds=[0.0] * n_nodes,
    )


HOSTILE_TREES: dict[str, Callable[[pb.BoostedTrees], object]] = {
    "a circle": lambda m: m.trees[0].left_children.__setitem__(0, 0),
    "a child far away": lambda m: m.trees[0].left_children.__setitem__(0, 10**8),
    "a leaf far away": lambda m: m.trees[0].right_children.__setitem__(0, -(10**8)),
    "a leaf twice": lambda m: m.trees[0].right_children.__setitem__(
        0, m.trees[0].right_children[-1]
    ),
    "a node of two parents": lambda m: m.trees[0].left_children.__setitem__(0, 3),
    "a feature too many": lambda m: m.trees[0].split_features.__setitem__(0, 6),
    "a huge feature": lambda m: m.trees[0].split_features.__setitem__(0, 2**32 - 1),
    "a leaf that is no number": lambda m: m.trees[0].leaf_values.__setitem__(0, np.nan),
    "an infinite leaf": lambda m: m.trees[0].leaf_values.__setitem__(0, np.inf),
    "a threshold that is no number": lambda m: m.trees[0].thresholds.__setitem__(
        0, np.nan
    ),
    "a decision unknown": lambda m: m.trees[0].decision_types.__setitem__(0, 255),
    "a missing type unknown": lambda m: m.trees[0].decision_types.__setitem__(0, 12),
    "categories that are not there": lambda m: m.trees[0].decision_types.__setitem__(
        0, 1
    ),
    "bounds of categories beyond them": lambda m: m.trees[0].category_bounds.extend(
        [0, 1000]
    ),
    "categories without bounds": lambda m: m.trees[0].category_words.append(1),
    "a leaf too few": lambda m: m.trees[0].leaf_values.pop(),
    "a node too few": lambda m: m.trees[0].left_children.pop(),
    "a threshold too many": lambda m: m.trees[0].thresholds.append(0.0),
    "a count too few": lambda m: m.trees[0].leaf_counts.pop(),
    "a count beyond an int": lambda m: m.trees[0].node_counts.__setitem__(0, 2**31),
    "no leaves": lambda m: m.trees[0].Clear(),
    "no trees": lambda m: m.ClearField("trees"),
    "a sigmoid of 0": lambda m: setattr(m, "sigmoid", 0.0),
    "a sigmoid that is no number": lambda m: setattr(m, "sigmoid", np.nan),
    "no objective": lambda m: m.ClearField("objective"),
    "an objective of several classes": lambda m: setattr(
        m, "objective", pb.OBJECTIVE_MULTICLASS
    ),
    "a tree too deep": lambda m: m.trees[0].CopyFrom(chain(2000)),
}


@pytest.mark.parametrize("name", HOSTILE_TREES)
def test_trees_that_are_none_are_refused(name: str, tmp_path: Path) -> None:
    artifact = edit_trees(HOSTILE_TREES[name])

    with pytest.raises(ArtifactCorrupt, match="lightgbm: "):
        load_model(write_artifact(tmp_path, artifact))


def test_a_deep_tree_within_the_bound_is_explained(tmp_path: Path) -> None:
    """An explanation goes down by recursion: the bound has to leave it room."""
    artifact = edit_trees(lambda m: m.trees[0].CopyFrom(chain(1000)))
    text = write_text_of(artifact)
    booster = lightgbm.Booster(model_str=text.decode())

    contributions = booster.predict(np.zeros((1, 6)), pred_contrib=True)

    assert np.asarray(contributions).shape == (1, 7)


def write_text_of(artifact: pb.ModelArtifact) -> bytes:
    """Return what the library would be given."""
    return write_text(check_ensemble(read_trees(artifact.boosted_trees), 6, 2))


parameters = st.fixed_dictionaries(
    {
        "num_leaves": st.integers(2, 40),
        "min_data_in_leaf": st.integers(1, 50),
        "zero_as_missing": st.booleans(),
        "use_missing": st.booleans(),
        "min_data_per_group": st.integers(1, 50),
        "boosting": st.sampled_from(["gbdt", "rf", "dart"]),
        "seed": st.integers(0, 1000),
    }
)


@settings(deadline=None, max_examples=15)
@given(parameters, st.integers(2, 3), st.integers(-300, 300), st.booleans())
def test_what_is_written_for_the_library_is_the_model_to_the_last_bit(
    drawn: dict[str, object], n_classes: int, exponent: int, has_categories: bool
) -> None:
    """From numbers and from LightGBM's own text, with explanations; so is the trainer's formula."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 4)) * 10.0**exponent
    X[::5, 0], X[::3, 1], X[:, 3] = np.nan, 0.0, rng.integers(0, 70, 400)
    y = (X[:, 2] > 0).astype(int) + (X[:, 3] % (n_classes + 1) == 0)
    own: dict[str, object] = {"objective": "binary"}
    if n_classes > 2:
        own = {"objective": "multiclass", "num_class": n_classes}
    if drawn["boosting"] == "rf":
        own |= {"bagging_freq": 1, "bagging_fraction": 0.7}
    booster = lightgbm.train(
        {**drawn, **own, "num_threads": 1, "verbose": -1},
        lightgbm.Dataset(
            X,
            y % n_classes,
            categorical_feature=[3] if has_categories else [],
        ),
        num_boost_round=8,
    )
    n_outputs = 1 if n_classes == 2 else n_classes
    message = encode_booster(booster)
    artifact = pb.ModelArtifact(boosted_trees=message)
    ensembles = [
        parse_text(booster.model_to_string(), 4, n_outputs),
        read_trees(artifact.boosted_trees),
    ]
    for ensemble in ensembles:
        text = write_text(check_ensemble(ensemble, 4, n_classes)).decode()
        again = lightgbm.Booster(model_str=text)
        for options in ({}, {"raw_score": True}, {"pred_contrib": True}):
            expected = booster.predict(X, num_threads=1, **options)
            assert np.array_equal(expected, again.predict(X, num_threads=1, **options))
    scores = evaluate_trees(message, X[:50], n_outputs)
    raw = np.asarray(booster.predict(X[:50], raw_score=True, num_threads=1))
    assert np.array_equal(scores, raw.reshape(len(scores), -1))
    answers = np.asarray(booster.predict(X[:50], num_threads=1))
    probabilities = trees_to_probabilities(message, scores)
    assert np.array_equal(probabilities, answers.reshape(len(scores), -1))


# What LightGBM takes for zero in a row: kZeroThreshold, a float.
ZERO = float(np.float32(1e-35))
doubles = st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=200)
@given(doubles, doubles, doubles)
def test_each_number_comes_to_the_library_as_it_is(
    threshold: float, left: float, right: float
) -> None:
    """Denormal ones, too: a value next to the threshold goes the other way."""
    tree = Tree(
        leaf_values=[left, right],
        split_features=[0],
        decision_types=[2],
        left_children=[-1],
        right_children=[-2],
        thresholds=[threshold],
    )
    message = pb.BoostedTrees(objective=pb.OBJECTIVE_BINARY, sigmoid=1, trees=[tree])
    booster = LightgbmBooster(check_ensemble(read_trees(message), 1, 2))

    for value in (threshold, nextafter(threshold, 1e308), nextafter(threshold, -1e308)):
        seen = 0.0 if abs(value) <= ZERO else value
        assert booster.outputs([value])[0] == (left if seen <= threshold else right)


HOSTILE_SOURCES: dict[str, str | bytes] = {
    "nested too deep": "[" * 30_000,
    "a list": "[]",
    "a number": "1",
    "no fields": "{}",
    "fields of other types": '{"registered_model": 1, "version": 2, "run_id": 3, "sha256": 4}',
    "one field too many": '{"registered_model": "a", "version": "1", "run_id": "", '
    '"sha256": "", "more": ""}',
    "not UTF-8": b"\xff\xfe",
    "too large": "[" + "1," * 100_000 + "1]",
}


@pytest.mark.parametrize("name", HOSTILE_SOURCES)
def test_a_source_file_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    write_artifact(tmp_path, lightgbm_artifact(2)[0])
    text = HOSTILE_SOURCES[name]
    content = text if isinstance(text, bytes) else text.encode()
    (tmp_path / SOURCE_FILE_NAME).write_bytes(content)

    with pytest.raises(ArtifactCorrupt, match=SOURCE_FILE_NAME):
        load_model(tmp_path)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE_NAME)
    circle = tmp_path / "circle"
    circle.symlink_to(circle)

    with pytest.raises(ArtifactCorrupt, match="not a regular file"):
        load_model(tmp_path)
    with pytest.raises(ArtifactError):
        load_model(circle)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / FILE_NAME, "wb") as file:
        file.truncate(10**12)

    with pytest.raises(ArtifactCorrupt, match="1000000000000 bytes; at most"):
        load_model(tmp_path)


def test_a_file_carries_its_own_digest(tmp_path: Path) -> None:
    """Each flipped bit and each cut is found, whether or not it shows in the answers."""
    path = write_artifact(tmp_path, lightgbm_artifact(2)[0]) / FILE_NAME
    content = path.read_bytes()
    rng = random.Random(0)
    load_model(tmp_path)

    for _ in range(200):
        flipped = bytearray(content)
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ArtifactCorrupt):
            load_model(tmp_path)
        path.write_bytes(content[: rng.randrange(len(content))])
        with pytest.raises(ArtifactCorrupt):
            load_model(tmp_path)


def test_a_trial_loads_what_can_be_served(tmp_path: Path) -> None:
    path = write_artifact(tmp_path, lightgbm_artifact(2)[0]) / FILE_NAME

    tried = try_to_load(tmp_path, lambda: False)

    assert tried["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_trial_ends_with_its_reason_or_within_its_limits(tmp_path: Path) -> None:
    """The last one takes more memory than there is: 128 MiB of features without a name."""
    broken = write_artifact(tmp_path / "a", edit_trees(HOSTILE_TREES["a circle"]))
    with pytest.raises(ArtifactCorrupt, match="has node 0 as a child"):
        try_to_load(broken, lambda: False)

    bomb = tmp_path / "b"
    bomb.mkdir()
    (bomb / FILE_NAME).write_bytes(seal(b"\x12\x00" * (63 * 1024 * 1024)))
    with pytest.raises(ArtifactError):
        try_to_load(bomb, lambda: False)
    with pytest.raises(ArtifactUntried, match="ended by signal 9"):
        try_to_load(bomb, lambda: True)


# Loads each artifact of a folder in one process, and asks it for answers of every kind.
CHILD = """
import sys
from pathlib import Path
import numpy as np
from grpc_server.errors import ArtifactError
from grpc_server.model import load_model
rng = np.random.default_rng(0)
for folder in sorted(Path(sys.argv[1]).iterdir()):
    print(folder.name, end=" ", flush=True)
    try:
        model = load_model(folder)
    except ArtifactError:
        print("refused", flush=True)
        continue
    X = rng.normal(size=(20, len(model.input_schema.features))) * 3
    model.estimator.predict_batch(X)
    model.estimator.predict_probabilities(X[0].tolist())
    model.estimator.explain(X[0].tolist(), 1)
    print("served", flush=True)
"""


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Yield files of both families and in every form, each changed somewhere."""
    rng = random.Random(seed)
    trees, _, _ = lightgbm_artifact(2)
    several, _, _ = lightgbm_artifact(3)
    old = pb.ModelArtifact()
    old.CopyFrom(trees)
    old.lightgbm.model_text = train_lightgbm(2)[0].model_to_string()
    linear = linear_artifact()
    for _ in range(count):
        artifact = pb.ModelArtifact()
        artifact.CopyFrom(rng.choice([trees, several, old, linear]))
        if rng.random() < 0.5:
            yield mutate_bytes(artifact.SerializeToString(), rng)
        elif artifact.HasField("lightgbm"):
            text = artifact.lightgbm.model_text.encode()
            mutated = mutate_bytes(text, rng).decode("ascii", "ignore")
            artifact.lightgbm.model_text = mutated
            yield artifact.SerializeToString()
        else:
            mutate_numbers(artifact, rng)
            yield artifact.SerializeToString()


def linear_artifact() -> pb.ModelArtifact:
    artifact, _, _ = lightgbm_artifact(2)
    linear = artifact.logistic_regression
    linear.coefficients.extend([0.5] * 6)
    linear.intercepts.append(0.0)
    linear.imputed_values.extend([0.0] * 6)
    for example in artifact.golden_examples:
        row = [0.0 if np.isnan(x) else x for x in example.features]
        p = 1 / (1 + np.exp(-0.5 * sum(row)))
        example.probabilities[:] = [1 - p, p]
        example.label = str(int(p > 0.5))
    return artifact


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Overwrite, cut out, double or swap some of the bytes."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        start = rng.randrange(len(changed))
        length = rng.choice([1, 1, 4, 40])
        part = changed[start : start + length]
        changed[start : start + length] = rng.choice(
            [rng.randbytes(len(part)), b"", part * 2, b"9" * len(part)]
        )
    return bytes(changed)


def mutate_numbers(artifact: pb.ModelArtifact, rng: random.Random) -> None:
    """Change one number of a tree, or of the linear model."""
    message: pb.BoostedTree | pb.LogisticRegression = artifact.logistic_regression
    if artifact.HasField("boosted_trees"):
        message = rng.choice(artifact.boosted_trees.trees)
    field, values = rng.choice(message.ListFields())
    if rng.random() < 0.3:
        del values[rng.randrange(len(values)) :]
        return
    is_double = field.cpp_type == field.CPPTYPE_DOUBLE
    is_signed = field.type == field.TYPE_SINT32
    numbers: list[float] = [0, 1, 5, 255, 2**31 - 1]
    numbers += [-1, -(2**31)] if is_signed else []
    if is_double:
        numbers = [np.nan, np.inf, -np.inf, 1e308, 0.0, -1.0]
    values[rng.randrange(len(values))] = rng.choice(numbers)


def run_mutants(count: int, seed: int, folder: Path) -> dict[str, int]:
    """Load mutants in one process; return how many were refused and served."""
    for number, content in enumerate(mutants(count, seed)):
        place = folder / f"{number:06}"
        place.mkdir()
        (place / FILE_NAME).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        ModelSource("m", "1", "r", digest).write(place)
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
    )

    assert result.returncode == 0, result.stdout[-100:] + result.stderr[-2000:]
    words = result.stdout.split()[1::2]
    assert len(words) == count
    return {word: words.count(word) for word in ("refused", "served")}


def test_mutated_artifacts_are_refused_or_served_right(tmp_path: Path) -> None:
    """Whatever is served answers its golden examples: `load_model` checks them."""
    ends = run_mutants(300, 0, tmp_path)

    assert ends["refused"] > 100
    assert ends["served"] > 0


@pytest.mark.faults
@pytest.mark.timeout(1200)
def test_ten_thousand_mutated_artifacts_end_no_process(tmp_path: Path) -> None:
    for seed in range(1, 11):
        folder = tmp_path / str(seed)
        folder.mkdir()
        ends = run_mutants(1000, seed, folder)
        assert ends["refused"] > 300
