"""Writes the status of `model_sync`, so that the server can say why a version is not there."""

import logging
import os
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from grpc_server.model.source import peek_version
from grpc_server.model.sync_status import (
    SyncStatus,
    clean_text,
    clean_version,
    find_status_file,
    read_status,
)

# A writer that was killed leaves its unfinished file; none takes this long to finish one.
_LEFT_OVER_SECONDS = 600.0

_log = logging.getLogger(__name__)


class SyncRecord:
    """The status of one attempt, which begins with what the last one left.

    A status that cannot be written is logged, and does not fail the attempt.

    Parameters
    ----------
    link : Path
        Link that the attempt is to point at the version.
    uri : str
        Model that it follows.
    """

    def __init__(self, link: Path, uri: str) -> None:
        self._link = link
        before = read_status(link)
        is_ours = before is not None and before.uri == clean_text(uri)
        self._status = before if before and is_ours else SyncStatus(clean_text(uri))

    def reach(self, wanted_version: str) -> None:
        """Note that the registry has just named a version."""
        self._status = replace(
            self._status,
            contact_time=time.time(),
            wanted_version=clean_version(wanted_version),
        )

    def succeed(self) -> None:
        """Write that the wanted version is there."""
        self._write("")

    def fail(self, reason: str) -> None:
        """Write why the attempt failed; the reason has no secrets."""
        self._write(clean_text(reason))

    def _write(self, reason: str) -> None:
        held = peek_version(self._link)
        self._status = replace(self._status, held_version=held, reason=reason)
        try:
            _replace_file(find_status_file(self._link), self._status.to_json())
        except OSError as error:
            fields = {"reason": str(error)}
            _log.warning("status not written", extra={"fields": fields})


def _replace_file(path: Path, text: str) -> None:
    """Write a file in one step: a reader sees the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(path)
    # Another program may be writing the same status, so each has a file of its own.
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise


def _remove_left_over(path: Path) -> None:
    for name in os.listdir(path.parent):
        if name.startswith(f"{path.name}."):
            with suppress(OSError):  # its writer has just renamed it
                left = path.with_name(name)
                if time.time() - left.lstat().st_mtime > _LEFT_OVER_SECONDS:
                    left.unlink()
