"""A model is swapped while the server answers. A bad model changes nothing."""

import functools
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import pytest

from grpc_server.errors import ArtifactMissing, ArtifactUntried, OtherModel
from grpc_server.model import LoadedModel, load_model
from grpc_server.model.standing import Standing
from grpc_server.model.watch import ModelWatcher
from grpc_server.model_uri import ModelUri
from grpc_server.trial_load import try_to_load
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import GetModelRequest, PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from support import (
    connect,
    lightgbm_artifact,
    running_server,
    wait_for,
    write_artifact,
    write_version,
)

INTERVAL_SECONDS = 0.01


def point(link: Path, folder: Path) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(folder)
    fresh.replace(link)


def answers_as(stub: PredictionServiceStub, version: str) -> bool:
    return stub.GetModel(GetModelRequest()).model_version == version


class Log:
    """The actions of a watcher."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.failures = 0

    def serve(self, model: LoadedModel) -> None:
        self.versions.append(model.source.version)

    def count_failure(self, error: str) -> None:
        self.failures += 1


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def watcher(tmp_path: Path, log: Log) -> Iterator[ModelWatcher]:
    watcher = ModelWatcher(
        tmp_path / "current", None, log.serve, log.count_failure, INTERVAL_SECONDS
    )
    yield watcher
    watcher.stop()


def test_a_stop_does_not_wait_for_a_load(
    log: Log, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    """A model that it loads does not serve after the stop."""
    is_loading, may_end = threading.Event(), threading.Event()

    def hang(folder: Path, is_stopped: object) -> dict[str, str]:
        is_loading.set()
        assert may_end.wait(60)
        return {"sha256": load_model(folder).source.sha256}

    point(tmp_path / "current", write_version(tmp_path, logistic_artifact, "1"))
    watcher = ModelWatcher(
        tmp_path / "current",
        None,
        log.serve,
        log.count_failure,
        INTERVAL_SECONDS,
        try_load=hang,
    )
    watcher.start()
    assert is_loading.wait(30)

    watcher.stop()  # returns at once, or the test hangs

    may_end.set()
    wait_for(lambda: not any(t.name == "model-watch" for t in threading.enumerate()))
    assert log.versions == []


@pytest.mark.parametrize("failure", [MemoryError, RecursionError, OSError, KeyError])
def test_the_watcher_goes_on_whatever_a_file_does(
    failure: type[Exception],
    log: Log,
    logistic_artifact: ModelArtifact,
    tmp_path: Path,
) -> None:
    def fail_at_first(folder: Path, give_up: Callable[[], bool]) -> Mapping[str, str]:
        if log.failures == 0:
            raise failure("odd")
        return try_to_load(folder, give_up)

    folders = [write_version(tmp_path, logistic_artifact, version) for version in "12"]
    point(tmp_path / "current", folders[0])
    watcher = ModelWatcher(
        tmp_path / "current",
        None,
        log.serve,
        log.count_failure,
        INTERVAL_SECONDS,
        try_load=fail_at_first,
    )
    watcher.start()
    wait_for(lambda: log.failures == 1)
    point(tmp_path / "current", folders[1])

    wait_for(lambda: log.versions == ["2"])
    watcher.stop()


def test_a_trial_that_is_given_up_for_a_newer_model_refuses_nothing(
    log: Log, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    """The newer version was called refused, which had not been tried."""
    standings: list[Standing] = []
    folders = [write_version(tmp_path, logistic_artifact, version) for version in "12"]
    n_trials = 0

    def give_up_at_first(
        folder: Path, give_up: Callable[[], bool]
    ) -> Mapping[str, str]:
        nonlocal n_trials
        n_trials += 1
        if n_trials == 1:
            point(tmp_path / "current", folders[1])
            raise ArtifactUntried("the process was ended by signal 9")
        return try_to_load(folder, give_up)

    point(tmp_path / "current", folders[0])
    watcher = ModelWatcher(
        tmp_path / "current",
        None,
        log.serve,
        log.count_failure,
        INTERVAL_SECONDS,
        try_load=give_up_at_first,
        show_standing=standings.append,
    )
    watcher.start()

    wait_for(lambda: log.versions == ["2"])
    watcher.stop()
    assert log.failures == 1
    assert all(standing.refusal == "" for standing in standings)


def test_a_moved_link_brings_the_new_model_and_a_moved_back_one_the_old(
    watcher: ModelWatcher, log: Log, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folders = [write_version(tmp_path, logistic_artifact, version) for version in "12"]
    point(tmp_path / "current", folders[0])
    watcher.load_now()
    watcher.start()

    point(tmp_path / "current", folders[1])
    wait_for(lambda: log.versions == ["1", "2"])
    point(tmp_path / "current", folders[0])

    wait_for(lambda: log.versions == ["1", "2", "1"])
    assert log.failures == 0


def test_a_model_that_is_refused_is_counted_once_and_the_next_good_one_served(
    watcher: ModelWatcher, log: Log, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    good = write_version(tmp_path, logistic_artifact, "1")
    logistic_artifact.logistic_regression.intercepts[0] += 1
    bad = write_version(tmp_path, logistic_artifact, "2")
    point(tmp_path / "current", bad)
    watcher.start()

    wait_for(lambda: log.failures > 0)
    point(tmp_path / "current", good)
    wait_for(lambda: log.versions == ["1"])

    assert log.failures == 1


def test_a_file_written_in_place_is_seen(
    watcher: ModelWatcher, log: Log, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    write_artifact(tmp_path / "current", logistic_artifact)
    watcher.load_now()
    watcher.start()

    logistic_artifact.provenance.training_run_id = "another"
    write_artifact(tmp_path / "current", logistic_artifact)

    wait_for(lambda: len(log.versions) == 2)
    assert log.versions[0] != log.versions[1]


def test_a_model_one_folder_below_is_followed_and_a_second_one_refused(
    watcher: ModelWatcher, log: Log, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    folder = tmp_path / "current"
    write_artifact(folder / "extra_files", logistic_artifact)
    watcher.load_now()
    watcher.start()

    logistic_artifact.provenance.training_run_id = "another"
    write_artifact(folder / "extra_files", logistic_artifact)
    wait_for(lambda: len(log.versions) == 2)
    write_artifact(tmp_path / "other", logistic_artifact).rename(folder / "other")
    wait_for(lambda: log.failures == 1)
    shutil.rmtree(folder / "other")

    wait_for(lambda: len(log.versions) == 3)
    assert log.failures == 1
    assert log.versions[1] == log.versions[2] != log.versions[0]


def test_loading_now_needs_a_model(watcher: ModelWatcher) -> None:
    with pytest.raises(ArtifactMissing):
        watcher.load_now()


def let_trials(do: str, while_there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each process that tries a model do something first, while a flag file exists."""
    folder = while_there.parent / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        f"if 'grpc_server.model.trial' in sys.orig_argv and os.path.exists({str(while_there)!r}):\n"
        f"    {do}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    while_there.touch()


def test_a_try_that_failed_is_repeated(
    log: Log,
    logistic_artifact: ModelArtifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A brief lack of memory does not lose a good model."""
    write_artifact(tmp_path / "current", logistic_artifact)
    let_trials("os.abort()", tmp_path / "flag", monkeypatch)
    watcher = ModelWatcher(
        tmp_path / "current",
        None,
        log.serve,
        log.count_failure,
        INTERVAL_SECONDS,
        retry_seconds=0.1,
    )
    watcher.start()

    wait_for(lambda: log.failures > 0)
    (tmp_path / "flag").unlink()
    wait_for(lambda: log.versions != [])
    watcher.stop()

    assert len(log.versions) == 1


def test_a_model_that_hangs_does_not_keep_the_next_one_waiting(
    watcher: ModelWatcher,
    log: Log,
    logistic_artifact: ModelArtifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = [write_version(tmp_path, logistic_artifact, version) for version in "12"]
    let_trials("open('hangs', 'w'), time.sleep(600)", tmp_path / "flag", monkeypatch)
    monkeypatch.chdir(tmp_path)
    point(tmp_path / "current", folders[1])
    watcher.start()
    wait_for((tmp_path / "hangs").exists)

    (tmp_path / "flag").unlink()
    point(tmp_path / "current", folders[0])

    wait_for(lambda: log.versions == ["1"])
    assert log.failures == 1


@pytest.mark.parametrize(
    ("asked_for", "is_taken"),
    [
        ("models:/iris@champion", True),
        ("models:/iris/1", True),
        ("models:/iris/2", False),
        ("models:/wine@champion", False),
        ("models:/wine/1", False),
    ],
)
def test_only_what_was_asked_for_is_served(
    asked_for: str,
    is_taken: bool,
    log: Log,
    logistic_artifact: ModelArtifact,
    tmp_path: Path,
) -> None:
    """A shared or stale folder may hold any model."""
    folder = write_version(tmp_path, logistic_artifact, "1")
    uri = ModelUri.parse(asked_for)
    watcher = ModelWatcher(folder, uri, log.serve, log.count_failure)

    if is_taken:
        watcher.load_now()
    else:
        with pytest.raises(OtherModel, match=f"holds iris, version 1, not {asked_for}"):
            watcher.load_now()

    assert log.versions == ["1"] * is_taken


def test_a_swap_to_another_model_is_refused_and_counted(
    log: Log, logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    folders = [write_version(tmp_path, logistic_artifact, version) for version in "12"]
    uri = ModelUri.parse("models:/iris/1")
    watcher = ModelWatcher(link, uri, log.serve, log.count_failure, INTERVAL_SECONDS)
    point(link, folders[0])
    watcher.load_now()
    watcher.start()

    point(link, folders[1])
    wait_for(lambda: log.failures == 1)
    watcher.stop()

    assert log.versions == ["1"]


def test_swaps_under_load_lose_no_call_and_mix_no_models(tmp_path: Path) -> None:
    """Each answer comes from the model that its version names."""
    row = [0.0] * 6
    folders = [
        write_version(tmp_path, lightgbm_artifact(n_classes)[0], str(n_classes))
        for n_classes in (2, 3)
    ]
    expected = {
        f.name: list(load_model(f).estimator.predict_probabilities(row))
        for f in folders
    }
    link = tmp_path / "current"
    point(link, folders[0])
    stop, answers, failures = threading.Event(), [], []

    with running_server(None) as server, connect(server) as stub:
        watcher = ModelWatcher(
            link, None, server.serve, server.count_load_failure, INTERVAL_SECONDS
        )
        watcher.load_now()
        watcher.start()

        def call() -> None:
            while not stop.is_set():
                try:
                    answers.append(
                        stub.Predict(PredictRequest(features=row), timeout=30)
                    )
                except grpc.RpcError as error:
                    failures.append(error)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for folder in [*reversed(folders)] * 10:
            point(link, folder)
            wait_for(functools.partial(answers_as, stub, folder.name))
        stop.set()
        for thread in threads:
            thread.join()
        watcher.stop()

    assert failures == []
    assert {answer.model_version for answer in answers} == {"2", "3"}
    assert all(list(a.probabilities) == expected[a.model_version] for a in answers)
