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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from grpc_server.errors import RegistryError
from grpc_server.model.source import ModelSource
from grpc_server.registry.durable_files import (
    lock_file,
    make_folder,
    replace_link,
    sync_folder,
)
from grpc_server.registry.version_files import Download, SignatureFile, VersionFiles
from grpc_server.trust import Trust

VERSIONS_FOLDER = "versions"
_LOCK = ".lock"
_PARTIAL = ".partial-"
_SHOWN_DIGITS = 12
_MAX_NAME_BYTES = 100
_MAX_RUN_ID_CHARACTERS = 64


class VersionStore:
    """The store beside one link.

    Parameters
    ----------
    link : Path
        The link that a server reads.
    trust : Trust or None
        Whose signatures to accept; None accepts any version.
    """

    def __init__(self, link: Path, trust: Trust | None = None) -> None:
        self._link = link
        self._trust = trust
        self._store = link.parent
        self._versions = self._store / VERSIONS_FOLDER

    def serve(
        self,
        source: ModelSource,
        download: Download,
        signature: SignatureFile | None = None,
    ) -> None:
        """Point the link at a version, and download the version unless it is there and undamaged.

        Parameters
        ----------
        source : ModelSource
            The version.
        download : callable
            Downloads the version's file.
        signature : SignatureFile or None
            The version's signature file, if it has one.

        Raises
        ------
        RegistryError
            If the download has another digest than `source`, no trusted key has signed it, or the
            link is a folder.
        OSError
            If the disk is full or not writable.
        """
        if self._link.exists() and not self._link.is_symlink():
            raise RegistryError(
                f"--model-dir {self._link} is a folder, not a link of model_sync; "
                "choose another path"
            )
        folder = self._versions / _folder_name(source)
        files = VersionFiles(source, signature, self._trust)
        if files.are_undamaged(folder):
            files.check_signature(folder)
            # Write nothing if nothing changes: the disk may be full or read-only.
            if self._points_at(folder) and not self._list_partials():
                return
            with self._locked():
                # Check again: another writer may have removed it meanwhile.
                if files.are_undamaged(folder):
                    self._remove_left_over()
                    self._point(folder)
                    return
        with self._partial() as partial:
            complete = files.complete(partial, download)
            with self._locked():
                # Another one may have brought it meanwhile, and a server may be reading that.
                if not files.are_undamaged(folder):
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
