"""No caller delays others, whatever it does. The metrics count calls as callers saw them."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_server.rpc import calls, grpcio_internals
from grpc_server.server import PREDICT_PATH, PredictionServer
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    GetModelRequest,
    PredictRequest,
    StreamPredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from server_process import running
from support import connect, running_server, wait_for
from wire import (
    SERVICE,
    RawConnection,
    channel_to,
    count_handled,
    failure,
    raw_method,
    read_metrics,
    reason,
    samples,
    silent_calls,
)

REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
AT_CENTER = PredictRequest(features=[1.0, 3.0])
BATCH = BatchPredictRequest(values=[1.0, 3.0])
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Time for a call without a message to arrive. The fast lane counts it only when it ends.
ARRIVAL_SECONDS = 0.3
SILENT_PATHS = {
    "Predict": PREDICT_PATH,
    "BatchPredict": SERVICE + "BatchPredict",
    "GetModel": SERVICE + "GetModel",
    "StreamPredict": SERVICE + "StreamPredict",
    "reflection": REFLECTION,
    "health": "/grpc.health.v1.Health/Check",
    "watch": "/grpc.health.v1.Health/Watch",
}


def handled(server: PredictionServer, method: str) -> dict[str, float]:
    """Return how many calls of a method ended with which status."""
    return count_handled(read_metrics(server), method)


def started(server: PredictionServer, method: str) -> float:
    """Return how many calls of a method began."""
    page = read_metrics(server)
    (sample,) = samples(page, "grpc_server_started_total", grpc_method=method)
    return float(sample.value)


def answers_all(server: PredictionServer) -> None:
    """Check that a caller on another connection is answered, whatever the method."""
    with channel_to(server) as channel:
        stub = PredictionServiceStub(channel)
        assert stub.Predict(AT_CENTER, timeout=20).label == "1"
        assert len(stub.BatchPredict(BATCH, timeout=20).positions) == 1
        assert stub.GetModel(GetModelRequest(), timeout=20).features
        chunks = iter([StreamPredictRequest(chunk=BATCH)])
        assert len(list(stub.StreamPredict(chunks, timeout=20))) == 1
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="readiness")
        assert health.Check(request, timeout=20).status == SERVING


@pytest.mark.parametrize("name", SILENT_PATHS)
def test_silent_callers_keep_nobody_waiting(
    name: str, model_dir: Path, lane: str
) -> None:
    """They outnumber the workers, and the calls and streams that may be in flight."""
    with running_server(model_dir, lane, workers=1, max_calls_in_flight=8) as server:
        with channel_to(server) as channel:
            with silent_calls(channel, SILENT_PATHS[name], 50):
                time.sleep(ARRIVAL_SECONDS)

                answers_all(server)


@pytest.mark.parametrize("name", SILENT_PATHS)
def test_a_message_that_does_not_come_ends_the_call(
    name: str, model_dir: Path, lane: str
) -> None:
    with running_server(model_dir, lane, message_seconds=0.2) as server:
        with channel_to(server) as channel:
            with silent_calls(channel, SILENT_PATHS[name], 1) as (call,):
                error = failure(lambda: next(call))

        method = SILENT_PATHS[name].rpartition("/")[2]
        wait_for(lambda: handled(server, method) == {"DEADLINE_EXCEEDED": 1})

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert error.details() == "no message arrived within 0.2 s"
    assert reason(error) == "MESSAGE_OVERDUE"


def test_a_stream_may_pause_for_a_while_and_not_for_ever(
    model_dir: Path, lane: str
) -> None:
    is_over = threading.Event()

    def one_chunk() -> Iterator[StreamPredictRequest]:
        yield StreamPredictRequest(chunk=BATCH)
        is_over.wait(60)

    with running_server(model_dir, lane, stream_idle_seconds=0.2) as server:
        with connect(server) as stub:
            answers = stub.StreamPredict(one_chunk())
            next(answers)
            error = failure(lambda: next(answers))
            is_over.set()

    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert error.details() == "no further message arrived within 0.2 s"


def test_a_call_is_counted_while_silent_ones_stay_open(
    model_dir: Path, lane: str
) -> None:
    """Whoever always has a silent call open keeps nothing from being counted."""
    with running_server(model_dir, lane) as server:
        with channel_to(server) as channel:
            with silent_calls(channel, PREDICT_PATH, 1):
                with silent_calls(channel, PREDICT_PATH, 3) as calls:
                    time.sleep(ARRIVAL_SECONDS)
                    for call in calls:
                        call.cancel()

                    wait_for(lambda: handled(server, "Predict") == {"CANCELLED": 3})


def test_an_answer_that_is_not_taken_is_not_kept(model_dir: Path, lane: str) -> None:
    with running_server(model_dir, lane, answer_seconds=0.2) as server:
        connection = RawConnection(server, window_bytes=0)
        connection.call(1, PREDICT_PATH, AT_CENTER.SerializeToString())

        wait_for(lambda: handled(server, "Predict") == {"CANCELLED": 1})
        answers_all(server)
        connection.close()


def test_watches_come_and_go_and_the_server_goes_on(model_dir: Path, lane: str) -> None:
    """Each leaves at another moment, also while the server notifies it or others."""
    with running_server(model_dir, lane) as server:

        def watch_and_leave(number: int) -> None:
            with channel_to(server) as channel:
                health = health_pb2_grpc.HealthStub(channel)
                for turn in range(300):
                    watch = health.Watch(health_pb2.HealthCheckRequest())
                    time.sleep((number + turn) % 4 * 0.0005)
                    watch.cancel()

        threads = [
            threading.Thread(target=watch_and_leave, args=(n,)) for n in range(4)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            answers_all(server)
        for thread in threads:
            thread.join()
        # Some left before their call was sent.
        n_watches = started(server, "Watch")
        assert n_watches > 100
        wait_for(lambda: sum(handled(server, "Watch").values()) == n_watches)


def test_a_watch_is_told_the_news_and_ends_with_the_server(
    model_dir: Path, lane: str
) -> None:
    with running_server(model_dir, lane, grace_seconds=60.0) as server:
        with channel_to(server) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="readiness")
            watch = health.Watch(request)
            unknown = health.Watch(health_pb2.HealthCheckRequest(service="odd"))
            told = [next(watch).status, next(unknown).status]
            server.drain(SimpleNamespace(wait=lambda seconds: None))  # type: ignore[arg-type]
            told.append(next(watch).status)
            begin = time.monotonic()
            server.stop()
            stop_seconds = time.monotonic() - begin
            error = failure(lambda: next(watch))

    unknown_service = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert told == [SERVING, unknown_service, NOT_SERVING]
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert stop_seconds < 30  # an open watch is no call to be waited for


def test_a_watcher_that_reads_nothing_holds_up_no_other(
    model_dir: Path, lane: str
) -> None:
    with running_server(model_dir, lane) as server:
        deaf = RawConnection(server, window_bytes=0)
        deaf.call(1, "/grpc.health.v1.Health/Watch", b"")
        with channel_to(server) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="readiness"), timeout=30
            )
            assert next(watch).status == SERVING
            server.drain(SimpleNamespace(wait=lambda seconds: None))  # type: ignore[arg-type]
            assert next(watch).status == NOT_SERVING
        deaf.close()


@pytest.mark.skipif(
    not hasattr(health_pb2, "HealthListRequest"),
    reason="the oldest grpcio-health-checking that is allowed has no List",
)
def test_health_lists_every_name(server: PredictionServer) -> None:
    with channel_to(server) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        statuses = health.List(health_pb2.HealthListRequest()).statuses

    assert {name: entry.status for name, entry in statuses.items()} == {
        "": SERVING,
        "liveness": SERVING,
        "readiness": SERVING,
        "prediction.v1.PredictionService": SERVING,
    }


def test_each_call_is_counted_as_its_caller_saw_it(model_dir: Path, lane: str) -> None:
    with running_server(model_dir, lane, max_message_bytes=100_000) as server:
        seen: Counter[tuple[str, str]] = Counter()
        with channel_to(server) as channel:
            stub = PredictionServiceStub(channel)
            raw: dict[str, Any] = {
                name: raw_method(channel, name)
                for name in ("Predict", "BatchPredict", "GetModel", "Nothing")
            }

            def see(name: str, call: Callable[[], object]) -> None:
                try:
                    call()
                    code = "OK"
                except grpc.RpcError as error:
                    code = error.code().name
                seen[name, code] += 1

            odd: Any = channel.stream_stream(SERVICE + "StreamPredict")
            for _ in range(2):
                see("Predict", lambda: stub.Predict(AT_CENTER))
                see("Predict", lambda: stub.Predict(PredictRequest()))
                for name in ("Predict", "BatchPredict", "GetModel"):
                    see(name, lambda name=name: raw[name](b"\xff"))  # type: ignore[misc]
                    see(name, lambda name=name: raw[name](bytes(200_000)))  # type: ignore[misc]
                see("Nothing", lambda: raw["Nothing"](b""))
                see("StreamPredict", lambda: list(odd(iter([b"\xff"]))))
                see("StreamPredict", lambda: list(odd(iter([bytes(200_000)]))))
                see("StreamPredict", lambda: list(odd(iter([]))))
            with silent_calls(channel, PREDICT_PATH, 3) as silent:
                time.sleep(ARRIVAL_SECONDS)
                for call in silent:
                    call.cancel()
                seen["Predict", "CANCELLED"] += 3
            slow: Any = channel.stream_unary(PREDICT_PATH)
            quiet = threading.Event()
            see("Predict", lambda: slow(iter(quiet.wait, True), timeout=0.5))
            quiet.set()

        for name in ("Predict", "BatchPredict", "GetModel", "StreamPredict", "Nothing"):
            counted = "unknown" if name == "Nothing" else name
            expected = {code: n for (n_name, code), n in seen.items() if n_name == name}
            wait_for(lambda: handled(server, counted) == expected)  # noqa: B023


def test_messages_that_are_none_leave_nothing_behind(
    model_dir: Path, lane: str
) -> None:
    """grpcio itself keeps 19 KiB of each call whose message it cannot decode."""
    arguments = ("--model-dir", str(model_dir), "--lane", lane)
    with running(*arguments) as process:
        process.wait_for("serving")
        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            method: Any = raw_method(channel, "BatchPredict")

            def send(count: int) -> None:
                sent = [method.future(b"\xff") for _ in range(count)]
                codes = {call.code() for call in sent}
                assert codes == {grpc.StatusCode.INVALID_ARGUMENT}

            for _ in range(10):
                send(100)
            before = resident_bytes(process.pid)
            for _ in range(40):
                send(100)
            grown = resident_bytes(process.pid) - before

    assert grown / 4000 < 4096


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_callers_that_wait_for_their_answers_meet_no_stop(
    model_dir: Path, lane: str
) -> None:
    """Even without draining: the answer brings word of the stop, before the caller calls again."""
    seen: Counter[str] = Counter()
    is_over = threading.Event()

    def call_again_and_again(server: PredictionServer) -> None:
        with channel_to(server) as channel:
            stub = PredictionServiceStub(channel)
            while not is_over.is_set():
                try:
                    stub.Predict(AT_CENTER, timeout=20)
                    seen["OK"] += 1
                except grpc.RpcError as error:
                    seen[error.code().name] += 1

    for _ in range(3):
        with running_server(model_dir, lane) as server:
            threads = [
                threading.Thread(target=call_again_and_again, args=(server,))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            n_before = seen["OK"]
            wait_for(lambda: seen["OK"] > n_before + 50)  # noqa: B023
        is_over.set()
        for thread in threads:
            thread.join()
        is_over.clear()

    assert set(seen) <= {"OK", "UNAVAILABLE"}


@pytest.mark.parametrize(
    ("min_ping_seconds", "is_allowed"), [(0.01, True), (60.0, False)]
)
def test_clients_may_ping_as_often_as_the_setting_says(
    min_ping_seconds: float, is_allowed: bool, model_dir: Path
) -> None:
    with running_server(model_dir, min_ping_seconds=min_ping_seconds) as server:
        connection = RawConnection(server, window_bytes=65_535)
        for _ in range(8):
            connection.ping()
            time.sleep(0.05)

        assert connection.is_turned_away() != is_allowed
        connection.close()


def test_a_fault_outside_of_the_boundary_ends_one_call(
    model_dir: Path, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that reached the serving thread would end it, and with it the server."""
    with running_server(model_dir, lane) as server, connect(server) as stub:

        def break_down(*arguments: object) -> None:
            raise RuntimeError("bug")

        monkeypatch.setattr(calls.UnaryCall, "on_message", break_down)
        error = failure(lambda: stub.Predict(AT_CENTER, timeout=20))
        monkeypatch.undo()

        assert error.code() == grpc.StatusCode.CANCELLED
        answers_all(server)


def test_a_step_of_the_clock_ends_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    details = SimpleNamespace(deadline=time.time() + 60)
    call = calls.UnaryCall(SimpleNamespace(call=None, call_details=details))

    monkeypatch.setattr(time, "time", lambda: details.deadline + 3600)
    monkeypatch.setattr(grpcio_internals, "time", time.time)

    assert 50 < call.time_remaining() <= 60
