"""The shadow: scored in a process of its own, compared row by row, and unable to reach a call."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from grpc_server.errors import SettingsError
from grpc_server.model import load_model
from grpc_server.observe.reports import Report
from grpc_server.server import PredictionServer
from grpc_server.settings import Settings
from grpc_server.shadow.agreement import Answers, compare
from grpc_server.shadow.metrics import ShadowMetrics
from grpc_server.shadow.options import ShadowOptions
from grpc_server.trust import Trust
from prediction.artifact import FILE_NAME
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    GetModelRequest,
    PackedRows,
    PredictRequest,
    StreamPredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub
from training.artifact.boosted_trees import encode_booster

from drift_support import read_samples
from support import (
    connect,
    lightgbm_artifact,
    read_page,
    running_server,
    wait_for,
    write_version,
)

ROWS = np.random.default_rng(0).normal(size=(40, 6))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A champion, version 1, and a shadow, version 2, which gives other answers."""
    artifact, X, _ = lightgbm_artifact(2)
    champion = write_version(tmp_path, artifact, "1")
    parameters = {"objective": "binary", "num_leaves": 3, "verbose": -1}
    data = lightgbm.Dataset(X, np.arange(len(X)) % 3 == 0)
    booster = lightgbm.train(parameters, data, num_boost_round=5)
    artifact.boosted_trees.CopyFrom(encode_booster(booster))
    for example in artifact.golden_examples:
        p = float(np.asarray(booster.predict([example.features], num_threads=1))[0])
        example.probabilities[:] = [1 - p, p]
        example.label = str(int(p > 0.5))
    return champion, write_version(tmp_path, artifact, "2")


def pages(server: PredictionServer, name: str, *labels: str) -> dict[Any, float]:
    page = read_page(f"http://127.0.0.1:{server.http_port}/metrics")
    return read_samples(page, name, *labels)


def rows_of(server: PredictionServer) -> dict[Any, float]:
    found = pages(server, "prediction_shadow_rows_total", "model_version", "agreement")
    return {key: value for key, value in found.items() if value}


def dropped_of(server: PredictionServer) -> dict[Any, float]:
    return pages(server, "prediction_shadow_dropped_total", "reason")


def is_scoring(server: PredictionServer, version: str) -> bool:
    info = pages(server, "prediction_shadow_info", "model_version")
    return info.get((version,)) == 1


@contextmanager
def shadowing(
    champion: Path, shadow: Path, version: str, **changes: Any
) -> Iterator[tuple[PredictionServer, PredictionServiceStub]]:
    with running_server(champion, shadow_dir=shadow, **changes) as server:
        with connect(server) as stub:
            wait_for(lambda: is_scoring(server, version))
            yield server, stub


def ask(stub: PredictionServiceStub) -> None:
    """Send each row alone, in a batch, and in a stream."""
    for row in ROWS:
        stub.Predict(PredictRequest(features=row, explain_top_k=2))
    rows = PackedRows(values=ROWS.astype("<f8").tobytes())
    stub.BatchPredict(BatchPredictRequest(packed_rows=rows, pack_probabilities=True))
    batch = BatchPredictRequest(values=ROWS.ravel())
    assert len(list(stub.StreamPredict(iter([StreamPredictRequest(chunk=batch)])))) == 1


@pytest.mark.parametrize("lane", ["fast", "pool"])
def test_agreement_is_what_both_models_say(
    folders: tuple[Path, Path], lane: str
) -> None:
    champion, shadow = folders
    p, q = (
        load_model(folder).estimator.predict_batch(ROWS)[:, 1] for folder in folders
    )
    n_same = int(((p > 0.5) == (q > 0.5)).sum())
    with shadowing(champion, shadow, "2", lane=lane) as (server, stub):
        ask(stub)
        wait_for(lambda: sum(rows_of(server).values()) == 3 * len(ROWS))
        rows = rows_of(server)
        difference = "prediction_shadow_absolute_difference"
        total = pages(server, f"{difference}_sum", "model_version")
        count = pages(server, f"{difference}_count", "model_version")
        times = pages(server, "prediction_shadow_seconds_count")
        described = stub.GetModel(GetModelRequest()).shadow
        instances = pages(server, "prediction_instances_total", "label")
        drift = pages(server, "prediction_drift_rows_total", "model_version")

    assert 0 < n_same < len(ROWS)
    assert rows == {
        ("2", "same"): 3 * n_same,
        ("2", "other"): 3 * (len(ROWS) - n_same),
    }
    assert total[("2",)] == pytest.approx(3 * np.abs(p - q).sum(), rel=1e-9)
    assert (count[("2",)], times[()]) == (3 * len(ROWS), len(ROWS) + 2)
    assert (described.model_version, described.share) == ("2", 1.0)
    assert (described.rows, described.same_rows) == (3 * len(ROWS), 3 * n_same)
    # What the shadow scores is counted for nobody else.
    assert sum(instances.values()) == 3 * len(ROWS)
    assert set(drift) <= {("1",)}


def test_a_new_version_scores_and_a_damaged_one_does_not(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    champion, shadow = folders
    link = tmp_path / "shadow"
    link.symlink_to(champion)
    with shadowing(champion, link, "1") as (server, stub):
        stub.Predict(PredictRequest(features=ROWS[0]))
        wait_for(lambda: dropped_of(server)[("own_answer",)] == 1)
        assert rows_of(server) == {}

        new = tmp_path / "new"
        new.symlink_to(shadow)
        new.replace(link)
        wait_for(lambda: is_scoring(server, "2"))
        assert not is_scoring(server, "1")
        stub.Predict(PredictRequest(features=ROWS[0]))
        wait_for(lambda: sum(rows_of(server).values()) == 1)

        damaged = tmp_path / "damaged"
        damaged.mkdir()
        (damaged / FILE_NAME).write_bytes(b"no model")
        new.symlink_to(damaged)
        new.replace(link)
        wait_for(
            lambda: pages(server, "prediction_shadow_load_failures_total")[()] == 1
        )
        assert is_scoring(server, "2")
        link.unlink()
        wait_for(lambda: not is_scoring(server, "2"))
        stub.Predict(PredictRequest(features=ROWS[0]))
        wait_for(lambda: dropped_of(server)[("no_shadow",)] >= 1)


def test_a_shadow_that_is_stopped_or_killed_reaches_no_call(
    folders: tuple[Path, Path],
) -> None:
    champion, shadow = folders
    with shadowing(champion, shadow, "2") as (server, stub):
        (channel,) = server._grpc._observers.channels
        assert channel.pid is not None
        os.kill(channel.pid, signal.SIGSTOP)
        for row in np.tile(ROWS, (20, 1)):
            stub.Predict(PredictRequest(features=row), timeout=5)
        os.kill(channel.pid, signal.SIGKILL)
        for row in ROWS:
            stub.Predict(PredictRequest(features=row), timeout=5)
        wait_for(lambda: pages(server, "prediction_shadow_restarts_total")[()] == 1)
        wait_for(lambda: is_scoring(server, "2"))
        before = sum(rows_of(server).values())
        stub.Predict(PredictRequest(features=ROWS[0]))
        wait_for(lambda: sum(rows_of(server).values()) == before + 1)


def test_a_canarys_answers_are_left_out(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    champion, shadow = folders
    artifact, _, _ = lightgbm_artifact(2)
    artifact.threshold = 0.6
    third = load_model(write_version(tmp_path / "third", artifact, "3"))
    flags = {"canary_dir": tmp_path / "canary", "canary_share": 1.0}
    with shadowing(champion, shadow, "2", **flags) as (server, stub):
        assert server.canary is not None
        server.canary.serve(third)
        for row in ROWS:
            answer = stub.Predict(PredictRequest(features=row))
            assert answer.model_version == "3"
        wait_for(lambda: dropped_of(server)[("canary_answer",)] == len(ROWS))
        # As the champion, the same model is compared.
        server.serve(third)
        stub.Predict(PredictRequest(features=ROWS[0]))
        wait_for(lambda: sum(rows_of(server).values()) == 1)


def test_a_shadow_of_other_features_is_a_misfit(
    folders: tuple[Path, Path], tmp_path: Path, model_dir: Path
) -> None:
    champion, _ = folders
    version = load_model(model_dir).source.version
    with shadowing(champion, model_dir, version) as (server, stub):
        ask(stub)
        wait_for(lambda: sum(rows_of(server).values()) == 3 * len(ROWS))
        assert rows_of(server) == {(version, "misfit"): 3 * len(ROWS)}


def test_another_model_of_the_same_number_is_compared(
    folders: tuple[Path, Path],
) -> None:
    champion, shadow = folders
    path = shadow / "source.json"
    source = json.loads(path.read_text())
    path.write_text(json.dumps({**source, "registered_model": "x", "version": "1"}))
    with shadowing(champion, shadow, "1") as (server, stub):
        for row in ROWS:
            stub.Predict(PredictRequest(features=row))
        wait_for(lambda: sum(rows_of(server).values()) == len(ROWS))


def test_classes_are_compared_by_label() -> None:
    given = Answers("1", ("a", "b"), ("a", "b"), (0.9, 0.1, 0.2, 0.8))
    turned = Answers("2", ("a", "a"), ("b", "a"), (0.1, 0.9, 0.4, 0.6))
    found = compare(given, ("a", "b"), turned, ("b", "a"))
    assert (found.n_same, found.n_other, found.n_compared) == (1, 1, 2)
    assert found.difference == pytest.approx(0.4)
    other = compare(given, ("a", "b"), turned, ("b", "c"))
    assert (other.n_compared, other.difference) == (0, 0.0)


def test_versions_make_no_end_of_series() -> None:
    registry = CollectorRegistry()
    metrics = ShadowMetrics(registry, 1.0)
    for number in range(300):
        texts = {"version": f"v{number}", "refusal": "line\nend"}
        metrics.take_report(Report({f"rows.same.v{number}": 1}, {}, texts))
    samples = [s for family in registry.collect() for s in family.samples]
    rows = [s for s in samples if s.name == "prediction_shadow_rows_total"]
    assert len(rows) == 101
    assert sum(s.value for s in rows) == 300
    assert "\n" not in metrics.status.refusal


def test_the_options_reach_the_process() -> None:
    settings = Settings(
        model_dir=Path("model"),
        shadow_dir=Path("shadow"),
        trusted_keys=Path("keys"),
        signed_model_name="iris",
    )
    options = ShadowOptions.from_settings(settings)
    assert options is not None
    assert ShadowOptions.decode(options.encode()) == options
    assert options.trust == Trust(Path("keys"), "iris")
    same = Settings(model_dir=Path("model"), shadow_dir=Path("model"))
    with pytest.raises(SettingsError, match="shadow's folder 'model' is the model's"):
        ShadowOptions.from_settings(same)
