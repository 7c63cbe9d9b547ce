"""Checks who may read pages of the HTTP port."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from grpc_server.access import Access
from grpc_server.callers import METRICS
from grpc_server.errors import NotAllowed, TooManyAttempts, Unauthenticated
from grpc_server.http_desk import Connection
from grpc_server.http_endpoint import CONNECTION_KEY

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_KINDS = {"DNS": "dns:", "URI": "uri:"}


@dataclass(frozen=True, slots=True)
class Credentials:
    """The credentials of one request.

    Parameters
    ----------
    authorization : str
        Value of the header; empty if it did not come.
    origin : Connection
        The client.
    """

    authorization: str
    origin: Connection

    def authorizations(self) -> list[str]:
        """Return the header's value, if it came."""
        return [self.authorization] if self.authorization else []

    def identities(self) -> Iterable[str]:
        """Return the names of the client's certificate, as proofs."""
        return [_KINDS[k] + name for k, name in self.origin.names if k in _KINDS]

    def connection(self) -> bytes:
        """Return the client's address and port."""
        return self.origin.peer.encode()


@dataclass(frozen=True, slots=True)
class HttpGuard:
    """Lets callers with the scope `metrics` read pages, or anybody if no list names callers.

    Parameters
    ----------
    access : Access
        Who may call.
    """

    access: Access

    def __call__(self, environ: "WSGIEnvironment") -> HTTPStatus | None:
        """Return None, or the status that refuses the request."""
        if self.access.is_open:
            return None
        header = environ.get("HTTP_AUTHORIZATION", "")
        try:
            self.access.check(Credentials(header, environ[CONNECTION_KEY]), METRICS)
        except TooManyAttempts:
            return HTTPStatus.TOO_MANY_REQUESTS
        except Unauthenticated:
            return HTTPStatus.UNAUTHORIZED
        except NotAllowed:
            return HTTPStatus.FORBIDDEN
        return None
