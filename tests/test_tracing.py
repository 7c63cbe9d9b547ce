"""Traces of calls and of model swaps, and collectors that take them or do not."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import pytest

from grpc_server.model import load_model
from grpc_server.model.watch import ModelWatcher
from grpc_server.rpc.health import SERVICE_NAME
from prediction.artifact import FILE_NAME
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from server_process import running
from support import ROOT, connect, running_server, wait_for, write_version
from tracing_support import (
    PARENT,
    PARENT_ID,
    TRACE_ID,
    facts,
    running_collector,
)
from wire import channel_to, read_metrics, samples

GOOD = pb.PredictRequest(features=[1, 2])
BAD = pb.PredictRequest(features=[1])
PREDICT = f"{SERVICE_NAME}/Predict"
STEPS = ["line", "decode", "compute", "reply"]


@pytest.mark.parametrize("lane", ["fast", "pool"])
def test_a_call_is_traced_within_its_callers_trace(model_dir: Path, lane: str) -> None:
    metadata = (
        ("traceparent", PARENT),
        ("tracestate", "vendor=1"),
        ("x-request-id", "order-7"),
    )
    before_ns = time.time_ns()
    with running_collector() as collector:
        options: dict[str, Any] = {"otlp_endpoint": collector.url, "trace_share": 0.0}
        with running_server(model_dir, lane, **options) as server:
            with connect(server) as stub:
                stub.Predict(GOOD, metadata=metadata)
                stub.Predict(GOOD)  # the share is 0
                stub.Predict(
                    GOOD, metadata=(("traceparent", PARENT[:-1] + "0"),)
                )  # its caller does not keep the trace
    after_ns = time.time_ns()

    (root,) = collector.roots(PREDICT)
    assert root.trace_id.hex() == TRACE_ID
    assert root.parent_span_id.hex() == PARENT_ID
    assert root.trace_state == "vendor=1"
    assert root.kind == root.SPAN_KIND_SERVER
    assert root.status.code == root.status.STATUS_CODE_UNSET
    found = facts(root)
    assert found.pop("client.port") > 0
    assert found.pop("prediction.model_version")
    assert found == {
        "rpc.system.name": "grpc",
        "rpc.method": PREDICT,
        "rpc.response.status_code": "OK",
        "network.transport": "tcp",
        "client.address": "127.0.0.1",
        "prediction.request_id": "order-7",
    }
    steps = collector.children(root)
    assert [step.name for step in steps] == STEPS
    times = [before_ns, root.start_time_unix_nano]
    for step in steps:
        times += [step.start_time_unix_nano, step.end_time_unix_nano]
    times += [root.end_time_unix_nano, after_ns]
    assert times == sorted(times)


def test_the_resource_names_the_process(model_dir: Path) -> None:
    with running_collector() as collector:
        options: dict[str, Any] = {
            "otlp_endpoint": collector.url,
            "trace_share": 1.0,
            "trace_service": "churn",
        }
        with running_server(model_dir, **options) as server, connect(server) as stub:
            stub.Predict(GOOD)

    (request,) = collector.requests
    resource = facts(request.resource_spans[0].resource)
    assert resource["service.name"] == "churn"
    assert {"service.version", "process.pid", "service.instance.id"} <= set(resource)


def test_each_chunk_of_a_stream_has_its_steps(model_dir: Path) -> None:
    chunk = pb.StreamPredictRequest(chunk=pb.BatchPredictRequest(values=[1, 2, 3, 4]))
    with running_collector() as collector:
        options: dict[str, Any] = {"otlp_endpoint": collector.url, "trace_share": 1.0}
        with running_server(model_dir, **options) as server, connect(server) as stub:
            assert len(list(stub.StreamPredict(iter([chunk] * 3)))) == 3
            assert len(list(stub.StreamPredict(iter([chunk] * 100)))) == 100
            stub.BatchPredict(chunk.chunk)
            stub.GetModel(pb.GetModelRequest())

    short, long = collector.roots(f"{SERVICE_NAME}/StreamPredict")
    assert [step.name for step in collector.children(short)] == STEPS * 3
    assert facts(short)["prediction.rows"] == 6
    assert len(collector.children(long)) == 64
    assert facts(long)["prediction.steps_left_out"] == 400 - 64
    for name in ("BatchPredict", "GetModel"):
        (root,) = collector.roots(f"{SERVICE_NAME}/{name}")
        assert [step.name for step in collector.children(root)] == STEPS


def test_a_call_that_fails_says_so(model_dir: Path) -> None:
    with running_collector() as collector:
        options: dict[str, Any] = {"otlp_endpoint": collector.url, "trace_share": 1.0}
        with running_server(model_dir, **options) as server, connect(server) as stub:
            with pytest.raises(grpc.RpcError):
                stub.Predict(BAD)
        with running_server(None, **options) as server, connect(server) as stub:
            with pytest.raises(grpc.RpcError):
                stub.Predict(GOOD)

    caller, served = collector.roots(PREDICT)
    assert facts(caller)["error.type"] == "INVALID_ARGUMENT"
    assert caller.status.code == caller.status.STATUS_CODE_UNSET  # the caller's fault
    assert facts(served)["error.type"] == "UNAVAILABLE"
    assert served.status.code == served.status.STATUS_CODE_ERROR


def test_calls_that_are_cut_short_are_traced(model_dir: Path) -> None:
    chunk = pb.StreamPredictRequest(chunk=pb.BatchPredictRequest(values=[1, 2]))
    options: dict[str, Any] = {"max_streams": 1, "stream_idle_seconds": 0.2}
    idle = threading.Event()

    def send() -> Iterator[pb.StreamPredictRequest]:
        yield chunk
        idle.wait(30)

    with running_collector() as collector:
        options |= {"otlp_endpoint": collector.url, "trace_share": 1.0}
        with running_server(model_dir, **options) as server, connect(server) as stub:
            stream = stub.StreamPredict(send())
            next(stream)
            for requests in (iter([chunk]), iter([])):
                with pytest.raises(grpc.RpcError):
                    list(stub.StreamPredict(requests))  # one is open already
            with pytest.raises(grpc.RpcError):
                next(stream)
            idle.set()

    refused, also, late = collector.roots(f"{SERVICE_NAME}/StreamPredict")
    assert facts(refused)["error.type"] == "RESOURCE_EXHAUSTED"
    assert collector.children(refused) == collector.children(also) == []
    assert facts(late)["error.type"] == "DEADLINE_EXCEEDED"
    assert [step.name for step in collector.children(late)] == STEPS


@pytest.mark.parametrize("is_traced", [True, False])
def test_the_access_log_names_the_trace(
    model_dir: Path, caplog: pytest.LogCaptureFixture, is_traced: bool
) -> None:
    caplog.set_level(logging.INFO)
    with running_collector() as collector:
        options: dict[str, Any] = (
            {"otlp_endpoint": collector.url, "trace_share": 1.0} if is_traced else {}
        )
        options["access_log_share"] = 1.0
        with running_server(model_dir, **options) as server, connect(server) as stub:
            stub.Predict(GOOD, metadata=(("traceparent", PARENT),))
            stub.Predict(GOOD)

    first, second = (
        record.__dict__["fields"]["trace_id"]
        for record in caplog.records
        if record.name == "grpc_server.calls"
    )
    assert first == TRACE_ID
    if is_traced:
        roots = collector.roots(PREDICT)
        assert [root.trace_id.hex() for root in roots] == [first, second]
    else:
        assert second == ""


def test_the_model_that_answers_is_named_with_a_canary(
    model_dir: Path, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    # At the centre, where the example is, nothing changes.
    logistic_artifact.logistic_regression.coefficients[0] += 0.01
    folder = write_version(tmp_path, logistic_artifact, "8")
    with running_collector() as collector:
        options: dict[str, Any] = {
            "otlp_endpoint": collector.url,
            "trace_share": 1.0,
            "canary_dir": folder,
            "canary_share": 1.0,
            "prediction_log": tmp_path / "log",
        }
        with running_server(model_dir, **options) as server, connect(server) as stub:
            assert server.canary is not None
            server.canary.serve(load_model(folder))
            wait_for(
                lambda: stub.GetModel(pb.GetModelRequest()).canary.state
                == pb.CANARY_STATE_SERVING
            )
            answer = stub.Predict(GOOD)
    assert answer.model_version == "8"
    (root,) = collector.roots(PREDICT)
    assert facts(root)["prediction.model_version"] == "8"
    steps = collector.children(root)
    assert [step.name for step in steps] == STEPS
    decode, compute = steps[1:3]
    assert decode.end_time_unix_nano > decode.start_time_unix_nano
    assert compute.start_time_unix_nano == decode.end_time_unix_nano


def test_swaps_of_a_model_are_traced(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folder = write_version(tmp_path, logistic_artifact, "8")
    with running_collector() as collector:
        with running_server(None, otlp_endpoint=collector.url) as server:
            watcher = ModelWatcher(
                folder,
                None,
                server.serve,
                server.count_load_failure,
                interval_seconds=0.05,
                try_load=lambda path, give_up: asdict(load_model(path).source),
                steps=server.follow_steps(),
            )
            watcher.load_now()
            watcher.start()
            (folder / FILE_NAME).write_bytes(b"broken")
            wait_for(lambda: len(collector.roots("model swap")) == 2)
            watcher.stop()

    good, refused = collector.roots("model swap")
    assert facts(good) == {
        "prediction.registered_model": "iris",
        "prediction.model_version": "8",
    }
    load, swap = collector.children(good)
    assert (load.name, swap.name) == ("load", "swap")
    (examples,) = collector.children(load)
    assert examples.name == "golden examples"
    assert refused.status.code == refused.status.STATUS_CODE_ERROR
    assert facts(refused)["error.type"] == "ArtifactCorrupt"
    assert [step.name for step in collector.children(refused)] == ["trial"]


@pytest.mark.slow
def test_several_processes_are_traced(model_dir: Path) -> None:
    with running_collector() as collector:
        arguments = [
            *(
                "--model-dir",
                str(model_dir),
                "--processes",
                "2",
                "--drain-seconds",
                "0",
            ),
            *("--otlp-endpoint", collector.url.removesuffix("/v1/traces")),
            *("--trace-share", "1"),
        ]
        with running(*arguments) as process:
            process.wait_for("all processes are ready")
            for _ in range(20):
                with channel_to(process) as channel:
                    PredictionServiceStub(channel).Predict(GOOD, timeout=30)
            wait_for(lambda: len(collector.roots(PREDICT)) == 20)

            def count_sent() -> float:
                found = samples(read_metrics(process), "prediction_traces_sent_total")
                return sum(sample.value for sample in found)

            wait_for(lambda: count_sent() == 22)  # and a load of each process
            page = read_metrics(process)
            names = {
                (sample.name, sample.value)
                for sample in samples(page, "request_processing_seconds_count")
            }
            assert names == {("request_processing_seconds_count", 20)}
            assert samples(page, "prediction_build_info")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0

    resources = [facts(r.resource_spans[0].resource) for r in collector.requests]
    assert len({resource["process.pid"] for resource in resources}) == 2
    assert len({resource["service.instance.id"] for resource in resources}) == 2


@pytest.mark.slow
def test_a_server_without_traces_imports_nothing_for_them() -> None:
    program = (
        "import sys; from grpc_server.server import PredictionServer; "
        "from grpc_server.settings import Settings; "
        "PredictionServer(Settings(host='127.0.0.1', port=0, http_port=0)).stop(); "
        "print([m for m in sys.modules if 'opentelemetry' in m or 'exporter' in m])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], cwd=ROOT) == b"[]\n"


@pytest.mark.slow
def test_the_page_of_the_program_has_no_times_of_creation(model_dir: Path) -> None:
    with running("--model-dir", str(model_dir)) as process:
        process.wait_for("serving")
        page = read_metrics(process)
    assert "grpc_server_started_total" in page
    assert "_created" not in page
