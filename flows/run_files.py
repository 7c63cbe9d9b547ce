"""Keeps the files of a run in Metaflow's datastore, local or remote, beside its artifacts."""

import mmap
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

from metaflow import FlowSpec, current

# The artifacts are in "data", beside this folder.
FOLDER = "files"


class _Mapped:
    """A file, 1 byte or more, that is read by mapping it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self) -> mmap.mmap:
        """Return all bytes of the file."""
        return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)


class RunFiles:
    """Puts files into the datastore of the run, and gets them from there.

    Each of Metaflow's own clients works with one kind of store. The storage behind the run's
    artifacts works with all, because every datastore plugin implements its interface
    (`metaflow.datastore.datastore_storage.DataStoreStorage`).

    Parameters
    ----------
    flow : FlowSpec
        Flow whose step is running.
    """

    def __init__(self, flow: FlowSpec) -> None:
        self._storage: Any = flow._datastore._storage_impl
        self._scratch = tempfile.TemporaryDirectory(prefix="run-files-")

    def put(self, path: Path) -> str:
        """Store a file and return its key; it replaces a file of the same name and run."""
        key = self._storage.path_join(
            current.flow_name, FOLDER, current.run_id, path.name
        )
        # A local store reads all of a file at once. The pages of a map are none of its memory.
        is_local = self._storage.TYPE == "local"
        with path.open("rb") as file:
            source = _Mapped(file) if is_local else file
            self._storage.save_bytes([(key, source)], overwrite=True, len_hint=1)
        return str(key)

    def get(self, key: str) -> Path:
        """Get a file that was put.

        Parameters
        ----------
        key : str
            Return value of `put`.

        Returns
        -------
        Path
            A local copy, which lasts as long as this object.

        Raises
        ------
        FileNotFoundError
            If the datastore has no such file.
        """
        with self._storage.load_bytes([key]) as loaded:
            ((_, path, _),) = loaded
            if path is None:
                raise FileNotFoundError(2, "it is not in the datastore", key)
            if self._storage.TYPE == "local":
                return Path(path)
            return Path(shutil.move(path, Path(self._scratch.name, Path(key).name)))
