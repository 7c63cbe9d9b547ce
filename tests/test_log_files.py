"""The files and lines of the prediction log: rotation, bounds, full disks, hostile texts."""

import errno
import json
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grpc_server.observe.channel import _Models
from grpc_server.observe.log.folder import LogFolder, NoRoom
from grpc_server.observe.log.lines import LineMaker, UnknownModel, make_hash
from grpc_server.observe.log.options import LogOptions
from grpc_server.observe.log.writer import RETRY_SECONDS, LogWriter
from grpc_server.observe.records import (
    BATCH,
    CHUNK,
    PREDICT,
    FeatureFacts,
    FrameReader,
    ModelFacts,
    RawRecord,
    Record,
    frame,
)
from grpc_server.observe.reports import Report, Reporter, ReportReader
from prediction.v1.prediction_service_pb2 import (
    BatchPredictRequest,
    BatchPredictResponse,
    PackedRows,
    PredictRequest,
    PredictResponse,
    StreamPredictResponse,
)

from log_support import read_lines

KIB = 1024
KINDS = {
    "size": "numeric",
    "wild": "boolean",
    "ward": "integer",
    "city": "text",
    "born": "date",
}
FACTS = ModelFacts(
    "iris",
    "7",
    "ab" * 32,
    tuple(FeatureFacts(name, kind) for name, kind in KINDS.items()),
    ("no", "yes"),
)
# Each is one value of JSON on one line, whatever it holds.
HOSTILE = ["a\nb", "\r\n", "\0", "\u2028\u2029", '"}\\', "\x7f\x85", "é😀" * 4000]


class Clock:
    """A clock that tests move."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A writer in a folder, and what it counts."""

    def __init__(self, path: Path, file_bytes: int = 4 * KIB, total: int = 64) -> None:
        self.path = path
        self.clock = Clock()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._reader = ReportReader()
        self.reporter = Reporter(self._theirs)
        self.folder = LogFolder(path, file_bytes, total * KIB)
        self.writer = LogWriter(
            self.folder, file_bytes, 60.0, self.reporter, self.clock
        )
        self.counts: dict[str, float] = {}

    def write(self, *lines: bytes) -> None:
        """Write the lines of one call."""
        self.writer.begin_call()
        for line in lines:
            self.writer.add(line)
        self.writer.tick()

    def close(self) -> None:
        """Finish the file."""
        self.writer.close()
        self._ours.close()
        self._theirs.close()

    def read_counts(self) -> dict[str, float]:
        """Return what was counted so far."""
        self.reporter.send()
        try:
            for report in self._reader.feed(self._ours.recv(KIB * KIB)):
                for name, number in report.counts.items():
                    self.counts[name] = self.counts.get(name, 0) + number
        except BlockingIOError:
            pass
        return self.counts

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return sorted(path.name for path in self.path.iterdir())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    folder = tmp_path / "log"
    folder.mkdir()
    log = Log(folder)
    yield log
    log.close()


def line(number: int, size: int = 1000) -> bytes:
    """Return a line of that size."""
    return json.dumps({"n": number, "x": "x" * (size - 30)}).ljust(
        size - 1
    ).encode() + (b"\n")


def test_files_rotate_by_size_and_by_time(log: Log) -> None:
    for number in range(10):
        log.write(line(number))
    assert [name.endswith(".part") for name in log.names] == [False, False, True]
    assert all(path.stat().st_size <= 4 * KIB for path in log.path.iterdir())
    log.clock.now = 61.0
    log.writer.tick()
    assert not any(name.endswith(".part") for name in log.names)
    assert [row["n"] for row in read_lines(log.path)] == list(range(10))
    assert log.read_counts() == {"rows": 10, "bytes": 10_000}


def test_oldest_files_are_deleted_for_new_ones_and_others_stay(log: Log) -> None:
    (log.path / "notes.txt").write_text("mine" * 100_000)
    for number in range(200):
        log.write(line(number))
        files = [path for path in log.path.iterdir() if path.suffix != ".txt"]
        assert sum(path.stat().st_size for path in files) <= 64 * KIB
    (log.path / "notes.txt").unlink()
    kept = [row["n"] for row in read_lines(log.path)]
    assert kept == list(range(200 - len(kept), 200)) and len(kept) >= 48
    assert log.read_counts()["deleted_files"] == 50 - len(log.names)


def test_folder_full_of_open_files_takes_no_more(tmp_path: Path) -> None:
    tmp_path.joinpath("log").mkdir()
    logs = [Log(tmp_path / "log", total=12) for _ in range(4)]
    for number, log in enumerate(logs):
        log.write(line(number))
    assert logs[3].read_counts() == {"dropped.no_room": 1}
    assert len(logs[0].names) == 3
    with pytest.raises(NoRoom):
        LogFolder(tmp_path / "log", 4 * KIB, 8 * KIB).make_room()
    for log in logs:
        log.close()


def test_files_of_the_dead_are_finished_and_those_of_the_living_are_not(
    log: Log,
) -> None:
    log.write(line(1))
    (alive,) = log.names
    dead = alive.replace("predictions-2", "predictions-1")
    (log.path / dead).write_bytes(line(0)[:50])
    (log.path / alive.replace("predictions-2", "predictions-0")).touch()
    link = log.path / alive.replace("predictions-2", "predictions-3")
    target = log.path.parent / "precious"
    target.write_text("precious")
    link.symlink_to(target)
    adopted = log.folder.adopt()
    assert dead in adopted and alive not in adopted
    assert dead.removesuffix(".part") in log.names and alive in log.names
    assert target.read_text() == "precious" and link.is_symlink()


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.part"])
def test_a_file_of_another_user_does_not_end_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Tests may run as root, who may do everything; so the system's answer is a copy."""
    foreign, old = (
        tmp_path / f"predictions-2026010{day}T000000.000000Z-1-0123abcd{end}"
        for day, end in ((1, suffix), (2, ".jsonl"))
    )
    foreign.write_bytes(b"x" * KIB)
    old.write_bytes(b"x" * KIB)

    def forbid(name: str, call: Callable[..., Any]) -> None:
        def ask(path: Any, *arguments: Any, **options: Any) -> Any:
            if path == foreign.name:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return call(path, *arguments, **options)

        monkeypatch.setattr(os, name, ask)

    for name in ("open", "unlink", "rename"):
        forbid(name, getattr(os, name))
    folder = LogFolder(tmp_path, KIB, KIB)
    assert folder.adopt() == []
    if suffix == ".jsonl":
        with pytest.raises(NoRoom):
            LogFolder(tmp_path, KIB, KIB - 1).make_room()
    else:
        assert folder.make_room() == [old.name]
    assert foreign.exists() and not old.exists()


def test_full_disk_drops_and_goes_on(log: Log) -> None:
    """A limit of the process stands for a disk: the write fails in the middle of a line."""
    log.write(line(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        log.write(line(1), line(2))
        log.write(line(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write(line(4))  # too early to try again
    log.clock.now = RETRY_SECONDS
    log.write(line(5))
    assert [row["n"] for row in read_lines(log.path)] == [0, 5]
    assert log.read_counts() == {"rows": 2, "bytes": 2000, "dropped.disk_full": 3}


def test_vanished_folder_drops_until_it_is_back(log: Log) -> None:
    log.write(line(0))
    away = log.path.rename(log.path.parent / "away")
    log.writer.tick()
    log.write(line(1))
    away.rename(log.path)
    log.clock.now = RETRY_SECONDS
    log.write(line(2))
    assert log.read_counts() == {"rows": 2, "bytes": 2000, "dropped.no_folder": 1}
    assert [row["n"] for row in read_lines(log.path)] == [0, 2]


def test_a_line_larger_than_a_file_is_dropped_alone(log: Log) -> None:
    log.write(line(0), line(1, 5000), line(2))
    assert [row["n"] for row in read_lines(log.path)] == [0, 2]
    assert log.read_counts()["dropped.too_large"] == 1


def make_lines(
    record: Record, facts: ModelFacts = FACTS, **options: Any
) -> list[dict[str, Any]]:
    """Return the lines of a record, each read from one line of ASCII."""
    maker = LineMaker(LogOptions("log", KIB, KIB, 1.0, **options))
    maker.learn(facts)
    made = list(maker.make(record))
    assert all(len(one.decode("ascii").splitlines()) == 1 for one in made)
    return [json.loads(one) for one in made]


@pytest.mark.parametrize("city", HOSTILE)
def test_members_are_logged_as_sent(city: str) -> None:
    request = PredictRequest()
    request.record.update(
        {"size": 0.1, "wild": True, "ward": 7.0, "city": city, "born": None}
    )
    reply = PredictResponse(
        label="yes", probabilities=[0.1, 0.9], model_version=FACTS.version
    )
    sent, answered = request.SerializeToString(), reply.SerializeToString()
    record = Record(PREDICT, 1.5, 0, "id", "", sent, answered)
    (only,) = make_lines(record)
    assert only["features"] == {
        "size": 0.1,
        "wild": True,
        "ward": 7,
        "city": city,
        "born": None,
    }
    assert isinstance(only["features"]["ward"], int)
    assert only["time"] == "1970-01-01T00:00:01.500000Z"
    assert list(make_lines(record, dropped=("city", "size"))[0]["features"]) == [
        "wild",
        "ward",
        "born",
    ]


def test_a_model_redacts_its_own_features(tmp_path: Path) -> None:
    request = PredictRequest()
    request.record.update(
        {"size": 0.1, "wild": True, "ward": 7.0, "city": "Oslo", "born": None}
    )
    reply = PredictResponse(label="no", probabilities=[1, 0], model_version="7")
    sent, answered = request.SerializeToString(), reply.SerializeToString()
    record = Record(PREDICT, 1.5, 0, "id", "", sent, answered)
    rules = {"wild": "drop", "ward": "hash", "city": "hash", "born": "hash"}
    facts = replace(
        FACTS,
        features=tuple(FeatureFacts(n, k, rules.get(n, "")) for n, k in KINDS.items()),
    )
    assert ModelFacts.decode(facts.encode()) == facts
    # Without a key, what should be hashed is left out.
    assert make_lines(record, facts)[0]["features"] == {"size": 0.1}
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef")
    (line,) = make_lines(record, facts, hash_key=str(key), dropped=("city",))
    hashed = make_hash(key.read_bytes())(7)
    assert line["features"] == {"size": 0.1, "ward": hashed, "born": None}
    # The stricter rule counts, whoever states it.
    (line,) = make_lines(record, facts, hash_key=str(key), hashed=("wild", "size"))
    assert set(line["features"]) == {"size", "ward", "city", "born"}
    assert line["features"]["size"] == make_hash(key.read_bytes())(0.1)


def test_columns_are_logged_as_sent() -> None:
    request = BatchPredictRequest()
    add = request.columns.add
    add(name="city", missing_rows=[1]).strings.values.extend(["Oslo", "", "Rome"])
    add(name="size").doubles.values.extend([1.0, float("nan"), -0.0])
    add(name="ward", missing_rows=[0]).doubles.values.extend([3, 7, float("nan")])
    add(name="wild").booleans.values.extend([True, False, True])
    add(name="born").strings.values.extend(["2020-01-01"] * 3)
    reply = BatchPredictResponse(
        classes=["no", "yes"],
        positions=[0, 1, 1],
        probabilities=[0.75, 0.25, 0.1, 0.9, 0.5, 0.5],
        model_version=FACTS.version,
    )
    sent, answered = request.SerializeToString(), reply.SerializeToString()
    record = Record(BATCH, 0.0, 5, "id", "billing", sent, answered)
    rows = make_lines(record)
    assert [row["row"] for row in rows] == [5, 6, 7]
    assert [row["features"]["city"] for row in rows] == ["Oslo", None, "Rome"]
    assert [row["features"]["ward"] for row in rows] == [None, 7, None]
    assert str([row["features"]["size"] for row in rows]) == "[1.0, None, -0.0]"
    assert [row["label"] for row in rows] == ["no", "yes", "yes"]
    assert rows[1]["probabilities"] == {"no": 0.1, "yes": 0.9}
    everything = tuple(KINDS)
    assert [r["features"] for r in make_lines(record, dropped=everything)] == [{}] * 3


def test_packed_rows_are_logged_as_columns_are() -> None:
    gap = float("nan")
    sent = [[1, 3.0, 1.0], [gap, gap, gap], [0, 7.0, -0.0]]
    request = BatchPredictRequest(
        packed_rows=PackedRows(
            values=struct.pack("<9d", *sent[0], *sent[1], *sent[2]),
            names=["wild", "ward", "size"],
        )
    )
    add = request.columns.add
    add(name="city", missing_rows=[1]).strings.values.extend(["Oslo", "", "Rome"])
    add(name="born").strings.values.extend(["2020-01-01"] * 3)
    reply = BatchPredictResponse(
        classes=["no", "yes"],
        positions=[0, 1, 1],
        packed_probabilities=struct.pack("<6d", 0.75, 0.25, 0.1, 0.9, 0.5, 0.5),
        model_version=FACTS.version,
    )
    parts = request.SerializeToString(), reply.SerializeToString()
    rows = make_lines(Record(BATCH, 0.0, 0, "id", "billing", *parts))
    features = [row["features"] for row in rows]
    assert [f["city"] for f in features] == ["Oslo", None, "Rome"]
    assert str([f["wild"] for f in features]) == "[True, None, False]"
    assert str([f["ward"] for f in features]) == "[3, None, 7]"
    assert str([f["size"] for f in features]) == "[1.0, None, -0.0]"
    assert rows[1]["probabilities"] == {"no": 0.1, "yes": 0.9}
    only_packed = BatchPredictRequest(packed_rows=PackedRows(values=bytes(120)))
    record = Record(
        BATCH, 0.0, 0, "id", "billing", only_packed.SerializeToString(), parts[1]
    )
    assert [r["features"] for r in make_lines(record, dropped=tuple(KINDS))] == [{}] * 3


def test_record_of_an_unknown_model_is_an_error() -> None:
    reply = PredictResponse(model_version="8").SerializeToString()
    with pytest.raises(UnknownModel):
        make_lines(Record(PREDICT, 0.0, 0, "id", "", b"", reply))


def test_lines_of_a_version_that_two_models_have_are_never_guessed() -> None:
    clock, options = Clock(), LogOptions("", 1, 1, 1.0, (), (), "")
    maker = LineMaker(options, clock)
    other = replace(
        FACTS, sha256="cd" * 32, features=(FeatureFacts("beer", "numeric"),)
    )
    request = PredictRequest(features=[1.0]).SerializeToString()
    answer = PredictResponse(model_version="7", probabilities=[0.25, 0.75])
    reply = answer.SerializeToString()
    record = Record(PREDICT, 0.0, 0, "id", "", request, reply)
    maker.learn(FACTS)
    maker.learn(FACTS)
    maker.learn(other)
    with pytest.raises(UnknownModel):
        list(maker.make(record))
    clock.now += 61.0
    assert b'"features":{"beer":1.0}' in b"".join(maker.make(record))
    # A stream may have begun before the swap.
    with pytest.raises(UnknownModel):
        list(maker.make(chunk_of(request, "7")))


def chunk_of(request: bytes, version: str) -> Record:
    answer = BatchPredictResponse(model_version=version)
    reply = StreamPredictResponse(chunk=answer).SerializeToString()
    return Record(CHUNK, 0.0, 0, "id", "", request, reply)


def test_a_new_observer_hears_of_both_models_of_a_version() -> None:
    models = _Models()
    models.add(FACTS)
    models.add(replace(FACTS, sha256="cd" * 32))
    models.take_unsent()
    models.forget_sent()
    assert len(models.take_unsent()) == 2


def test_frames_come_back_however_they_are_cut() -> None:
    raw: list[RawRecord] = [
        (BATCH, 1.25, 3, "id", "caller", os.urandom(5000), b""),
        (PREDICT, 2.5, 2**40, "x" * 128, "", b"", os.urandom(3)),
    ]
    records = [Record(*one) for one in raw]
    content = b"".join(frame([one]) for one in raw) + frame(raw)
    for step in (1, 7, 4096, len(content)):
        reader = FrameReader()
        pieces = (content[at : at + step] for at in range(0, len(content), step))
        assert [r for piece in pieces for r in reader.feed(piece)] == 2 * records
    assert ModelFacts.decode(FACTS.encode()) == FACTS


@pytest.mark.parametrize("content", [b"{}\n", b"x\n", b"[]\n", b"y" * 70_000])
def test_what_is_no_report_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError):
        list(ReportReader().feed(content))
    good = b'{"counts": {"rows": 2}, "values": {}}\n'
    assert list(ReportReader().feed(good)) == [Report({"rows": 2.0}, {})]
