"""The folder that `model_sync` writes and servers read: versions of models, and links to them.

::

    STORE/NAME@ALIAS              link that a server reads -> versions/NAME-VERSION-DIGEST
    STORE/.NAME@ALIAS.previous    link to what it pointed at before, which a server may be reading
    STORE/versions/.lock          held by whoever changes what is here
    STORE/versions/.partial-XXX   what is being fetched; who fetches it holds a lock in it

A version is complete, checked and on the disk before its folder has its name, and a link is
replaced in one step. So whoever writes may be killed at any moment: a reader sees a whole version,
and the next writer removes what is left over.
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

# Brings the artifact's file into a folder, and returns its path.
Download = Callable[[Path], Path]


class VersionStore:
    """What lies beside one link.

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
        """Point the link at a version, which is downloaded unless it is there and undamaged.

        Raises
        ------
        RegistryError
            If what was downloaded is not what `source` says, or the link is a folder of somebody
            else.
        OSError
            If the disk is full or cannot be written.
        """
        if self._link.exists() and not self._link.is_symlink():
            raise RegistryError(
                f"--model-dir {self._link} is a folder, not a link of model_sync; name another"
            )
        folder = self._versions / _folder_name(source)
        if _is_undamaged(folder, source):
            # Where there is nothing to do, nothing is written: the disk may be full or read-only.
            if self._points_at(folder) and not self._list_partials():
                return
            with self._locked():
                # Looked at again: another one may have removed it meanwhile.
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
        """Make a folder for what is being fetched, with a lock that ends with the process."""
        with ExitStack() as stack:
            with self._locked():
                self._remove_left_over()
                partial = Path(tempfile.mkdtemp(dir=self._versions, prefix=_PARTIAL))
                stack.enter_context(lock_file(partial / _LOCK))
            # What cannot be removed, the next writer removes.
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            yield partial

    def _list_partials(self) -> list[Path]:
        return list(self._versions.glob(f"{_PARTIAL}*"))

    def _remove_left_over(self) -> None:
        """Remove what processes that are gone were fetching.

        What another user left may not be ours to remove. It takes space and is in nobody's way.
        """
        for partial in self._list_partials():
            if partial.is_symlink() or not partial.is_dir():
                with suppress(OSError):
                    partial.unlink()
                continue
            with suppress(OSError):  # locked, or being removed by its own process
                with lock_file(partial / _LOCK, waits=False):
                    shutil.rmtree(partial, ignore_errors=True)

    def _publish(self, complete: Path, folder: Path, partial: Path) -> None:
        """Give a complete version its name; what was there by it is damaged."""
        if os.path.lexists(folder):
            folder.rename(partial / "damaged")
        complete.rename(folder)
        sync_folder(self._versions)

    def _point(self, folder: Path) -> None:
        """Point the link at `folder`, and remove the versions that no link points at."""
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
        # Not `Path.resolve`, which raises where links form a loop.
        links = (path for path in self._store.iterdir() if path.is_symlink())
        linked = {os.path.realpath(link) for link in links}
        for folder in self._versions.iterdir():
            is_ours = not folder.name.startswith(".")
            if is_ours and os.path.realpath(folder) not in linked:
                # What cannot be removed, the next writer removes.
                shutil.rmtree(folder, ignore_errors=True)


def check_source(source: ModelSource, name: str) -> None:
    """Refuse what a registry may say of a version, but no version of ours has.

    Raises
    ------
    RegistryError
        If the digest is none, the version is no number, the run is none, or the model is not
        `name`.
    """
    if source.registered_model != name:
        raise RegistryError(
            f"the registry answers with a model of another name than {name!r}"
        )
    if not re.fullmatch(r"[0-9]{1,19}", source.version):
        raise RegistryError(f"version {source.version[:40]!r} of {name!r} is no number")
    if not re.fullmatch(rf"[\w-]{{0,{_MAX_RUN_ID_CHARACTERS}}}", source.run_id):
        raise RegistryError(
            f"version {source.version} of {name!r} is of the run {source.run_id[:80]!r}, which is "
            "no run's ID"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", source.sha256):
        raise RegistryError(
            f"version {source.version} of {name!r} has the digest {source.sha256[:80]!r}; a digest "
            "is 64 hexadecimal digits"
        )


def _folder_name(source: ModelSource) -> str:
    """Return a name that is one folder's whatever the model is called."""
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
    """Download a version into a folder of its own, checked and on the disk."""
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
            f"its tag says {source.sha256}; it was altered after registration"
        )
    write_file(complete / FILE_NAME, content)
    source.write(complete)
    sync_file(complete / SOURCE_FILE_NAME)
    sync_folder(complete)
    return complete


@contextmanager
def _bounded_size(folder: Path, source: ModelSource) -> Iterator[None]:
    """Take the folder away from a download that brings more than any artifact may have.

    The registry says whether it is one file or a folder of a million.
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
    """Return the bytes of all files, as far as they are not just being removed."""
    n_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                n_bytes += os.lstat(os.path.join(parent, name)).st_size
    return n_bytes
