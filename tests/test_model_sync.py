"""The program that fetches models, against a real MLflow store."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from grpc_server.errors import RegistryError
from grpc_server.model import load_model
from grpc_server.model.sync_status import SyncStatus, read_status
from grpc_server.model_sync import follow, main, synchronize
from grpc_server.model_uri import ModelUri
from prediction.artifact import FILE_NAME, SHA256_TAG
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from support import ROOT, artifact_without_estimator, lightgbm_artifact, wait_for

pytestmark = pytest.mark.slow


# Runs model_sync, and kills it before the first change of one kind in the folder of versions.
DIES_AT = """
import os, runpy, signal, sys
event = sys.argv[1]
sys.argv[:2] = ["model_sync"]
folder = os.path.dirname(sys.argv[3])
def audit(name, arguments):
    if name == event and str(arguments[1]).startswith(folder):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(audit)
runpy.run_module("grpc_server.model_sync", run_name="__main__")
"""


def register(
    artifact: ModelArtifact, folder: Path, tags: dict[str, str] | None = None
) -> str:
    """Register `artifact` as a new version of the model "iris"; return the version."""
    import mlflow
    from sklearn.linear_model import LogisticRegression

    path = folder / FILE_NAME
    path.write_bytes(artifact.SerializeToString())
    mlflow.set_experiment("test")
    with mlflow.start_run():
        model = mlflow.sklearn.log_model(
            LogisticRegression().fit([[0.0], [1.0]], [0, 1]),
            name="model",
            pip_requirements=["scikit-learn"],
            extra_files=[str(path)],
        )
    client = mlflow.MlflowClient()
    (
        client.create_registered_model("iris")
        if not client.search_registered_models()
        else None
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    version = client.create_model_version(
        "iris", model.model_uri, model.run_id, tags=tags or {SHA256_TAG: digest}
    )
    return str(version.version)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with a LightGBM model as version 1, champion, and an untagged version 2."""
    import mlflow

    folder = tmp_path_factory.mktemp("store")
    previous = os.getcwd()
    os.chdir(folder)
    try:
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        register(lightgbm_artifact(2)[0], folder)
        register(artifact_without_estimator(1, 2), folder, {"other": "tag"})
        mlflow.MlflowClient().set_registered_model_alias("iris", "champion", "1")
    finally:
        os.chdir(previous)
    return folder


@pytest.fixture
def registry(store: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the store, in use. Its artifacts stay in their place."""
    import mlflow

    shutil.copy(store / "mlflow.db", tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    mlflow.set_tracking_uri(uri)  # and for the processes that tests start
    yield tmp_path
    mlflow.set_tracking_uri("")


def test_the_champion_is_fetched_and_loads(registry: Path) -> None:
    link = registry / "model" / "current"

    source = synchronize(ModelUri.parse("models:/iris@champion"), link)

    assert link.is_symlink()
    assert load_model(link).source == source
    assert (source.registered_model, source.version) == ("iris", "1")
    assert source.run_id


def test_a_version_is_fetched_once(registry: Path) -> None:
    link = registry / "model" / "current"
    synchronize(ModelUri.parse("models:/iris/1"), link)
    inode = (link / FILE_NAME).stat().st_ino

    synchronize(ModelUri.parse("models:/iris@champion"), link)

    assert (link / FILE_NAME).stat().st_ino == inode
    assert [path.name[:6] for path in (link.parent / "versions").glob("iris*")] == [
        "iris-1"
    ]


def test_versions_that_nobody_serves_any_more_are_deleted(registry: Path) -> None:
    """All but the previous one, which a server may be reading, and those of other links.

    What a process that is gone was fetching is deleted, too.
    """
    store = registry / "model"
    versions = store / "versions"
    for name in ("old", "before", "other", ".partial-1"):
        (versions / name).mkdir(parents=True)
    (store / "current").symlink_to("versions/before")
    (store / "another").symlink_to("versions/other")

    for _ in range(2):
        synchronize(ModelUri.parse("models:/iris/1"), store / "current")

        fetched = (store / "current").resolve().name
        kept = {path.name for path in versions.iterdir()}
        assert kept == {fetched, "before", "other", ".lock"}


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("models:/iris@nobody", ["nobody", "not found"]),
        ("models:/iris/9", ["iris", "version=9", "not found"]),
        ("models:/tulip@champion", ["tulip", "not found"]),
        ("models:/iris/2", ["version 2 of iris", "artifact_sha256", "training flow"]),
    ],
)
def test_what_the_registry_lacks_is_named_and_nothing_changes(
    uri: str, words: list[str], registry: Path
) -> None:
    link = registry / "model" / "current"

    with pytest.raises(RegistryError) as caught:
        synchronize(ModelUri.parse(uri), link)

    message = str(caught.value)
    assert all(word.lower() in message.lower() for word in words), message
    assert not link.is_symlink()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("event", ["os.rename", "os.symlink"])
def test_the_program_may_be_killed_and_started_again(
    event: str, registry: Path
) -> None:
    """The real program on a real store. `test_version_store.py` kills it at every step."""
    link = registry / "model" / "current"
    arguments = ["models:/iris@champion", "--model-dir", str(link)]
    dies = [sys.executable, "-c", DIES_AT, event, *arguments]
    lives = [sys.executable, "-m", "grpc_server.model_sync", *arguments]

    for _ in range(2):
        assert subprocess.run(dies, cwd=ROOT).returncode == -signal.SIGKILL
        assert not link.exists()
    result = subprocess.run(lives, cwd=ROOT, capture_output=True, text=True)

    assert result.returncode == 0 and result.stderr == ""
    assert load_model(link).source.version == "1"
    names = {path.name for path in link.parent.iterdir()}
    assert names == {"current", ".current.status.json", "versions"}
    assert {path.name[:5] for path in (link.parent / "versions").iterdir()} == {
        ".lock",
        "iris-",
    }


def test_an_artifact_altered_after_registration_is_refused(registry: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    client.set_model_version_tag("iris", "1", SHA256_TAG, "0" * 64)
    link = registry / "model" / "current"

    with pytest.raises(RegistryError, match="altered after registration"):
        synchronize(ModelUri.parse("models:/iris/1"), link)

    assert [p.name for p in (link.parent / "versions").iterdir()] == [".lock"]


def test_the_last_good_model_stays_when_a_later_fetch_fails(registry: Path) -> None:
    link = registry / "model" / "current"
    synchronize(ModelUri.parse("models:/iris@champion"), link)

    with pytest.raises(RegistryError):
        synchronize(ModelUri.parse("models:/iris/9"), link)

    assert load_model(link).source.version == "1"


def test_the_status_says_when_the_registry_answered_and_why_a_version_is_not_there(
    registry: Path,
) -> None:
    import mlflow

    link = registry / "model" / "current"
    uri = ModelUri.parse("models:/iris@champion")
    synchronize(uri, link)
    good = read_status(link)
    mlflow.MlflowClient().set_registered_model_alias("iris", "champion", "2")
    with pytest.raises(RegistryError, match="has no tag"):
        synchronize(uri, link)
    refused = read_status(link)
    mlflow.set_tracking_uri(f"sqlite:///{registry}/gone.db")
    with pytest.raises(RegistryError, match="there is no registry"):
        synchronize(uri, link)
    unreached = read_status(link)

    assert good and refused and unreached
    assert good.contact_time and refused.contact_time
    assert good == SyncStatus(str(uri), good.contact_time, "1", "1", "")
    assert good.contact_time < refused.contact_time == unreached.contact_time
    assert (refused.wanted_version, refused.held_version) == ("2", "1")
    assert refused.reason.startswith("version 2 of iris has no tag")
    assert (unreached.wanted_version, unreached.held_version) == ("2", "1")
    assert unreached.reason.startswith("there is no registry at sqlite:///")


def test_a_folder_of_somebody_else_is_left_alone(registry: Path) -> None:
    with pytest.raises(RegistryError, match="is a folder, not a link"):
        synchronize(ModelUri.parse("models:/iris/1"), registry)


def test_a_missing_store_is_named_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/none.db")
    try:
        with pytest.raises(
            RegistryError, match="there is no registry at sqlite:///.*none.db"
        ):
            synchronize(ModelUri.parse("models:/iris/1"), tmp_path / "current")
    finally:
        mlflow.set_tracking_uri("")

    assert [path.name for path in tmp_path.iterdir()] == [".current.status.json"]


@pytest.mark.parametrize(
    "text", ["iris", "models:/iris", "models:/iris@", "models:/a/b/c"]
)
def test_any_other_uri_is_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([text, "--model-dir", "unused"]) == 1

    error = capsys.readouterr().err
    assert error.startswith(f"error: model URI {text!r} is not models:/NAME@ALIAS")
    assert len(error.splitlines()) == 1


def test_following_the_registry_brings_a_moved_alias_and_survives_failures(
    registry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    link = registry / "model" / "current"
    stop = threading.Event()
    arguments = (ModelUri.parse("models:/iris@candidate"), link, 0.05, stop)
    thread = threading.Thread(target=follow, args=arguments)
    with caplog.at_level("INFO", "grpc_server.model_sync"):
        thread.start()
        wait_for(lambda: "registry failed" in caplog.messages)
        client.set_registered_model_alias("iris", "candidate", "1")
        wait_for(lambda: "fetched" in caplog.messages)
        stop.set()
        thread.join()

    assert load_model(link).source.version == "1"


def test_the_program_says_what_it_fetched(
    registry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = registry / "current"

    assert main(["models:/iris@champion", "--model-dir", str(link)]) == 0

    assert capsys.readouterr().out == f"iris version 1 is at {link}\n"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "90000"])
def test_an_interval_out_of_range_is_refused(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "models:/iris/1",
        "--model-dir",
        "unused",
        "--interval-seconds",
        seconds,
    ]
    with pytest.raises(SystemExit):
        main(arguments)

    assert "is not in (0, 86400]" in capsys.readouterr().err
