"""Metrics of calls: their wait in line, many values at once, and a bounded number of labels."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from grpc_server.histograms import ManyHistogram
from grpc_server.metrics import Metrics
from prediction.v1 import prediction_service_pb2 as pb

from support import connect, read_page, running_server

BOUNDS = (0.1, 1.0, 10.0)
NAME = "prediction_waiting_seconds"


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, 9.9, 10.0, 11.0, 1e9])))
def test_many_values_at_once_are_those_one_by_one(amounts: list[float]) -> None:
    pages = []
    for kind in (Histogram, ManyHistogram):
        registry = CollectorRegistry()
        metric = kind("x", "X.", ("a",), registry=registry, buckets=BOUNDS)
        child = metric.labels("b")
        if isinstance(child, ManyHistogram):
            child.observe_many(amounts)
        else:
            for amount in amounts:
                child.observe(amount)
        page = generate_latest(registry).decode()
        pages.append([line for line in page.splitlines() if "created" not in line])
    assert pages[0] == pages[1]


def read_waits(page: str) -> tuple[float, float]:
    """Return the number of Predict calls, and the seconds that they waited."""
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith(NAME)
        and sample.labels["grpc_method"] == "Predict"
        and "le" not in sample.labels
    }
    return values[f"{NAME}_count"], values[f"{NAME}_sum"]


@pytest.mark.parametrize("lane", ["fast", "pool"])
def test_calls_in_line_are_seen_to_wait(model_dir: Path, lane: str) -> None:
    request = pb.PredictRequest(features=[1, 2])
    with running_server(model_dir, lane) as server, connect(server) as stub:
        page = f"http://127.0.0.1:{server.http_port}/metrics"
        for _ in range(50):
            stub.Predict(request)
        n_calls, alone_seconds = read_waits(read_page(page))
        assert n_calls in (49, 50)  # the last call may be over a moment later
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(lambda _: stub.Predict(request), range(2000)))
        stub.Predict(request)
        n_all, seconds = read_waits(read_page(page))

    assert n_all - n_calls >= 2000
    in_line = (seconds - alone_seconds) / (n_all - n_calls)
    assert 0 < alone_seconds / n_calls < in_line < 1


def test_labels_after_the_first_fifty_are_one_series() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    labels = [f"class {number}" for number in range(60)]
    metrics.expect_labels(labels)
    for label in labels:
        metrics.count_prediction(label)
    metrics.count_batch(dict.fromkeys(labels, 2))

    counts = {
        sample.labels["label"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "prediction_instances_total"
    }
    assert counts == dict.fromkeys(labels[:50], 3) | {"other": 30}


def test_models_of_ever_new_classes_make_no_end_of_series() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for model in range(100):
        labels = [f"{model} {number}" for number in range(40)]
        metrics.expect_labels(labels)
        metrics.count_batch(dict.fromkeys(labels, 1))

    samples = [
        sample
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "prediction_instances_total"
    ]
    assert len(samples) <= 501
    assert sum(sample.value for sample in samples) == 4000
