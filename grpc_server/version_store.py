"""The folder that `model_sync` writes and servers read: versions of models, and links to them.

::

    STORE/NAME@ALIAS              link that a server reads -> versions/NAME-VERSION-DIGEST
    STORE/.NAME@ALIAS.previous    link to what it pointed at before, which a server may be reading
    STORE/versions/.lock          held by whoever changes what is here
    STORE/versions/.partial-XXX   what is being fetched, locked by whoever fetches it

A version is complete, checked and on the disk before its folder has its name, and a link is
replaced in one step. So whoever writes may be killed at any moment: a reader sees a whole version,
and the next writer removes what is left over.
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from grpc_server.errors import ArtifactError, RegistryError
from grpc_server.model.files import read_file
from grpc_server.model.loading import MAX_ARTIFACT_BYTES
from grpc_server.model.source import SOURCE_FILE_NAME, ModelSource, read_source
from prediction.artifact import FILE_NAME

VERSIONS_FOLDER = "versions"
_LOCK = ".lock"
_PARTIAL = ".partial-"
_SHOWN_DIGITS = 12
_MAX_NAME_BYTES = 100

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
            with self._locked():
                # Looked at again: another one may have removed it meanwhile.
                if _is_undamaged(folder, source):
                    self._remove_left_over()
                    self._point(folder)
                    return
        with self._partial() as partial:
            complete = _complete(partial, source, download)
            with self._locked():
                self._publish(complete, folder, partial)
                self._point(folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._versions.mkdir(parents=True, exist_ok=True)
        with open(self._versions / _LOCK, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _partial(self) -> Iterator[Path]:
        """Make a folder for what is being fetched; it is locked, which ends with the process."""
        with self._locked():
            self._remove_left_over()
            partial = Path(tempfile.mkdtemp(dir=self._versions, prefix=_PARTIAL))
            descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)  # else the next writer does it
            os.close(descriptor)

    def _remove_left_over(self) -> None:
        """Remove what processes that are gone were fetching."""
        for partial in self._versions.glob(f"{_PARTIAL}*"):
            descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                shutil.rmtree(partial)
            finally:
                os.close(descriptor)

    def _publish(self, complete: Path, folder: Path, partial: Path) -> None:
        """Give a complete version its name; what was there by it is damaged."""
        if folder.exists():
            folder.rename(partial / "damaged")
        complete.rename(folder)
        _sync_folder(self._versions)

    def _point(self, folder: Path) -> None:
        """Point the link at `folder`, and remove the versions that no link points at."""
        if self._link.exists() and self._link.resolve() == folder.resolve():
            return
        if self._link.is_symlink():
            previous = self._link.with_name(f".{self._link.name}.previous")
            _replace_link(previous, os.readlink(self._link))
        _replace_link(self._link, os.path.relpath(folder, self._store))
        self._prune()

    def _prune(self) -> None:
        linked = {path.resolve() for path in self._store.iterdir() if path.is_symlink()}
        for folder in self._versions.iterdir():
            if folder.resolve() not in linked and not folder.name.startswith("."):
                shutil.rmtree(
                    folder, ignore_errors=True
                )  # else the next writer does it


def check_source(source: ModelSource, name: str) -> None:
    """Refuse what a registry may say of a version, but no version of ours has.

    Raises
    ------
    RegistryError
        If the digest is none, the version is no number, or the model is not `name`.
    """
    if source.registered_model != name:
        raise RegistryError(
            f"the registry answers with a model of another name than {name!r}"
        )
    if not re.fullmatch(r"[0-9]{1,19}", source.version):
        raise RegistryError(f"version {source.version[:40]!r} of {name!r} is no number")
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
    _write(complete / FILE_NAME, content)
    source.write(complete)
    _sync_file(complete / SOURCE_FILE_NAME)
    _sync_folder(complete)
    return complete


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_link(link: Path, target: str) -> None:
    """Point `link` at `target` in one step, so that a reader sees the old or the new."""
    fresh = link.with_name(f".{link.name.lstrip('.')}.new")
    fresh.unlink(missing_ok=True)  # of one that was killed here
    fresh.symlink_to(target)
    fresh.replace(link)
    _sync_folder(link.parent)
