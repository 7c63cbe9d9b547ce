"""The files of one version: downloads them, compares their digests, and checks their signature."""

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from grpc_server.errors import ArtifactError, RegistryError
from grpc_server.model.artifact_limits import MAX_ARTIFACT_BYTES
from grpc_server.model.files import read_file
from grpc_server.model.signature import MAX_SIGNATURE_BYTES, check_folder
from grpc_server.model.source import SOURCE_FILE_NAME, ModelSource, read_source
from grpc_server.registry.durable_files import sync_file, sync_folder, write_file
from grpc_server.trust import Trust
from prediction.artifact import FILE_NAME, SIGNATURE_FILE_NAME

_SIZE_LOOK_SECONDS = 0.1

# Downloads one file into a folder, and returns its path.
Download = Callable[[Path], Path]


@dataclass(frozen=True, slots=True)
class SignatureFile:
    """The signature file of a version.

    Parameters
    ----------
    sha256 : str
        Its digest.
    download : callable
        Downloads it.
    """

    sha256: str
    download: Download


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """The files of one version.

    Parameters
    ----------
    source : ModelSource
        The version.
    signature : SignatureFile or None
        Its signature file; None if there is none.
    trust : Trust or None
        Whose signatures to accept; None accepts any version.
    """

    source: ModelSource
    signature: SignatureFile | None
    trust: Trust | None

    def are_undamaged(self, folder: Path) -> bool:
        """Return whether a folder has all files of the version, unaltered."""
        try:
            content = read_file(folder / FILE_NAME, MAX_ARTIFACT_BYTES)
            is_there = (folder / SOURCE_FILE_NAME).exists()
            is_ours = is_there and read_source(folder, content) == self.source
            return is_ours and self._has_its_signature(folder)
        except ArtifactError:
            return False

    def check_signature(self, folder: Path) -> None:
        """Raise RegistryError unless a trusted key has signed the files, if that is asked for."""
        if self.trust is None:
            return
        try:
            check_folder(folder, self.trust)
        except ArtifactError as error:
            raise RegistryError(f"{self._name}: {error}") from None

    def complete(self, partial: Path, download: Download) -> Path:
        """Download the version into a folder, check it and sync it.

        Raises
        ------
        RegistryError
            If a download is too large or has another digest, or no trusted key has signed it.
        """
        complete = partial / "complete"
        complete.mkdir()
        model = self._fetch(partial / "download", download, MAX_ARTIFACT_BYTES)
        self._compare("its file", model, self.source.sha256)
        write_file(complete / FILE_NAME, model)
        if self.signature is not None:
            scratch = partial / "signature"
            content = self._fetch(scratch, self.signature.download, MAX_SIGNATURE_BYTES)
            self._compare(SIGNATURE_FILE_NAME, content, self.signature.sha256)
            write_file(complete / SIGNATURE_FILE_NAME, content)
        self.source.write(complete)
        sync_file(complete / SOURCE_FILE_NAME)
        sync_folder(complete)
        self.check_signature(complete)
        return complete

    @property
    def _name(self) -> str:
        return f"version {self.source.version} of {self.source.registered_model}"

    def _has_its_signature(self, folder: Path) -> bool:
        path = folder / SIGNATURE_FILE_NAME
        if self.signature is None:
            return not path.exists()
        content = read_file(path, MAX_SIGNATURE_BYTES)
        return hashlib.sha256(content).hexdigest() == self.signature.sha256

    def _fetch(self, scratch: Path, download: Download, max_bytes: int) -> bytes:
        scratch.mkdir()
        with _bounded_size(scratch, self._name):
            downloaded = download(scratch)
        try:
            return read_file(downloaded, max_bytes)
        except ArtifactError as error:
            raise RegistryError(str(error)) from None

    def _compare(self, what: str, content: bytes, expected: str) -> None:
        actual = hashlib.sha256(content).hexdigest()
        if actual != expected:
            raise RegistryError(
                f"{self._name}: {what} has sha256 {actual}, but its tag has {expected}; it was "
                "altered after registration"
            )


@contextmanager
def _bounded_size(folder: Path, version: str) -> Iterator[None]:
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
        raise RegistryError(f"{version} has more than {MAX_ARTIFACT_BYTES} bytes")


def _size_of(folder: Path) -> int:
    """Return the bytes of all files, except files that are just being removed."""
    n_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                n_bytes += os.lstat(os.path.join(parent, name)).st_size
    return n_bytes
