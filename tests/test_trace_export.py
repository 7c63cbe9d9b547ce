"""Collectors that are slow, dead or hostile, and the sampling and context of calls."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry

from grpc_server.errors import GoldenMismatch, SettingsError
from grpc_server.tracing import exporter as exporter_module
from grpc_server.tracing.collector import Collector, Outcome
from grpc_server.tracing.context import TraceContext, find_context
from grpc_server.tracing.exporter import TraceExporter, TraceMetrics
from grpc_server.tracing.headers import read_headers
from grpc_server.tracing.otlp import OtlpBatch, describe_process
from grpc_server.tracing.sampling import Sampler
from grpc_server.tracing.spans import Attribute, Record, Span, Trace
from grpc_server.tracing.start import open_tracing
from grpc_server.tracing.steps import StepRecorder

from support import answers, settings_of, wait_for
from tracing_support import (
    PARENT,
    PARENT_ID,
    TRACE_ID,
    Reply,
    odd_collector,
    running_collector,
)

PROTOBUF = {"Content-Type": "application/x-protobuf"}


class Done:
    """A record whose trace is made already."""

    def __init__(self, name: str = "work") -> None:
        self._name = name

    def to_trace(self) -> Trace:
        return Trace(TRACE_ID, "", "", True, Span(self._name, 1, 2))


class Broken:
    """A record that cannot become a trace."""

    def to_trace(self) -> Trace:
        raise ValueError("broken")


@contextmanager
def running_mlflow(store: str, folder: Path) -> Iterator[str]:
    """Run MLflow's server; return its address."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    options = {
        "host": "127.0.0.1",
        "port": port,
        "workers": 1,
        "backend-store-uri": store,
        "artifacts-destination": folder / "files",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "mlflow", "server", *flags]
    with (folder / "mlflow.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{url}/health"), 90)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


class Sending:
    """An exporter and what it counts."""

    def __init__(self, url: str, total_seconds: float = 10.0) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.exporter = TraceExporter(
            Collector(url, total_seconds=total_seconds).send,
            describe_process("test"),
            TraceMetrics(registry),
            retry_seconds=0.01,
        )

    def count(self, name: str, **labels: str) -> float | None:
        """Return one of the counts of traces."""
        full_name = f"prediction_traces_{name}_total"
        return self._registry.get_sample_value(full_name, labels)


def test_what_is_refused_for_now_is_sent_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with running_collector() as collector:
        collector.replies[:0] = [(503, {}, b"later"), (429, {"Retry-After": "0"}, b"")]
        sending = Sending(collector.url)
        sending.exporter.start()
        sending.exporter.put(Done())
        wait_for(lambda: sending.count("sent") == 1)
        sending.exporter.close()

    assert collector.n_posts == 3
    assert [span.name for span in collector.spans()] == ["work"]
    messages = [r.message for r in caplog.records if "traces" in r.message]
    assert messages == ["traces not taken by the collector", "traces are taken again"]


def test_a_dead_collector_costs_traces_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1/traces"
    sending = Sending(url)
    sending.exporter.start()
    sending.exporter.put(Done())
    wait_for(lambda: sending.count("dropped", reason="unreachable") == 1)
    sending.exporter.close()
    assert sending.count("sent") == 0


@pytest.mark.parametrize(
    "reply",
    [
        (400, {}, b"no"),
        (404, {}, b""),
        (301, {"Location": "http://127.0.0.1:9/"}, b""),
        (200, {"Content-Type": "text/html"}, b"<html>welcome</html>"),
        (200, PROTOBUF, b"\xff\xff\xff"),
    ],
)
def test_a_reply_that_is_no_collectors_is_a_refusal(reply: Reply) -> None:
    with running_collector() as collector:
        collector.replies = [reply]
        sending = Sending(collector.url)
        sending.exporter.start()
        sending.exporter.put(Done())
        wait_for(lambda: sending.count("dropped", reason="refused") == 1)
        sending.exporter.close()
    assert collector.n_posts == 1


def test_a_collector_that_takes_a_part_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 3
    response.partial_success.error_message = "too old"
    with running_collector() as collector:
        collector.replies = [(200, PROTOBUF, response.SerializeToString())]
        reply = Collector(collector.url).send(b"")
    assert (reply.outcome, reply.n_refused_spans) == (Outcome.TAKEN, 3)
    assert reply.reason == "too old"


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def stay_silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def pour(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def speak_otherwise(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"\x00\x00\x12\x04\x00\x00" * 100)


def hang_up(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("answer", [drip, stay_silent, pour, speak_otherwise, hang_up])
def test_a_hostile_collector_is_left(answer: Callable[[socket.socket], None]) -> None:
    with odd_collector(answer) as url:
        begin = time.monotonic()
        reply = Collector(url, total_seconds=0.5).send(b"x" * 1000)
        assert time.monotonic() - begin < 5
    assert reply.outcome is not Outcome.TAKEN
    assert reply.reason and len(reply.reason) <= 200


def test_a_name_that_nobody_has() -> None:
    reply = Collector("http://no-such-host.invalid:4318/v1/traces").send(b"")
    assert reply.outcome is Outcome.AGAIN


def test_a_stop_does_not_wait_for_the_collector() -> None:
    with odd_collector(stay_silent) as url:
        sending = Sending(url)
        sending.exporter.start()
        sending.exporter.put(Done())
        begin = time.monotonic()
        sending.exporter.close()
        assert time.monotonic() - begin < 4


def test_more_than_wait_are_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporter_module, "MAX_WAITING", 5)
    sending = Sending("http://127.0.0.1:9/v1/traces")
    for _ in range(8):
        sending.exporter.put(Done())
    assert sending.count("dropped", reason="full") == 3
    assert not sending.exporter.has_room()
    assert sending.count("dropped", reason="full") == 4


def test_too_many_calls_of_a_second_are_not_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporter_module, "MAX_CALLS_PER_SECOND", 3)
    sending = Sending("http://127.0.0.1:9/v1/traces")
    assert [sending.exporter.has_room() for _ in range(5)] == [True] * 3 + [False] * 2
    time.sleep(1.05)
    assert sending.exporter.has_room()


def test_a_record_that_cannot_be_written_does_not_end_the_others() -> None:
    with running_collector() as collector:
        sending = Sending(collector.url)
        sending.exporter.put(Broken())
        sending.exporter.start()
        wait_for(lambda: sending.count("dropped", reason="broken") == 1)
        sending.exporter.put(Done())
        wait_for(lambda: sending.count("sent") == 1)
        sending.exporter.close()


@pytest.mark.parametrize("text", ["\ud800", "x" * 10_000, "\x00", "ü"])
def test_any_text_can_be_written(text: str) -> None:
    batch = OtlpBatch(describe_process("test"))
    span = Span("work", 5, 3, {"text": text, "n": -1, "x": 0.5, "b": True}, text)
    batch.add(Trace(TRACE_ID, PARENT_ID, "", False, span))
    assert 0 < len(batch.encode()) < 5000


@pytest.mark.parametrize(
    "parent",
    [
        PARENT,
        PARENT[:-1] + "0",
        PARENT[:-2] + "ff",
        "01" + PARENT[2:],
        "01" + PARENT[2:] + "-more",
        "00" + PARENT[2:] + "-more",
        "ff" + PARENT[2:],
        PARENT.upper(),
        PARENT[:-1],
        PARENT + " ",
        PARENT.replace(TRACE_ID, "0" * 32),
        PARENT.replace(PARENT_ID, "0" * 16),
        "00-" + "٣" * 32 + "-" + PARENT_ID + "-01",
        "",
        "-" * 10_000,
    ],
)
def test_contexts_are_those_of_opentelemetry(parent: str) -> None:
    found = find_context((("traceparent", parent), ("tracestate", "a=1")))
    context = TraceContextTextMapPropagator().extract({"traceparent": parent})
    theirs = get_current_span(context).get_span_context()
    if not theirs.is_valid or parent != parent.lower() or parent.endswith(" "):
        assert found is None
    else:
        assert found is not None
        assert int(found.trace_id, 16) == theirs.trace_id
        assert int(found.parent_id, 16) == theirs.span_id
        assert found.is_sampled == theirs.trace_flags.sampled


def test_two_parents_are_none() -> None:
    assert find_context((("traceparent", PARENT), ("traceparent", PARENT))) is None
    assert find_context((("traceparent", b"\x00"),)) is None
    unsampled = ("traceparent", PARENT[:-1] + "0")
    assert Sampler(1.0, lambda: True).decide((unsampled, unsampled)) is not None
    assert Sampler(0.0, lambda: True).decide((unsampled, unsampled)) is None


def test_several_states_are_one() -> None:
    states = (("tracestate", "a=1"), ("tracestate", ""), ("tracestate", "b=2"))
    found = find_context((("traceparent", PARENT), *states))
    assert found is not None and found.state == "a=1,b=2"


@pytest.mark.parametrize("state", ["x" * 513, "a=ü", "a=\x00"])
def test_an_odd_state_is_left_out(state: str) -> None:
    found = find_context((("traceparent", PARENT), ("tracestate", state)))
    assert found == TraceContext(TRACE_ID, PARENT_ID)


def test_the_share_of_calls_without_a_parent() -> None:
    sampler = Sampler(0.25, lambda: True)
    n_sampled = sum(sampler.decide(()) is not None for _ in range(4000))
    assert 800 < n_sampled < 1200
    assert Sampler(0.0, lambda: True).decide(()) is None
    assert Sampler(1.0, lambda: True).decide(()) is not None
    assert Sampler(1.0, lambda: False).decide(()) is None


@pytest.mark.parametrize(
    "parent",
    [
        PARENT[:-2] + "00",
        PARENT[:-2] + "fe",
        PARENT.replace(TRACE_ID, "0" * 32)[:-1] + "0",
        PARENT.replace(PARENT_ID, "0" * 16)[:-1] + "0",
        PARENT[:-1] + "0 ",
        "01" + PARENT[2:-1] + "0",
        "",
    ],
)
def test_a_call_is_left_out_as_its_context_says(parent: str) -> None:
    metadata = (("a", "b"), ("traceparent", parent))
    context = find_context(metadata)
    expected = context is None or context.is_sampled
    assert (Sampler(1.0, lambda: True).decide(metadata) is not None) == expected


@pytest.mark.parametrize("flag", ["00", "01"])
def test_a_parent_decides_as_in_opentelemetry(flag: str) -> None:
    metadata = (("traceparent", PARENT[:-2] + flag),)
    context = TraceContextTextMapPropagator().extract(dict(metadata))
    for share in (0.0, 1.0):
        theirs = ParentBased(TraceIdRatioBased(share)).should_sample(
            context, int(TRACE_ID, 16), "call"
        )
        ours = Sampler(share, lambda: True).decide(metadata)
        assert (ours is not None) == (theirs.decision is Decision.RECORD_AND_SAMPLE)


def test_steps_become_one_trace() -> None:
    records: list[Record] = []
    steps = StepRecorder(records.append)
    with pytest.raises(GoldenMismatch):
        with steps.step("model swap"):
            with steps.step("load"):
                steps.tell(version="7")
                with steps.step("golden examples"):
                    raise GoldenMismatch("differs")
    (record,) = records
    root = record.to_trace().root
    assert (root.name, root.error) == ("model swap", "differs")
    assert root.attributes == {"version": "7", "error.type": "GoldenMismatch"}
    (load,) = root.children
    assert [child.name for child in load.children] == ["golden examples"]


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grpc_server.tracing.start.find_spec", lambda name: None)
    settings = settings_of("fast", otlp_endpoint="http://localhost:4318/v1/traces")
    with pytest.raises(SettingsError, match=r"\[tracing\]"):
        open_tracing(settings, CollectorRegistry(), str)


def test_headers_need_a_collector(tmp_path: Path) -> None:
    assert open_tracing(settings_of("fast"), CollectorRegistry(), str) is None
    settings = settings_of("fast", otlp_headers=tmp_path)
    with pytest.raises(SettingsError, match="--otlp-endpoint"):
        open_tracing(settings, CollectorRegistry(), str)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"# a vendor\n\nAuthorization: Bearer a b\r\nx-id:7\n",
            {"Authorization": "Bearer a b", "x-id": "7"},
        ),
        (b"", {}),
        (b"secret", None),
        (b"a b: secret", None),
        (b"a: secret\x01", None),
        (b"a: s\xfc", None),
        (b"Content-Length: 5", None),
        (b"a: b\n" * 20_000, None),
    ],
)
def test_a_file_of_headers(
    content: bytes, expected: dict[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "headers"
    path.write_bytes(content)
    if expected is not None:
        assert read_headers(path) == expected
        return
    with pytest.raises(SettingsError, match="--otlp-headers") as caught:
        read_headers(path)
    assert "secret" not in str(caught.value).replace(str(path), "")


def test_a_file_of_headers_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_headers(tmp_path / "none")
    with pytest.raises(SettingsError, match="directory"):
        read_headers(tmp_path)


@pytest.mark.slow
def test_mlflow_takes_what_is_sent(tmp_path: Path) -> None:
    """MLflow's server is a receiver of OTLP that others have written."""
    store = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(store)
    experiment = client.create_experiment("traces")
    with running_mlflow(store, tmp_path) as url:
        sender = Collector(f"{url}/v1/traces", {"x-mlflow-experiment-id": experiment})
        batch = OtlpBatch(describe_process("test"))
        child = Span("decode", 11, 12)
        attributes: dict[str, Attribute] = {
            "rpc.response.status_code": "OK",
            "prediction.rows": 7,
        }
        span = Span("work", 10, 20, attributes, "", (child,))
        batch.add(Trace(TRACE_ID, "", "", True, span))
        reply = sender.send(batch.encode())
    assert reply.outcome is Outcome.TAKEN, reply

    (trace,) = client.search_traces(locations=[experiment])
    names = {span.name: span.attributes for span in trace.data.spans}
    assert set(names) == {"work", "decode"}
    assert names["work"]["prediction.rows"] == 7
