"""The prediction log of a real server: what callers were answered, bit for bit."""

import hashlib
import json
import os
import signal
import stat
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grpc_server.errors import SettingsError
from grpc_server.request_id import find_position
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    PredictRequest,
    StreamPredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from log_support import count, observer_pid, read_lines
from server_process import running
from support import (
    connect,
    lightgbm_artifact,
    running_server,
    wait_for,
    write_artifact,
)
from wire import channel_to, failure

AT_CENTER = PredictRequest(features=[1.0, 3.0])
BATCH = BatchPredictRequest(values=[1.0, 3.0, 2.0, 0.5, -1.0, 0.0])


def wait_for_lines(folder: Path, n_lines: int) -> list[dict[str, Any]]:
    """Return the lines once there are so many."""
    wait_for(lambda: folder.exists() and len(read_lines(folder)) >= n_lines)
    return read_lines(folder)


def test_lines_are_what_callers_were_answered(tmp_path: Path, lane: str) -> None:
    artifact, rows, _ = lightgbm_artifact(3)
    folder = write_artifact(tmp_path / "model", artifact)
    answers: dict[str, list[list[float]]] = {}
    log = tmp_path / "log"
    with running_server(folder, lane, prediction_log=log) as server:
        with connect(server) as stub:
            for number in range(20):
                reply = stub.Predict(
                    PredictRequest(features=rows[number]),
                    metadata=(("x-request-id", f"one-{number}"),),
                )
                answers[f"one-{number}"] = [list(reply.probabilities)]
            batch = BatchPredictRequest(values=rows[:7].ravel())
            answer = stub.BatchPredict(batch, metadata=(("x-request-id", "batch"),))
            answers["batch"] = split(answer.probabilities)
            chunks = [rows[:2], rows[2:3], rows[3:7]]
            requests = (
                StreamPredictRequest(chunk=BatchPredictRequest(values=chunk.ravel()))
                for chunk in chunks
            )
            stream = stub.StreamPredict(
                requests, metadata=(("x-request-id", "stream"),)
            )
            replies = [p for reply in stream for p in reply.chunk.probabilities]
            answers["stream"] = split(replies)
    lines = read_lines(log)
    logged: dict[str, list[list[float]]] = {}
    for line in lines:
        of_call = logged.setdefault(line["request_id"], [])
        assert line["row"] == len(of_call)
        of_call.append(list(line["probabilities"].values()))
        best = max(line["probabilities"], key=line["probabilities"].__getitem__)
        assert line["label"] == best
    assert logged == answers
    sent = [list(line["features"].values()) for line in lines[:7]]
    expected = [[None if x != x else x for x in row] for row in rows[:7].tolist()]
    assert sent == expected
    assert {path.suffix for path in log.iterdir()} == {".jsonl"}
    assert [stat.S_IMODE(path.stat().st_mode) for path in log.iterdir()] == [0o640]


def split(probabilities: Any) -> list[list[float]]:
    """Return the probabilities row by row."""
    return np.reshape(list(probabilities), (-1, 3)).tolist()  # type: ignore[no-any-return]


def test_reply_names_the_call_only_if_there_is_a_log(
    model_dir: Path, lane: str
) -> None:
    def first_metadata(stub: PredictionServiceStub, *given: str) -> list[str]:
        metadata = tuple(("x-request-id", text) for text in given)
        _, call = stub.Predict.with_call(AT_CENTER, metadata=metadata)
        return [
            str(value)
            for key, value in call.initial_metadata()
            if key == "x-request-id"
        ]

    with running_server(model_dir, lane) as server, connect(server) as stub:
        assert first_metadata(stub, "mine") == []
    with running_server(
        model_dir, lane, prediction_log=model_dir.parent / "log"
    ) as server, connect(server) as stub:
        assert first_metadata(stub, "mine") == ["mine"]
        for odd in ("x" * 129, "two words", ""):
            (made,) = first_metadata(stub, odd)
            assert len(made) == 32 and made != odd
        stream = stub.StreamPredict(
            iter([StreamPredictRequest(chunk=BATCH)]), metadata=(("x-request-id", "s"),)
        )
        list(stream)
        assert ("x-request-id", "s") in [tuple(m) for m in stream.initial_metadata()]


def test_rejected_calls_are_not_logged_and_redaction_holds(
    model_dir: Path, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef")
    options: dict[str, Any] = {
        "prediction_log": tmp_path / "log",
        "prediction_log_drop": "f0, unknown",
        "prediction_log_hash": "f1",
        "prediction_log_hash_key": key,
    }
    with running_server(model_dir, **options) as server, connect(server) as stub:
        stub.Predict(AT_CENTER)
        stub.Predict(AT_CENTER)
        stub.Predict(PredictRequest(features=[1.0, 3.5]))
        failure(lambda: stub.Predict(PredictRequest(features=[1.0])))
    lines = read_lines(tmp_path / "log")
    hashes = [line["features"]["f1"] for line in lines]
    assert [list(line["features"]) for line in lines] == [["f1"]] * 3
    assert hashes[0] == hashes[1] != hashes[2]
    assert all(len(text) == 32 for text in hashes)
    content = next((tmp_path / "log").iterdir()).read_text()
    assert "3.5" not in content and '"f0"' not in content


def test_callers_name_is_logged(model_dir: Path, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    digest = hashlib.sha256(b"a-token-of-billing").hexdigest()
    tokens.write_text(f"billing sha256:{digest} predict\n")
    with running_server(
        model_dir, prediction_log=tmp_path / "log", tokens_file=tokens
    ) as server, connect(server) as stub:
        bearer = (("authorization", "Bearer a-token-of-billing"), ("x-request-id", "r"))
        stub.Predict(AT_CENTER, metadata=bearer)
        failure(lambda: stub.Predict(AT_CENTER))
    lines = read_lines(tmp_path / "log")
    assert [(line["caller"], line["request_id"]) for line in lines] == [
        ("billing", "r")
    ]
    assert "a-token" not in json.dumps(lines)


def test_share_is_of_the_identifiers(model_dir: Path, tmp_path: Path) -> None:
    identifiers = [f"order-{number}" for number in range(400)]
    log = tmp_path / "log"
    with running_server(
        model_dir, prediction_log=log, prediction_log_share=0.25
    ) as server, connect(server) as stub:
        for text in (*identifiers, *identifiers):  # each is tried twice
            stub.Predict(AT_CENTER, metadata=(("x-request-id", text),))
    logged = [line["request_id"] for line in read_lines(log)]
    chosen = [text for text in identifiers if find_position(text) < 2**30]
    assert logged == [*chosen, *chosen]
    assert 70 <= len(chosen) <= 130


def test_killed_observer_is_started_again_and_no_call_fails(
    model_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running_server(model_dir, prediction_log=log) as server, connect(
        server
    ) as stub:
        n_calls = 0
        for _ in range(2):
            wait_for(lambda: observer_pid(server) is not None)
            for _ in range(300):
                stub.Predict(AT_CENTER, timeout=5)
                n_calls += 1
            pid = observer_pid(server)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            for _ in range(300):
                stub.Predict(AT_CENTER, timeout=5)
                n_calls += 1
            wait_for(lambda: observer_pid(server) not in (None, pid))  # noqa: B023
        stub.Predict(AT_CENTER)
        n_calls += 1
        wait_for(
            lambda: count(server, "prediction_log_rows_total")
            + count(server, "prediction_log_dropped_total")
            >= n_calls
        )
        n_dropped = count(
            server, "prediction_log_dropped_total", reason="observer_gone"
        )
        assert count(server, "prediction_log_restarts_total") == 2
        assert n_dropped > 0
        n_rows = count(server, "prediction_log_rows_total")
    # Rows that were written, but not reported when their process died, count as dropped.
    assert n_rows <= len(read_lines(log)) <= n_calls
    assert n_rows + n_dropped == n_calls
    assert {path.suffix for path in log.iterdir()} == {".jsonl"}


def test_stopped_observer_costs_records_and_no_call(
    model_dir: Path, tmp_path: Path
) -> None:
    row = PredictRequest(features=[1.0, 3.0])
    with running_server(model_dir, prediction_log=tmp_path / "log") as server, connect(
        server
    ) as stub:
        wait_for(lambda: observer_pid(server) is not None)
        stub.Predict(row)
        wait_for(lambda: count(server, "prediction_log_rows_total") == 1)
        pid = observer_pid(server)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        big = BatchPredictRequest(values=[1.0, 3.0] * 10_000)
        for _ in range(150):
            stub.BatchPredict(big, timeout=10)
        wait_for(
            lambda: count(server, "prediction_log_dropped_total", reason="queue_full")
            > 0
        )
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
    # A stop does not wait for it for long.
    assert time.monotonic() - began < 10


def test_log_outlives_a_killed_server(model_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ["--model-dir", str(model_dir), "--prediction-log", str(log)]
    with running(*arguments) as process, channel_to(process) as channel:
        stub = PredictionServiceStub(channel)
        for _ in range(50):
            stub.Predict(AT_CENTER, timeout=10)
        wait_for_lines(log, 50)
        process.signal(signal.SIGKILL)
        wait_for(lambda: [path.suffix for path in log.iterdir()] == [".jsonl"])
    assert len(read_lines(log)) == 50


@pytest.mark.slow
def test_two_processes_share_a_folder(model_dir: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ["--model-dir", str(model_dir), "--prediction-log", str(log)]
    with running(*arguments, "--processes", "2", "--drain-seconds", "0") as process:
        process.wait_for("all processes are ready")
        for number in range(30):
            with channel_to(process) as channel:
                stub = PredictionServiceStub(channel)
                stub.Predict(
                    AT_CENTER, timeout=10, metadata=(("x-request-id", str(number)),)
                )
        wait_for(lambda: count(process, "prediction_log_rows_total") == 30)
        assert len(list(log.iterdir())) == 2
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert {path.suffix for path in log.iterdir()} == {".jsonl"}
    logged = sorted(int(line["request_id"]) for line in read_lines(log))
    assert logged == list(range(30))


def test_options_that_contradict_each_other_are_refused(
    model_dir: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"prediction_log_drop": "f0"}, "needs --prediction-log FOLDER"),
        ({"prediction_log": log, "prediction_log_hash": "f0"}, "hash-key FILE"),
        (
            {"prediction_log": log, "prediction_log_drop": f"@{tmp_path / 'none'}"},
            "cannot be read",
        ),
        (
            {"prediction_log": log, "processes": 20},
            "need 1280",
        ),
    )
    for options, words in cases:
        with pytest.raises(SettingsError, match=words):
            with running_server(model_dir, **options):
                pass
    assert not log.exists()
