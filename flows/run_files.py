"""Where the files of a run lie: in Metaflow's datastore, local or remote, beside its artifacts."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from metaflow import FlowSpec, current

# Beside "data", which holds the artifacts.
FOLDER = "files"


class RunFiles:
    """Puts files into the datastore of the run and gets them from there.

    Metaflow's own clients do this for one kind of store each; the storage behind the run's
    artifacts does it for all, by an interface that every datastore plugin has to implement
    (``metaflow.datastore.datastore_storage.DataStoreStorage``).

    Parameters
    ----------
    flow : FlowSpec
        Flow whose step is running.
    """

    def __init__(self, flow: FlowSpec) -> None:
        self._storage: Any = flow._datastore._storage_impl
        self._scratch = tempfile.TemporaryDirectory(prefix="run-files-")

    def put(self, path: Path) -> str:
        """Keep a file and return its key; one of the same name and run is replaced."""
        key = self._storage.path_join(
            current.flow_name, FOLDER, current.run_id, path.name
        )
        with path.open("rb") as file:
            self._storage.save_bytes([(key, file)], overwrite=True, len_hint=1)
        return str(key)

    def get(self, key: str) -> Path:
        """Return a local path of a file that was put; it lasts as long as this object.

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
