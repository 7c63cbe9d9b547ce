"""What a page of metrics tells of the build, and the names that earlier dashboards know."""

import platform
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from grpc_server import __version__
from grpc_server.histograms import ManyHistogram
from grpc_server.processing_seconds import ProcessingSeconds
from prediction.v1 import prediction_service_pb2 as pb

from support import connect, running_server
from tracing_support import PARENT, TRACE_ID, running_collector

GOOD = pb.PredictRequest(features=[1, 2])


def read(port: int, accept: str = "text/plain") -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        text: str = response.read().decode()
        return text


def test_the_page_names_the_build(model_dir: Path) -> None:
    with running_server(model_dir, revision="1a2b3c4") as server:
        page = read(server.http_port)

    (build,) = (m for m in parse_plain(page) if m.name == "prediction_build_info")
    assert [sample.labels for sample in build.samples] == [
        {
            "version": __version__,
            "python": platform.python_version(),
            "grpcio": grpc.__version__,
            "revision": "1a2b3c4",
        }
    ]


def test_the_version_is_that_of_the_distribution() -> None:
    assert version("prediction-server") == __version__


def test_predict_has_the_predecessors_summary() -> None:
    registry = CollectorRegistry()
    source = ManyHistogram(
        "grpc_server_handling_seconds", "", ("grpc_method",), registry=registry
    )
    registry.register(ProcessingSeconds(source))
    assert registry.get_sample_value("request_processing_seconds_count") == 0
    source.labels("Predict").observe_many([0.25, 0.5])
    source.labels("BatchPredict").observe(8.0)

    assert registry.get_sample_value("request_processing_seconds_count") == 2
    assert registry.get_sample_value("request_processing_seconds_sum") == 0.75
    page = generate_latest(registry).decode()
    assert "# TYPE request_processing_seconds summary" in page


@pytest.mark.parametrize("lane", ["fast", "pool"])
def test_an_openmetrics_page_has_examples_of_calls(model_dir: Path, lane: str) -> None:
    with running_collector() as collector:
        options: dict[str, Any] = {"otlp_endpoint": collector.url, "trace_share": 0.0}
        with running_server(model_dir, lane, **options) as server:
            with connect(server) as stub:
                stub.Predict(GOOD, metadata=(("traceparent", PARENT),))
                stub.Predict(GOOD)
            page = read(server.http_port, "application/openmetrics-text")
            assert TRACE_ID not in read(server.http_port)  # the plain format has none

    examples = [
        (metric.name, sample.labels["grpc_method"], sample.exemplar)
        for metric in text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
        for sample in metric.samples
        if sample.exemplar is not None
    ]
    ((name, method, example),) = examples
    assert (name, method) == ("grpc_server_handling_seconds", "Predict")
    assert example.labels == {"trace_id": TRACE_ID}
    assert example.value > 0
