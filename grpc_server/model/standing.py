"""Whether the model that is wanted is the one that answers, and if not, why.

::

    model_sync's status ──┐
                          ├──> Standing ──> GetModel, /metrics; a line when a refusal begins or ends
    the server's refusals ┘
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from grpc_server.model.sync_status import SyncStatus, clean_text, clean_version
from prediction_common.secrets import redact

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the server is asked to serve, and why it does not.

    Parameters
    ----------
    contact_time : float or None
        When the registry last named the wanted version, in seconds since the epoch; None if
        unknown.
    wanted_version : str
        Version that should answer; empty if unknown.
    refusal : str
        Why it does not, in a sentence without secrets; empty while nothing is in its way.
    """

    contact_time: float | None = None
    wanted_version: str = ""
    refusal: str = ""


class StandingKeeper:
    """Combines the server's own refusals with the status of `model_sync`; for one thread at a time.

    Parameters
    ----------
    uri : str
        Model that the server is asked to serve; empty if any. The status of another is ignored.
    show : callable
        Shows a standing, whenever it changes.
    role : str
        What the model is besides the champion, for the log; empty for the champion.
    """

    def __init__(
        self, uri: str, show: Callable[[Standing], None], role: str = ""
    ) -> None:
        self._role = role
        self._uri = uri
        self._show = show
        self._status = SyncStatus()
        self._standing = Standing()
        self._served_version = ""
        self._tried_version = ""
        self._own_refusal = ""

    def refuse(self, version: str, reason: str, *, is_said: bool = False) -> None:
        """Note that the server refuses a version.

        Parameters
        ----------
        version : str
            The version; empty if unknown.
        reason : str
            Why.
        is_said : bool
            Whether the caller logs it. Otherwise the beginning of a refusal is logged here.
        """
        reason = clean_text(redact(reason))
        is_new = (version, reason) != (self._tried_version, self._own_refusal)
        self._tried_version, self._own_refusal = clean_version(version), reason
        self._update()
        if is_new and not is_said:
            _log.error("model refused, keeping what serves", extra=self._fields(reason))

    def accept(self, version: str) -> None:
        """Note that a version answers; log the end of a refusal."""
        was_refusing = bool(self._own_refusal)
        self._served_version = self._tried_version = clean_version(version)
        self._own_refusal = ""
        self._update()
        if was_refusing:
            _log.info("refusal ended", extra=self._fields())

    def hear(self, status: SyncStatus | None) -> None:
        """Take the status of `model_sync`; log when its failures begin and end."""
        if status is None or (self._uri and status.uri not in ("", self._uri)):
            status = SyncStatus()
        before, self._status = self._status, status
        self._update()
        begins = not before.reason or status.wanted_version != before.wanted_version
        if status.reason and begins:
            fields = self._fields(redact(status.reason))
            _log.error("model_sync fails, keeping what serves", extra=fields)
        elif before.reason and not status.reason:
            _log.info("model_sync succeeds again", extra=self._fields())

    def _update(self) -> None:
        status = self._status
        reasons = (redact(status.reason), self._own_refusal)
        standing = Standing(
            status.contact_time,
            status.wanted_version or self._tried_version,
            "; ".join(reason for reason in reasons if reason),
        )
        if standing != self._standing:
            self._standing = standing
            self._show(standing)

    def _fields(self, reason: str = "") -> dict[str, dict[str, object]]:
        """Return the fields of a line of the log."""
        standing = self._standing
        fields: dict[str, object] = {"role": self._role} if self._role else {}
        if reason:
            fields["reason"] = reason
        fields["wanted_version"] = standing.wanted_version
        fields["served_version"] = self._served_version
        if standing.contact_time is not None:
            contact = datetime.fromtimestamp(standing.contact_time, UTC)
            fields["registry_contact"] = contact.isoformat(timespec="seconds")
        return {"fields": fields}


def ignore_standing(standing: Standing) -> None:
    """Do nothing."""
