"""The counts of one process of several in a file, which the supervisor reads.

A file is replaced as a whole. So it is complete whenever a process is killed, and the successor of
a killed process goes on from what the last page showed.
"""

import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grpc_server.drift.counts import Counts
from grpc_server.drift.layout import BinnedFeature, Layout

_PATTERN = "drift_{}.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts of one model in one process.

    Parameters
    ----------
    layout : Layout
        Series of the model.
    load_time : float
        When the model was loaded, in seconds since the epoch.
    counts : Counts
        Counts, which may change while the process runs.
    """

    layout: Layout
    load_time: float
    counts: Counts


class CountStore:
    """The file of one process.

    Parameters
    ----------
    folder : Path
        Folder of the files.
    number : int
        Number of the process.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._path = folder / _PATTERN.format(number)
        self._is_full = False

    def read(self) -> Snapshot | None:
        """Return what the process or its predecessor has written, None if nothing."""
        return _read(self._path)

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file; on a full disk the last one stays, and the log says so once."""
        temporary = self._path.with_suffix(".new")
        try:
            # No sync: the folder does not outlive the machine.
            temporary.write_text(json.dumps(asdict(snapshot)), encoding="utf-8")
            os.replace(temporary, self._path)
        except OSError as error:
            self._tell(error.strerror or str(error))
        else:
            self._tell("")

    def remove(self) -> None:
        """Remove the file, if there is one."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._tell(error.strerror or str(error))

    def _tell(self, reason: str) -> None:
        if bool(reason) == self._is_full:
            return
        self._is_full = bool(reason)
        if reason:
            _log.error("drift is not shown", extra={"fields": {"reason": reason}})
        else:
            _log.info("drift is shown again")


def read_all(folder: Path) -> list[Snapshot]:
    """Return the counts of all processes, running or killed."""
    found = map(_read, sorted(folder.glob(_PATTERN.format("*"))))
    return [snapshot for snapshot in found if snapshot is not None]


def _read(path: Path) -> Snapshot | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Snapshot(
            layout=_read_layout(content["layout"]),
            load_time=content["load_time"],
            counts=Counts(**content["counts"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        fields = {"file": str(path), "reason": f"{type(error).__name__}: {error}"}
        _log.warning("drift of a process cannot be read", extra={"fields": fields})
        return None


def _read_layout(content: dict[str, Any]) -> Layout:
    return Layout(
        version=content["version"],
        family=content["family"],
        features=tuple(map(_read_feature, content["features"])),
        others=tuple(map(_read_feature, content["others"])),
        scores=_read_feature(content["scores"]),
        fine_bins=tuple(content["fine_bins"]),
        classes=tuple(content["classes"]),
        is_square=content["is_square"],
        calibration_error=content["calibration_error"],
    )


def _read_feature(content: dict[str, Any]) -> BinnedFeature:
    return BinnedFeature(
        content["label"], tuple(content["bins"]), tuple(content["shares"])
    )
