"""Drift: rows are counted in the bins of the reference, exactly or as a uniform sample."""

import itertools
import json
from collections import Counter
from dataclasses import asdict
from math import nan
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from grpc_server.drift.collector import merge
from grpc_server.drift.layout import MAX_LABEL_CHARACTERS, make_labels
from grpc_server.drift.monitor import DriftMonitor
from grpc_server.drift.reservoir import Answer, Reservoir
from grpc_server.drift.store import CountStore, read_all
from grpc_server.drift.watch import make_watch
from grpc_server.model import LoadedModel
from prediction_common.stability import index_stability, measure_distance
from training.artifact.bins import Column, bin_numbers, find_edges

from drift_support import (
    load,
    make_numbers,
    mixed_artifact,
    number_artifact,
    offer,
    page_of,
    read_samples,
)

BINS = "prediction_feature_bin_total"
ROWS = "prediction_drift_rows_total"


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return load(tmp_path / "model", number_artifact())


def watch(model: LoadedModel, n_features: int = 30, **changes: Any) -> DriftMonitor:
    """Return a monitor of a model, which no thread disturbs; each look is a second later."""
    seconds = itertools.count(0.0)
    monitor = DriftMonitor(n_features, clock=lambda: next(seconds), **changes)
    monitor.watch(model)
    return monitor


def test_rows_are_counted_as_numpy_bins_them(model: LoadedModel) -> None:
    X, monitor = make_numbers(700, seed=5), watch(model)
    offer(monitor, model, X)
    page = page_of(monitor)
    assert read_samples(page, ROWS) == {(): 700}
    found = read_samples(page, BINS, "feature", "bin")
    assert model.reference is not None
    for bins in model.reference.features:
        column = X[:, bins.position]
        known = column[~np.isnan(column)]
        expected = np.bincount(np.searchsorted(bins.edges, known), minlength=10)
        name = bins.feature.name
        counts = [n for (feature, _), n in found.items() if feature == name]
        assert counts == [*expected, np.isnan(column).sum()]


def test_every_kind_has_its_bins(tmp_path: Path) -> None:
    artifact, X = mixed_artifact()
    model = load(tmp_path, artifact)
    monitor = watch(model, max_rows=5_000)
    offer(monitor, model, X)
    page = page_of(monitor)
    counts = read_samples(page, BINS, "feature", "bin")
    shares = read_samples(page, "prediction_feature_reference_ratio", "feature", "bin")
    assert counts.keys() == shares.keys()
    assert {name for name, _ in counts} == {"age", "hours", "smoker", "city", "grade"}
    assert [b for name, b in counts if name == "smoker"] == ["false", "true", "missing"]
    assert {b for name, b in counts if name == "city"} == {
        *("Oslo", "", "Zürich"),
        *("other", "missing"),
    }
    # The rows are those of the reference.
    for key, n_rows in counts.items():
        assert n_rows / len(X) == pytest.approx(shares[key], abs=1e-12)


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_of_many_rows_each_has_the_same_chance(
    model: LoadedModel, seconds: float
) -> None:
    """Whether the sample is drawn by gaps, from the rate of the last look, or by replacing rows."""
    now, drawn, n_drawn = [0.0], Counter[int](), 0
    reservoir = Reservoir(50, Random(0), lambda: now[0])

    def take(number: int) -> Answer:
        return Answer(model, [float(number)], [], 0)

    for _ in range(400):
        for number in range(400):
            reservoir.offer(*take(number))
        reservoir.offer_many(600, lambda row: take(400 + row))
        now[0] += seconds
        rows = reservoir.take_all()
        n_drawn += len(rows)
        assert len(rows) <= 50 and len({answer.row[0] for answer in rows}) == len(rows)
        drawn.update(int(answer.row[0]) // 100 for answer in rows)
    assert reservoir.take_all() == []
    assert n_drawn > 400 * 40
    expected = n_drawn / 10
    # Ten parts: the sum of squares is above 28 once in a thousand times.
    assert sum((drawn[part] - expected) ** 2 / expected for part in range(10)) < 28


def test_after_a_rush_all_rows_are_kept_again(model: LoadedModel) -> None:
    now = [0.0]
    reservoir = Reservoir(50, Random(0), lambda: now[0])

    def send(n_rows: int) -> int:
        for _ in range(n_rows):
            reservoir.offer(model, [], [], 0)
        now[0] += 1.0
        return len(reservoir.take_all())

    assert send(1_000) == 50
    assert 20 < send(1_000) <= 50
    assert send(40) < 40
    for _ in range(5):
        send(40)
    assert send(40) == 40


def test_rows_of_a_wide_table_take_little_memory(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grpc_server.drift.monitor.MAX_NUMBERS", 80)
    # A row has six features and two probabilities.
    monitor = watch(model)
    offer(monitor, model, make_numbers(500))
    assert read_samples(page_of(monitor), ROWS) == {(): 10}


def test_fewer_rows_than_the_sample_holds_are_all_counted(model: LoadedModel) -> None:
    monitor = watch(model, max_rows=100)
    for _ in range(3):
        offer(monitor, model, make_numbers(100))
        monitor.read()
    assert read_samples(page_of(monitor), ROWS) == {(): 300}
    offer(monitor, model, make_numbers(1_000))
    assert read_samples(page_of(monitor), ROWS) == {(): 400}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_expected_performance_is_that_of_cbpe(tmp_path: Path, n_classes: int) -> None:
    model = load(tmp_path, number_artifact(n_classes))
    monitor = watch(model, max_rows=5_000)
    probabilities = offer(monitor, model, make_numbers(3_000))
    sums = read_samples(
        page_of(monitor), "prediction_expected_outcomes_total", "predicted", "actual"
    )
    predicted = np.array(model.classes.decide_batch(probabilities))
    for (name, actual), total in sums.items():
        chosen = probabilities[predicted == int(name), int(actual)]
        assert total == pytest.approx(chosen.sum(), rel=1e-12)
    # CBPE's accuracy is the mean probability of the predicted classes.
    accuracy = sum(sums[name, name] for name in map(str, range(n_classes))) / 3_000
    assert accuracy == pytest.approx(
        probabilities[np.arange(3_000), predicted].mean(), rel=1e-12
    )
    if n_classes == 2:
        p, yes = probabilities[:, 1], predicted == 1
        precision = sums["1", "1"] / (sums["1", "1"] + sums["1", "0"])
        recall = sums["1", "1"] / (sums["1", "1"] + sums["0", "1"])
        assert precision == pytest.approx(p[yes].mean(), rel=1e-12)
        assert recall == pytest.approx(p[yes].sum() / p.sum(), rel=1e-12)


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.floats(0.0, 1.0)), min_size=2, max_size=30
    )
)
def test_distance_is_that_of_scipy_and_nannyml(pairs: list[tuple[int, float]]) -> None:
    counts, shares = map(np.array, zip(*pairs, strict=True))
    if not counts.sum() or shares.sum() < 1e-6:
        return
    # SciPy takes the root of a difference that may round below 0.
    with np.errstate(invalid="ignore"):
        expected = np.nan_to_num(jensenshannon(shares, counts, base=2))
    found = measure_distance(counts.tolist(), shares.tolist())
    # A distance near 0 is the root of a difference that rounds.
    assert found**2 == pytest.approx(expected**2, abs=1e-12)
    # NannyML's calculator, with bins fixed on the reference.
    p, q = shares / shares.sum(), counts / counts.sum()
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(x > 0, x * np.log2(x / m), 0).sum() for x in (p, q)]
    assert found**2 == pytest.approx(sum(terms) / 2, abs=1e-12)


@pytest.mark.parametrize("n_reference", [120, 300, 700, 5_000])
def test_without_drift_no_window_is_an_alert(n_reference: int) -> None:
    random = np.random.default_rng(n_reference)
    n_above = 0
    for _ in range(20):
        column = Column(random.normal(size=n_reference), None)
        edges = find_edges(column, n_reference)
        shares = bin_numbers(column, edges)
        for window in random.normal(size=(50, 1_000)):
            counts = np.bincount(
                np.searchsorted(edges, window), minlength=len(shares)
            ).tolist()
            n_above += index_stability(counts, shares) > 0.2
    assert n_above <= 1


def test_the_shifted_column_rises_and_no_other(model: LoadedModel) -> None:
    X = make_numbers(4_000, seed=9)
    X[:, 2] += 1.0
    X[::2, 0] = nan
    monitor = watch(model, max_rows=5_000)
    offer(monitor, model, X)
    counts = read_samples(page_of(monitor), BINS, "feature", "bin")
    assert model.reference is not None
    index = {
        bins.feature.name: index_stability(
            [n for (name, _), n in counts.items() if name == bins.feature.name],
            bins.shares,
        )
        for bins in model.reference.features
    }
    assert {name for name, value in index.items() if value > 0.2} == {"f0", "f2"}
    assert max(value for value in index.values() if value <= 0.2) < 0.02


def test_features_beyond_the_limit_have_one_index_each(model: LoadedModel) -> None:
    monitor = watch(model, n_features=2, max_rows=100)
    psi = "prediction_feature_psi"
    for number in range(30):
        if number == 9:
            # 900 rows are too few.
            assert not read_samples(page_of(monitor), psi)
        X = make_numbers(100, seed=number)
        X[:, 4] += 1.0
        offer(monitor, model, X)
        monitor.read()
    page = page_of(monitor)
    assert {name for name, _ in read_samples(page, BINS, "feature", "bin")} == {
        *("f0", "f1"),
    }
    index = {
        name: value for (name,), value in read_samples(page, psi, "feature").items()
    }
    assert index.keys() == {"f2", "f3", "f4", "f5"}
    assert index.pop("f4") > 0.5
    assert max(index.values()) < 0.05


def test_the_window_of_an_index_forgets(model: LoadedModel) -> None:
    monitor = watch(model, n_features=1, max_rows=100)
    for number in range(320):
        X = make_numbers(100, seed=number) + (5.0 if number < 150 else 0.0)
        offer(monitor, model, X)
        monitor.read()
    index = read_samples(page_of(monitor), "prediction_feature_psi", "feature")
    assert max(index.values()) < 0.05


def test_a_new_model_begins_anew(tmp_path: Path, model: LoadedModel) -> None:
    monitor = watch(model)
    offer(monitor, model, make_numbers(10))
    other = load(tmp_path / "other", number_artifact(3))
    monitor.watch(other)
    # A call that began with the old model.
    offer(monitor, model, make_numbers(10))
    offer(monitor, other, make_numbers(4))
    page = page_of(monitor)
    assert read_samples(page, ROWS) == {(): 4}
    assert "prediction_score_rows" not in page
    without = number_artifact()
    without.ClearField("reference")
    monitor.watch(load(tmp_path / "old", without))
    assert page_of(monitor) == ""


def test_a_model_that_is_not_calibrated_says_so(tmp_path: Path) -> None:
    artifact, valid = number_artifact(), "prediction_expected_valid"

    def show() -> dict[Any, float]:
        page = page_of(watch(load(tmp_path, artifact)))
        return read_samples(page, valid, "reason")

    assert show() == {("",): 1.0}
    artifact.reference.expected_calibration_error = 0.0501
    assert show() == {("not_calibrated",): 0.0}
    artifact.reference.ClearField("expected_calibration_error")
    assert show() == {("calibration_unknown",): 0.0}


@given(st.lists(st.text(max_size=3), max_size=12, unique=True))
def test_labels_are_short_and_unique(texts: list[str]) -> None:
    long = "x" * 500
    texts = [*texts, "other", "other~2", long, long + "y", 'a"\n\\', "\x00\r"]
    labels = make_labels(texts, ("other", "missing"))
    assert len(set(labels) | {"other", "missing"}) == len(texts) + 2
    assert max(map(len, labels)) <= MAX_LABEL_CHARACTERS + 4


def test_hostile_names_and_categories_leave_the_page_readable(tmp_path: Path) -> None:
    artifact, X = mixed_artifact()
    features = artifact.input_schema.features
    names = {"city": 'a"b\n\\{} c', "age": "é" * 300, "hours": "# TYPE x counter"}
    categories = ["missing", 'x"} 1\nevil_total 7', "\x00\r" + "y" * 9_000]
    for feature in features:
        feature.name = names.get(feature.name, feature.name)
    for watched in artifact.reference.features:
        watched.name = names.get(watched.name, watched.name)
    next(f for f in features if f.name == names["city"]).categorical.strings.values[
        :
    ] = categories
    for example in artifact.golden_examples:
        # Loading compares answers by the names and categories of before.
        fields = example.record.fields
        old = {"Oslo": 0, "": 1, "Zürich": 2}
        city = fields.pop("city")
        if city.WhichOneof("kind") == "string_value":
            city.string_value = categories[old[city.string_value]]
        fields[names["city"]].CopyFrom(city)
        for name in ("age", "hours"):
            fields[names[name]].CopyFrom(fields.pop(name))
    model = load(tmp_path, artifact)
    monitor = watch(model)
    offer(monitor, model, X[:100])
    counts = read_samples(page_of(monitor), BINS, "feature", "bin")
    assert {bin for name, bin in counts if name == names["city"]} == {
        *("missing~2", categories[1], categories[2][:MAX_LABEL_CHARACTERS]),
        *("other", "missing"),
    }
    assert ("é" * MAX_LABEL_CHARACTERS, "missing") in counts


def keep(folder: Path, number: int, model: LoadedModel, n_rows: int) -> None:
    """Count rows as a process does that ends by itself."""
    monitor = watch(model, store=CountStore(folder, number))
    offer(monitor, model, make_numbers(n_rows))
    monitor.stop()


def read_rows(folder: Path) -> float:
    return sum(counts.n_rows for _, counts in merge(read_all(folder)))


def flatten(value: Any) -> np.ndarray:
    """Return a count, or counts in lists of different lengths, as one vector."""
    if isinstance(value, list):
        return np.concatenate([np.empty(0), *map(flatten, value)])
    return np.array([value])


def test_processes_are_summed_and_a_successor_goes_on(
    tmp_path: Path, model: LoadedModel
) -> None:
    for number, n_rows in enumerate((10, 20, 30)):
        keep(tmp_path, number, model, n_rows)
    assert read_rows(tmp_path) == 60
    parts = [asdict(snapshot.counts) for snapshot in read_all(tmp_path)]
    ((_, counts),) = merge(read_all(tmp_path))
    for name, value in asdict(counts).items():
        assert flatten(value) == pytest.approx(
            sum(flatten(p[name]) for p in parts)
        ), name
    keep(tmp_path, 1, model, 5)
    assert read_rows(tmp_path) == 65
    other = load(tmp_path / "other", number_artifact(n_rows=900))
    keep(tmp_path, 1, other, 7)
    # Two versions are shown while processes change from one to the other.
    rows = {layout.version: n.n_rows for layout, n in merge(read_all(tmp_path))}
    assert rows == {model.source.version: 40, other.source.version: 7}


def test_a_broken_file_of_a_process_does_not_break_the_page(
    tmp_path: Path, model: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        keep(tmp_path, number, model, 10)
    (tmp_path / "drift_0.json").write_text('{"layout": {}}')
    (tmp_path / "drift_1.json").write_bytes(b"\xff")
    assert read_rows(tmp_path) == 10
    assert "cannot be read" in caplog.text
    keep(tmp_path, 0, model, 1)
    assert read_rows(tmp_path) == 11


def test_without_a_folder_rows_are_counted_on(
    tmp_path: Path, model: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    monitor = watch(model, store=CountStore(folder, 0), look_seconds=0.01)
    offer(monitor, model, make_numbers(10))
    monitor.read()
    assert caplog.text.count("drift is not shown") == 1
    folder.mkdir()
    offer(monitor, model, make_numbers(10))
    monitor.stop()
    assert read_rows(folder) == 20


def test_a_snapshot_is_read_as_it_was_written(
    tmp_path: Path, model: LoadedModel
) -> None:
    keep(tmp_path, 0, model, 10)
    (snapshot,) = read_all(tmp_path)
    made = make_watch(model, 30)
    assert made is not None and snapshot.layout == made.layout
    content = json.loads((tmp_path / "drift_0.json").read_text())
    assert content["counts"] == asdict(snapshot.counts)
