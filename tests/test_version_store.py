"""A writer is killed at any moment; readers see a whole version, and the next writer continues."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from grpc_server.errors import RegistryError
from grpc_server.model.source import ModelSource, read_source
from grpc_server.model_uri import ModelUri
from grpc_server.registry.version_store import VersionStore, check_source
from prediction.artifact import FILE_NAME

from support import ROOT

CONTENTS = {"1": b"first" * 100, "2": b"second" * 100, "3": b"the third"}
# Kills itself at the N-th event that changes a file. If there are fewer, prints their number.
CHILD = """
import os, signal, sys
from pathlib import Path
from grpc_server.model.source import ModelSource
from grpc_server.registry.version_store import VersionStore
link, name, version, sha256, content, deadly = sys.argv[1:]
EVENTS = {"open", "os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
count = 0
def audit(event, arguments):
    global count
    if event not in EVENTS:
        return
    if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        return
    count += 1
    if count == int(deadly):
        os.kill(os.getpid(), signal.SIGKILL)
def download(folder):
    path = folder / "model.binpb"
    path.write_bytes(bytes.fromhex(content))
    return path
store = VersionStore(Path(link))
source = ModelSource(name, version, "run", sha256)
sys.addaudithook(audit)
store.serve(source, download)
print(count)
"""


def source_of(version: str, name: str = "iris") -> ModelSource:
    digest = hashlib.sha256(CONTENTS[version]).hexdigest()
    return ModelSource(name, version, "run", digest)


def serve(link: Path, version: str, name: str = "iris") -> None:
    """Serve a version in this process."""

    def download(folder: Path) -> Path:
        path = folder / "downloaded"
        path.write_bytes(CONTENTS[version])
        return path

    VersionStore(link).serve(source_of(version, name), download)


def serve_and_die(link: Path, version: str, deadly: int) -> int | None:
    """Serve a version in a process that dies at an event; if it lives, return their number."""
    source = source_of(version)
    arguments = [str(link), source.registered_model, version, source.sha256]
    result = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments, CONTENTS[version].hex(), str(deadly)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if result.returncode == -signal.SIGKILL:
        return None
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def served_version(link: Path) -> str:
    """Return the version that a reader finds, and check that it is whole."""
    folder = link.resolve()
    content = (folder / FILE_NAME).read_bytes()
    source = read_source(folder, content)
    assert content == CONTENTS[source.version]
    return source.version


def names_of(link: Path) -> set[str]:
    """Return the content of the store, without the parts that differ between versions."""
    versions = link.parent / "versions"
    return {p.name for p in link.parent.iterdir()} | {
        p.name.rpartition("-")[0] or p.name for p in versions.iterdir()
    }


def test_a_writer_may_be_killed_at_every_step(tmp_path: Path) -> None:
    n_events = serve_and_die(tmp_path / "count" / "link", "2", 0)
    assert n_events is not None and n_events > 10

    for deadly in range(1, n_events + 20):
        link = tmp_path / str(deadly) / "link"
        serve(link, "1")
        survived = serve_and_die(link, "2", deadly)

        assert served_version(link) in ("1", "2")
        serve(link, "2")
        assert served_version(link) == "2"
        assert names_of(link) == {
            "link",
            ".link.previous",
            "versions",
            ".lock",
            "iris-1",
            "iris-2",
        }
        if survived is not None:
            return
    raise AssertionError("it was killed whatever it did")


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "no source", "other source", "gone", "folder", "pipe"]
)
def test_a_damaged_version_is_fetched_again(damage: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    serve(link, "1")
    path = link.resolve() / FILE_NAME
    source = link.resolve() / "source.json"
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:7])
        case "flipped":
            path.write_bytes(b"F" + path.read_bytes()[1:])
        case "no source":
            source.unlink()
        case "other source":
            values = json.loads(source.read_text()) | {"version": "7"}
            source.write_text(json.dumps(values))
        case "folder":
            path.unlink()
            path.mkdir()
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case _:
            path.unlink()

    serve(link, "1")

    assert served_version(link) == "1"
    assert names_of(link) == {"link", "versions", ".lock", "iris-1"}


def test_a_download_that_is_no_file_is_refused(tmp_path: Path) -> None:
    def download(folder: Path) -> Path:
        (folder / "downloaded").mkdir()
        return folder / "downloaded"

    with pytest.raises(RegistryError, match="is not a regular file"):
        VersionStore(tmp_path / "link").serve(source_of("1"), download)


def test_two_models_in_one_store_leave_each_other_alone(tmp_path: Path) -> None:
    """The newest version of each and the one before stay, in any order of writes."""
    failures: list[Exception] = []

    def flip(name: str) -> None:
        try:
            for turn in range(60):
                serve(tmp_path / name, "12"[turn % 2], name)
                served_version(tmp_path / name)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=flip, args=(name,)) for name in ("iris", "wine")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_what_a_living_process_fetches_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "link"
    is_downloading, may_go_on = threading.Event(), threading.Event()

    def download(folder: Path) -> Path:
        is_downloading.set()
        assert may_go_on.wait(30)
        path = folder / "downloaded"
        path.write_bytes(CONTENTS["1"])
        return path

    slow = threading.Thread(
        target=VersionStore(link).serve, args=(source_of("1"), download)
    )
    slow.start()
    assert is_downloading.wait(30)
    serve(link, "2")
    may_go_on.set()
    slow.join()

    assert served_version(link) == "1"


def test_two_writers_of_one_link_disturb_neither_each_other_nor_a_reader(
    tmp_path: Path,
) -> None:
    """Three versions, so that each is removed and fetched again, often by both at once."""
    link = tmp_path / "link"
    serve(link, "1")
    failures: list[Exception] = []

    def follow() -> None:
        try:
            for turn in range(60):
                serve(link, "123"[turn % 3])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=follow) for _ in range(2)]
    for thread in threads:
        thread.start()
    n_dangling = 0
    while any(thread.is_alive() for thread in threads):
        n_dangling += not link.exists()
    for thread in threads:
        thread.join()

    assert failures == []
    assert n_dangling == 0
    assert served_version(link) in ("1", "2", "3")


def test_a_version_that_is_served_already_is_not_written_for(tmp_path: Path) -> None:
    """So it continues on a full or read-only disk."""
    serve(tmp_path / "link", "1")

    assert serve_and_die(tmp_path / "link", "1", 0) == 0


def test_strange_things_among_what_is_left_over_end_no_start(tmp_path: Path) -> None:
    link, elsewhere = tmp_path / "store" / "link", tmp_path / "elsewhere"
    versions = link.parent / "versions"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    versions.mkdir(parents=True)
    (versions / ".partial-file").touch()
    (versions / ".partial-link").symlink_to(elsewhere)
    (versions / ".partial-nowhere").symlink_to("nowhere")
    (versions / ".partial-folder").mkdir()
    (link.parent / "loop").symlink_to("loop")
    (versions / f"iris-1-{source_of('1').sha256[:12]}").symlink_to("nowhere")

    serve(link, "1")
    serve(link, "2")

    assert served_version(link) == "2"
    assert not list(versions.glob(".partial-*"))
    assert [path.name for path in elsewhere.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "name", ["..", ".", "a b", "ü" * 200, "-m", "%2e", "a.b.c", ".hidden", "a\\b", "~"]
)
def test_any_name_has_a_folder_of_its_own(name: str, tmp_path: Path) -> None:
    link = tmp_path / "store" / "link"
    serve(link, "1", name)

    assert served_version(link) == "1"
    (folder,) = (p for p in (link.parent / "versions").iterdir() if p.name != ".lock")
    assert folder == link.resolve()
    assert {p.name for p in tmp_path.iterdir()} == {"store"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (ModelSource("iris", "1", "", "/../../evil"), "has the digest '/../../evil'"),
        (ModelSource("iris", "1", "", "A" * 64), "64 lower-case hexadecimal digits"),
        (ModelSource("iris", "1", "", "a" * 10**6), "64 lower-case hexadecimal digits"),
        (ModelSource("iris", "../1", "", "a" * 64), "version '../1'"),
        (ModelSource("iris", "١", "", "a" * 64), "is not a number"),
        (
            ModelSource("iris", "1", "r" * 10**5, "a" * 64),
            "a run ID is at most 64 letters",
        ),
        (ModelSource("iris", "1", "a/../b", "a" * 64), "has the run ID 'a/../b'"),
        (ModelSource("wine", "1", "", "a" * 64), "another model than 'iris'"),
    ],
)
def test_what_a_registry_says_is_checked(source: ModelSource, words: str) -> None:
    with pytest.raises(RegistryError, match=words) as caught:
        check_source(source, "iris")

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        "models:/m/١",
        "models:/m/01",
        "models:/m/0",
        "models:/m@a\nb",
        "models:/m\x01@a",
        "models:/m@../x",
    ],
)
def test_a_uri_has_no_digits_or_signs_of_other_kinds(text: str) -> None:
    with pytest.raises(ValueError, match="models:/NAME@ALIAS"):
        ModelUri.parse(text)
