"""A request of the HTTP port with its body, and the reply."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from grpc_server.http_desk import Head
from grpc_server.http_endpoint import encode_reply

JSON = "application/json"
# A browser must not take a reply for another type than it says, keep it, or show it in a frame.
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that has arrived completely.

    Parameters
    ----------
    head : Head
        Its head.
    body : bytes
        Its body.
    """

    head: Head
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply.

    Parameters
    ----------
    status : HTTPStatus
        Its status.
    body : bytes
        Its body.
    kind : str
        Media type of the body.
    headers : tuple of (str, str)
        Further headers.
    """

    status: HTTPStatus
    body: bytes
    kind: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, method: str) -> bytes:
        """Return the reply to a request of `method` as bytes of HTTP/1."""
        line = f"{self.status.value} {self.status.phrase}"
        fields = [("Content-Type", self.kind), *_HEADERS, *self.headers]
        return encode_reply(line, fields, self.body, is_head=method == "HEAD")


Handler = Callable[[HttpRequest], HttpReply]
"""Answers requests on a thread of the gateway."""


def refuse(
    status: HTTPStatus, message: str, headers: tuple[tuple[str, str], ...] = ()
) -> HttpReply:
    """Return the reply of a refusal.

    Its body serves readers of a google.rpc.Status, of `status` and of `error` alike.

    Parameters
    ----------
    status : HTTPStatus
        Status of the reply.
    message : str
        What is wrong, and the cure.
    headers : tuple of (str, str)
        Further headers.

    Returns
    -------
    HttpReply
        The reply.
    """
    body: dict[str, Any] = {"status": status.phrase.lower(), "message": message}
    body["error"] = message
    return HttpReply(status, json.dumps(body).encode(), headers=headers)
