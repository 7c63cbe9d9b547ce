"""Refuses requests that another site's page sends through a visitor's browser."""

from http import HTTPStatus
from urllib.parse import urlsplit

from grpc_server.gateway.exchange import HttpReply, refuse
from grpc_server.http_desk import Head

_READING = ("GET", "HEAD")
# Any page may send these without asking the server first. It may also send no type, as some
# programs do; then the browser says which page it is.
_SIMPLE_KINDS = (
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "text/plain",
)
_SAME_SITE = ("same-origin", "none")


def find_kind(head: Head) -> str:
    """Return the media type of a request's body, without parameters; "" without a body's type."""
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_origin(head: Head) -> HttpReply | None:
    """Return None, or the refusal of a request that a page of another site may have sent.

    Browsers say which page sends a request; programs say nothing, and pass. A browser asks before
    it sends a type of body that forms cannot send, and the server does not answer that question.
    """
    if head.method in _READING:
        return None
    kind = find_kind(head)
    if kind in _SIMPLE_KINDS:
        message = f"Content-Type is {kind!r}; send application/json"
        return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
    site = head.headers.get("sec-fetch-site", "none")
    origin = head.headers.get("origin")
    if site in _SAME_SITE and (origin is None or _is_own(origin, head)):
        return None
    message = (
        f"the request comes from a page of {(origin or site)[:100]!r}; only the server's own pages "
        "may send it"
    )
    return refuse(HTTPStatus.FORBIDDEN, message)


def _is_own(origin: str, head: Head) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == head.headers.get("host", "").lower()
    except ValueError:
        return False
