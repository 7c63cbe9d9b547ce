"""The folder that `model_sync` writes and servers read: versions of models, and links to them.

::

    STORE/NAME@ALIAS              link that a server reads -> versions/NAME-VERSION-DIGEST
    STORE/.NAME@ALIAS.previous    link to the version before, which a server may still be reading
    STORE/versions/.lock          locked by the writer that changes `versions`
    STORE/versions/.partial-XXX   an unfinished download, with a lock that its writer holds

    download into .partial ──> check the digest ──> sync ──> rename to its version ──> replace link

A version gets its name only when it is complete, checked and on the disk, and a link is replaced in
one step. So a writer may be killed at any moment: a reader always sees a whole version, and the
next writer removes unfinished downloads.
"""

import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from grpc_server.errors import ArtifactError, RegistryError
from grpc_server.model.artifact_limits import MAX_ARTIFACT_BYTES
from grpc_server.model.files import read_file
from grpc_server.model.source import SOURCE_FILE_NAME, ModelSource, read_source
from grpc_server.registry.durable_files import (
    lock_file,
    make_folder,
    replace_link,
    sync_file,
    sync_folder,
    write_file,
)
from prediction.artifact import FILE_NAME

VERSIONS_FOLDER = "versions"
_LOCK = ".lock"
_PARTIAL = ".partial-"
_SHOWN_DIGITS = 12
_MAX_NAME_BYTES = 100
_MAX_RUN_ID_CHARACTERS = 64
_SIZE_LOOK_SECONDS = 0.1

# Downloads the artifact's file into a folder, and returns its path.
Download = Callable[[Path], Path]


class VersionStore:
    """The store beside one link.

    Parameters
    ----------
    link : Path
        The link that a server reads.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self._store = link.parent
        self._versions = self._store / VERSIONS_FOLDER

    def serve(self, source: ModelSource, download: Download) -> None:
        """Point the link at a version, and download the version unless it is there and undamaged.

        Parameters
        ----------
        source : ModelSource
            The version.
        download : callable
            Downloads the version's file.

        Raises
        ------
        RegistryError
            If the download has another digest than `source`, or the link is a folder.
        OSError
            If the disk is full or not writable.
        """
        if self._link.exists() and not self._link.is_symlink():
            raise RegistryError(
                f"--model-dir {self._link} is a folder, not a link of model_sync; "
                "choose another path"
            )
        folder = self._versions / _folder_name(source)
        if _is_undamaged(folder, source):
            # Write nothing if nothing changes: the disk may be full or read-only.
            if self._points_at(folder) and not self._list_partials():
                return
            with self._locked():
                # Check again: another writer may have removed it meanwhile.
                if _is_undamaged(folder, source):
                    self._remove_left_over()
                    self._point(folder)
                    return
        with self._partial() as partial:
            complete = _complete(partial, source, download)
            with self._locked():
                # Another one may have brought it meanwhile, and a server may be reading that.
                if not _is_undamaged(folder, source):
                    self._publish(complete, folder, partial)
                self._point(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_folder(self._versions)
        with lock_file(self._versions / _LOCK):
            yield

    @contextmanager
    def _partial(self) -> Iterator[Path]:
        """Create a folder for a download, with a lock that ends with the process."""
        with ExitStack() as stack:
            with self._locked():
                self._remove_left_over()
                partial = Path(tempfile.mkdtemp(dir=self._versions, prefix=_PARTIAL))
                stack.enter_context(lock_file(partial / _LOCK))
            # If this fails, the next writer removes it.
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            yield partial

    def _list_partials(self) -> list[Path]:
        return list(self._versions.glob(f"{_PARTIAL}*"))

    def _remove_left_over(self) -> None:
        """Remove the unfinished downloads of processes that have ended.

        Another user's may not be removable; they take space and do no other harm.
        """
        for partial in self._list_partials():
            if partial.is_symlink() or not partial.is_dir():
                with suppress(OSError):
                    partial.unlink()
                continue
            with suppress(OSError):  # locked, or its own process is removing it
                with lock_file(partial / _LOCK, waits=False):
                    shutil.rmtree(partial, ignore_errors=True)

    def _publish(self, complete: Path, folder: Path, partial: Path) -> None:
        """Give a complete version its name; a folder that has the name is damaged."""
        if os.path.lexists(folder):
            folder.rename(partial / "damaged")
        complete.rename(folder)
        sync_folder(self._versions)

    def _point(self, folder: Path) -> None:
        """Point the link at `folder`, and remove versions without a link."""
        if self._points_at(folder):
            return
        if self._link.is_symlink():
            previous = self._link.with_name(f".{self._link.name}.previous")
            replace_link(previous, os.readlink(self._link))
        replace_link(self._link, os.path.relpath(folder, self._store))
        self._prune()

    def _points_at(self, folder: Path) -> bool:
        return self._link.exists() and self._link.samefile(folder)

    def _prune(self) -> None:
        # `Path.resolve` would raise on a loop of links.
        links = (path for path in self._store.iterdir() if path.is_symlink())
        linked = {os.path.realpath(link) for link in links}
        for folder in self._versions.iterdir():
            is_ours = not folder.name.startswith(".")
            if is_ours and os.path.realpath(folder) not in linked:
                # If this fails, the next writer removes it.
                shutil.rmtree(folder, ignore_errors=True)


def check_source(source: ModelSource, name: str) -> None:
    """Refuse a registry's answer that no version of the training flow could have.

    Parameters
    ----------
    source : ModelSource
        The version, as the registry describes it.
    name : str
        Name of the model that was asked for.

    Raises
    ------
    RegistryError
        If the model is not `name`, or the version, the run's ID or the digest is malformed.
    """
    if source.registered_model != name:
        raise RegistryError(f"the registry answers with another model than {name!r}")
    if not re.fullmatch(r"[0-9]{1,19}", source.version):
        raise RegistryError(
            f"version {source.version[:40]!r} of {name!r} is not a number"
        )
    if not re.fullmatch(rf"[\w-]{{0,{_MAX_RUN_ID_CHARACTERS}}}", source.run_id):
        raise RegistryError(
            f"version {source.version} of {name!r} has the run ID {source.run_id[:80]!r}; a run "
            f"ID is at most {_MAX_RUN_ID_CHARACTERS} letters, digits, - and _"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", source.sha256):
        raise RegistryError(
            f"version {source.version} of {name!r} has the digest {source.sha256[:80]!r}; a digest "
            "is 64 lower-case hexadecimal digits"
        )


def _folder_name(source: ModelSource) -> str:
    """Return a valid folder name for a version, whatever characters the model's name has."""
    name = quote(source.registered_model, safe="@+ ").replace(".", "%2E", 1)
    if len(name) > _MAX_NAME_BYTES:
        digest = hashlib.sha256(name.encode()).hexdigest()[:_SHOWN_DIGITS]
        name = f"{name[:_MAX_NAME_BYTES]}~{digest}"
    return f"{name}-{source.version}-{source.sha256[:_SHOWN_DIGITS]}"


def _is_undamaged(folder: Path, source: ModelSource) -> bool:
    try:
        content = read_file(folder / FILE_NAME, MAX_ARTIFACT_BYTES)
        return (folder / SOURCE_FILE_NAME).exists() and (
            read_source(folder, content) == source
        )
    except ArtifactError:
        return False


def _complete(partial: Path, source: ModelSource, download: Download) -> Path:
    """Download a version into a folder, check it and sync it."""
    scratch, complete = partial / "download", partial / "complete"
    scratch.mkdir()
    complete.mkdir()
    with _bounded_size(scratch, source):
        downloaded = download(scratch)
    try:
        content = read_file(downloaded, MAX_ARTIFACT_BYTES)
    except ArtifactError as error:
        raise RegistryError(str(error)) from None
    actual = hashlib.sha256(content).hexdigest()
    if actual != source.sha256:
        raise RegistryError(
            f"version {source.version} of {source.registered_model}: its file has sha256 {actual}, "
            f"but its tag has {source.sha256}; it was altered after registration"
        )
    write_file(complete / FILE_NAME, content)
    source.write(complete)
    sync_file(complete / SOURCE_FILE_NAME)
    sync_folder(complete)
    return complete


@contextmanager
def _bounded_size(folder: Path, source: ModelSource) -> Iterator[None]:
    """Remove the folder under a download that exceeds the size of any allowed artifact.

    The registry decides whether it sends one file or a folder of a million.
    """
    is_over, is_too_large = threading.Event(), threading.Event()

    def watch() -> None:
        while not is_over.wait(_SIZE_LOOK_SECONDS):
            if _size_of(folder) > MAX_ARTIFACT_BYTES:
                is_too_large.set()
                shutil.rmtree(folder, ignore_errors=True)

    thread = threading.Thread(target=watch, name="size", daemon=True)
    thread.start()
    try:
        yield
    except Exception:
        if not is_too_large.is_set():
            raise
    finally:
        is_over.set()
        thread.join()
    if is_too_large.is_set():
        raise RegistryError(
            f"version {source.version} of {source.registered_model} has more than "
            f"{MAX_ARTIFACT_BYTES} bytes"
        )


def _size_of(folder: Path) -> int:
    """Return the bytes of all files, except files that are just being removed."""
    n_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                n_bytes += os.lstat(os.path.join(parent, name)).st_size
    return n_bytes
