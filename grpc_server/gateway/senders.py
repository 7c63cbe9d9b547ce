"""Who may send a large body: reading it takes memory that all requests share."""

from dataclasses import dataclass
from http import HTTPStatus

from grpc_server.access import Access
from grpc_server.callers import PREDICT
from grpc_server.errors import (
    CallError,
    NotAllowed,
    TooManyAttempts,
    Unauthenticated,
)
from grpc_server.gateway.exchange import HttpReply, refuse
from grpc_server.http_desk import Head
from grpc_server.http_guard import Credentials

_STATUSES: dict[type[CallError], HTTPStatus] = {
    TooManyAttempts: HTTPStatus.TOO_MANY_REQUESTS,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    NotAllowed: HTTPStatus.FORBIDDEN,
}


@dataclass(frozen=True, slots=True)
class SenderCheck:
    """Refuses requests of callers who may not predict, or none if no list names callers.

    Parameters
    ----------
    access : Access
        Who may call.
    """

    access: Access

    def __call__(self, head: Head) -> HttpReply | None:
        """Return None, or the refusal of a request."""
        if self.access.is_open:
            return None
        token = head.headers.get("authorization", "")
        try:
            self.access.check(Credentials(token, head.connection), PREDICT)
        except (TooManyAttempts, Unauthenticated, NotAllowed) as error:
            status = _STATUSES[type(error)]
            is_unknown = status == HTTPStatus.UNAUTHORIZED
            headers = (("WWW-Authenticate", "Bearer"),) if is_unknown else ()
            return refuse(status, str(error), headers)
        return None
