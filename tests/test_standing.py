"""Whether the wanted model answers, and if not, why: in GetModel, in /metrics and in the log."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from grpc_server.metrics import Metrics
from grpc_server.model.standing import Standing, StandingKeeper
from grpc_server.model.sync_status import SyncStatus, find_status_file, read_status
from grpc_server.model.watch import ModelWatcher
from grpc_server.model_uri import ModelUri
from grpc_server.registry.fetch import RegistryFetch
from grpc_server.registry.sync_record import SyncRecord
from grpc_server.server import PredictionServer
from prediction import PredictionClient
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import GetModelRequest

from server_process import running
from support import ROOT, connect, read_page, running_server, wait_for, write_version
from wire import read_metrics, samples

URI = "models:/iris@champion"
REFUSED = "model refused, keeping what serves"


def point(link: Path, folder: Path) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(folder)
    fresh.replace(link)


def write_status(link: Path, **values: object) -> None:
    """Replace the file in one step, as the sync does: half a file is none."""
    file = find_status_file(link)
    new = file.with_name("new status")
    new.write_text(json.dumps(values))
    new.replace(file)


@contextmanager
def watched(link: Path, server: PredictionServer) -> Iterator[ModelWatcher]:
    watcher = ModelWatcher(
        link,
        None,
        server.serve,
        server.count_load_failure,
        0.01,
        show_standing=server.show_standing,
    )
    watcher.load_now()
    watcher.start()
    yield watcher
    watcher.stop()


def test_a_refused_model_is_seen_by_callers_and_by_prometheus_until_a_good_one_comes(
    logistic_artifact: ModelArtifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = tmp_path / "current"
    good = write_version(tmp_path, logistic_artifact, "1")
    logistic_artifact.logistic_regression.intercepts[0] += 1
    bad = write_version(tmp_path, logistic_artifact, "2")
    point(link, good)
    caplog.set_level("INFO")

    with running_server(None) as server, watched(link, server), connect(server) as stub:

        def ask() -> Any:
            return stub.GetModel(GetModelRequest())

        assert ask().wanted_version == "1" and not ask().HasField("refusal")
        point(link, bad)
        wait_for(lambda: ask().HasField("refusal"))
        refused, page = ask(), read_page(f"http://127.0.0.1:{server.http_port}/metrics")
        point(link, good)
        wait_for(lambda: not ask().HasField("refusal"))
        after = read_page(f"http://127.0.0.1:{server.http_port}/metrics")

    assert (refused.wanted_version, refused.model_version) == ("2", "1")
    assert "golden example 0 gives" in refused.refusal
    assert 'prediction_model_wanted_info{model_version="2"} 1.0' in page
    assert "prediction_model_refused 1.0" in page
    failures = 'prediction_model_load_failures_total{reason="golden_mismatch"} 1.0'
    assert failures in page
    assert "prediction_model_refused 0.0" in after
    assert 'prediction_model_wanted_info{model_version="1"} 1.0' in after
    assert 'wanted_info{model_version="2"}' not in after
    events = [r for r in caplog.records if r.message in (REFUSED, "refusal ended")]
    assert [record.message for record in events] == [REFUSED, "refusal ended"]
    assert vars(events[0])["fields"]["wanted_version"] == "2"
    assert vars(events[0])["fields"]["served_version"] == "1"


def test_what_the_sync_cannot_bring_is_seen(
    logistic_artifact: ModelArtifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The typed client offers it. The log has one line at the beginning, and one at the end."""
    link = tmp_path / "current"
    point(link, write_version(tmp_path, logistic_artifact, "1"))
    status = {"uri": URI, "contact_time": 1.7e9, "wanted_version": "2"}
    write_status(link, **status, reason="the registry at mysql://me:hush@db: down")
    caplog.set_level("INFO")

    with running_server(None) as server, watched(link, server):
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            wait_for(lambda: client.get_model().refusal is not None)
            model = client.get_model()
            page = read_page(f"http://127.0.0.1:{server.http_port}/metrics")
            write_status(link, **status, reason="the same with other words")
            wait_for(lambda: "other words" in str(client.get_model().refusal))
            write_status(link, **status | {"wanted_version": "1"}, reason="")
            wait_for(lambda: client.get_model().refusal is None)

    assert model.refusal == "the registry at mysql://***@db: down"
    assert (model.wanted_version, model.model_version) == ("2", "1")
    assert model.registry_contact_time is not None
    assert model.registry_contact_time.timestamp() == 1.7e9
    assert "prediction_registry_last_contact_timestamp_seconds 1.7e+09" in page
    said = [m for m in caplog.messages if m.startswith("model_sync")]
    assert said == [
        "model_sync fails, keeping what serves",
        "model_sync succeeds again",
    ]


@pytest.mark.slow
def test_several_processes_say_it_once(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    good = write_version(tmp_path, logistic_artifact, "1")
    logistic_artifact.logistic_regression.intercepts[0] += 1
    bad = write_version(tmp_path, logistic_artifact, "2")
    point(link, good)
    write_status(link, contact_time=1.7e9, wanted_version="2", reason="")

    with running("--model-dir", str(link), "--processes", "2") as process:
        process.wait_for("all processes are ready")
        point(link, bad)
        process.wait_for(REFUSED)
        process.wait_for(REFUSED)
        page = read_metrics(process)

    def values(name: str, **labels: str) -> list[float]:
        return [sample.value for sample in samples(page, name, **labels)]

    assert values("prediction_model_refused") == [1.0]
    assert values("prediction_model_wanted_info") == [1.0]
    assert values("prediction_model_wanted_info", model_version="2") == [1.0]
    contact = "prediction_registry_last_contact_timestamp_seconds"
    assert values(contact) == [1.7e9]
    name = "prediction_model_load_failures_total"
    assert values(name, reason="golden_mismatch") == [2.0]


def write_pipe(path: Path) -> None:
    os.mkfifo(path)


def write_dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def write_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_dangling, None),
        (write_loop, None),
        (write_pipe, "is not a regular file"),
        (Path.mkdir, "is not a regular file"),
        (lambda p: p.write_bytes(b"x" * 1_000_000), "at most 65536 are allowed"),
        (lambda p: p.write_bytes(b"\xff\x00{"), "is not JSON"),
        (lambda p: p.write_text(""), "is not JSON"),
        (lambda p: p.write_text('{"reason": "cut'), "is not JSON"),
        (lambda p: p.write_text("[" * 60_000), "is not JSON"),
        (lambda p: p.write_text("[1]"), "is not a JSON object"),
        (lambda p: p.write_text('{"contact_time": 9e99}'), "check the clocks"),
        (lambda p: p.write_text('{"contact_time": 1' + "0" * 400 + "}"), "the clocks"),
        (lambda p: p.write_text('{"contact_time": NaN}'), "check the clocks"),
        (lambda p: p.write_text('{"contact_time": -1}'), "check the clocks"),
        (lambda p: p.write_text('{"contact_time": "now"}'), "check the clocks"),
    ],
)
def test_no_status_file_stops_or_misleads_the_server(
    write: Callable[[Path], object], reason: str | None, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    write(find_status_file(link))

    begin = time.monotonic()
    status = read_status(link)

    assert time.monotonic() - begin < 1
    if reason is None:
        assert status is None
    else:
        assert status is not None and reason in status.reason
        assert status.contact_time is None


def test_values_of_a_status_are_made_harmless(tmp_path: Path) -> None:
    """Versions become labels of metrics, and the reason a string of protobuf."""
    link = tmp_path / "current"
    write_status(
        link,
        uri=7,
        contact_time=time.time() + 5,  # another machine's clock is ahead
        wanted_version="1\n2",
        held_version="9" * 5000,
        reason="a\nb\x00\ud800" + "c" * 9000,
        extra={},
    )

    status = read_status(link)

    assert status is not None
    assert (status.uri, status.wanted_version, status.held_version) == ("", "", "")
    assert status.reason.startswith("a b c") and len(status.reason) == 1000
    assert status.contact_time is not None and status.contact_time <= time.time()
    status.reason.encode()


def test_a_status_is_replaced_in_one_step_and_begins_where_the_last_one_ended(
    tmp_path: Path,
) -> None:
    link = tmp_path / "new folder" / "current"
    first = SyncRecord(link, URI)
    first.reach("7")
    first.fail("the disk is full")
    left_over = find_status_file(link).with_name(".current.status.json.dead")
    left_over.write_text("")
    os.utime(left_over, (0, 0))

    SyncRecord(link, URI).fail("the registry is down")
    status = read_status(link)
    SyncRecord(link, "models:/wine@champion").fail("another model")
    other = read_status(link)

    assert status is not None and status.contact_time is not None
    assert (status.wanted_version, status.reason) == ("7", "the registry is down")
    assert other == SyncStatus("models:/wine@champion", reason="another model")
    assert os.listdir(link.parent) == [".current.status.json"]


def test_a_status_that_cannot_be_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")

    SyncRecord(tmp_path / "file" / "current", URI).fail("down")

    assert caplog.messages == ["status not written"]


@pytest.mark.slow
def test_a_sync_that_is_killed_leaves_a_reason_too(tmp_path: Path) -> None:
    """The server that started it writes the reason."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'grpc_server.model_sync' in sys.orig_argv:\n"
        "    os.abort()\n"
    )
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    link = tmp_path / "current"

    error = RegistryFetch(
        ModelUri.parse(URI), link, environ, threading.Event()
    ).try_once()
    status = read_status(link)

    assert status is not None and status.reason == str(error)
    assert status.reason.startswith("model_sync was ended by signal 6")


@pytest.mark.slow
def test_a_sync_that_takes_too_long_leaves_a_reason_too(tmp_path: Path) -> None:
    link = tmp_path / "current"
    command = [sys.executable, "-m", "grpc_server.model_sync", URI]
    command += [f"--model-dir={link}", "--attempt-seconds=0.001"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    status = read_status(link)

    assert result.returncode == 1
    assert status is not None and status.uri == URI
    assert status.reason == "the registry took longer than 0.001 s"


def test_the_status_of_another_model_is_ignored() -> None:
    shown: list[Standing] = []
    keeper = StandingKeeper(URI, shown.append)

    keeper.hear(SyncStatus("models:/wine@champion", 1.0, "5", "5", "down"))
    assert shown == []
    keeper.hear(SyncStatus(URI, 1.0, "5", "5", "down"))

    assert shown == [Standing(1.0, "5", "down")]


def test_hostile_versions_make_no_endless_series() -> None:
    """The series of several processes stay until they end."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, is_merged=True)

    for version in range(300):
        metrics.show_standing(Standing(wanted_version=str(version)))

    name = "prediction_model_wanted_info"
    (family,) = [metric for metric in registry.collect() if metric.name == name]
    assert len(family.samples) == 101
    assert [s.labels["model_version"] for s in family.samples if s.value] == ["other"]
