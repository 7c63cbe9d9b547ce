"""Reads the bodies of requests, under limits of size, time and memory."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from grpc_server.gateway.exchange import HttpReply, HttpRequest, refuse
from grpc_server.gateway.names import Paths
from grpc_server.http_desk import Body, Head

# As long as the proxy for JSON waits.
BODY_SECONDS = 15.0
_CHUNK_BYTES = 64 * 1024
# Bodies up to this size are read from anybody, so that the gRPC server counts who is refused.
_SMALL_BYTES = 16 * 1024


class BodyRefused(Exception):
    """A body that is not read, or not to its end.

    Attributes
    ----------
    reply : HttpReply
        Says why.
    """

    def __init__(self, reply: HttpReply) -> None:
        super().__init__(reply)
        self.reply = reply

    @classmethod
    def of(
        cls,
        status: HTTPStatus,
        message: str,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Self:
        """Return the refusal with a message."""
        return cls(refuse(status, message, headers))


class BodyRoom:
    """Memory for the bodies of all requests that are being read or answered.

    Parameters
    ----------
    max_bytes : int
        Most bytes, > 0.
    """

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._n_left = max_bytes

    def take(self, n_bytes: int) -> None:
        """Take room that `release` gives back.

        Raises
        ------
        BodyRefused
            If there is none.
        """
        with self._lock:
            if n_bytes > self._n_left:
                raise BodyRefused.of(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "the server holds as many requests as it may; try again later",
                    (("Retry-After", "1"),),
                )
            self._n_left -= n_bytes

    def release(self, n_bytes: int) -> None:
        """Give room back."""
        with self._lock:
            self._n_left += n_bytes


@dataclass(frozen=True, slots=True)
class BodyReader:
    """Reads bodies.

    Parameters
    ----------
    max_bytes : int
        Most bytes of one body.
    room : BodyRoom
        Memory for all bodies.
    limits : mapping of str to int
        Fewer bytes of one body, by site.
    check_sender : callable
        Returns None, or the refusal of a request with a large body: strangers would take the
        memory of all, and gRPC reads no message of theirs either.
    seconds : float
        Time of one body in total, > 0.
    """

    max_bytes: int
    room: BodyRoom
    limits: Mapping[str, int]
    check_sender: Callable[[Head], HttpReply | None] = lambda head: None
    seconds: float = BODY_SECONDS

    async def read(
        self, head: Head, source: Body, writer: asyncio.StreamWriter
    ) -> HttpRequest:
        """Return the request with its body; `release` gives its room back.

        Raises
        ------
        BodyRefused
            If the body is too large, too late or cut off, or there is no room for it.
        """
        n_bytes = self._find_length(head)
        if n_bytes > _SMALL_BYTES:
            refusal = self.check_sender(head)
            if refusal is not None:
                raise BodyRefused(refusal)
        if n_bytes and head.headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = bytearray()
        try:
            async with asyncio.timeout(self.seconds):
                while len(body) < n_bytes:
                    # The room for what has come, not for what is announced: a client that sends
                    # slowly takes no more than it has sent.
                    chunk = await source.read(min(_CHUNK_BYTES, n_bytes - len(body)))
                    if not chunk:
                        raise BodyRefused.of(
                            HTTPStatus.BAD_REQUEST,
                            f"the body ended after {len(body)} of {n_bytes} bytes",
                        )
                    self.room.take(len(chunk))
                    body += chunk
        except TimeoutError:
            self.room.release(len(body))
            message = f"the body did not arrive within {self.seconds:g} s"
            raise BodyRefused.of(HTTPStatus.REQUEST_TIMEOUT, message) from None
        except BaseException:
            self.room.release(len(body))
            raise
        return HttpRequest(head, bytes(body))

    def release(self, request: HttpRequest) -> None:
        """Give back the room of a request's body."""
        self.room.release(len(request.body))

    def _find_length(self, head: Head) -> int:
        encoding = head.headers.get("content-encoding", "identity")
        if encoding.lower() not in ("", "identity"):
            message = f"Content-Encoding is {encoding[:50]!r}; send the body as it is"
            raise BodyRefused.of(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
        if "transfer-encoding" in head.headers:
            message = "send the body with a Content-Length, not in chunks"
            raise BodyRefused.of(HTTPStatus.LENGTH_REQUIRED, message)
        text = head.headers.get("content-length", "")
        if not text and head.method in ("POST", "PUT", "PATCH"):
            raise BodyRefused.of(
                HTTPStatus.LENGTH_REQUIRED, "the request has no Content-Length; send it"
            )
        if text and not (text.isascii() and text.isdigit()):
            message = f"Content-Length is {text[:20]!r}; send a whole number of bytes"
            raise BodyRefused.of(HTTPStatus.BAD_REQUEST, message)
        # The digits alone tell a length that is too large to be read as a number.
        n_bytes = int(text.lstrip("0")[:20] or 0)
        max_bytes = self.limits.get(
            Paths(self.limits).find(head.path) or "", self.max_bytes
        )
        if n_bytes > max_bytes:
            message = f"the body has {text[:20]} bytes; send {max_bytes} at most"
            if max_bytes == self.max_bytes:
                message += ", the server's --max-message-bytes"
            raise BodyRefused.of(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        return n_bytes
