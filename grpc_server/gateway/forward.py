"""Passes requests on from the supervisor, which knows neither gRPC nor the model, to a process.

Each process listens on a socket that the supervisor has made for it, and keeps for its successor.
It believes what the supervisor says of a client, and nobody else.
"""

import asyncio
import json
import os
import re
import socket
import struct
from collections.abc import Callable, Sequence
from http import HTTPStatus

from grpc_server.gateway.bodies import BodyReader, BodyRefused
from grpc_server.gateway.desk import REQUEST_SECONDS, GatewayDesk
from grpc_server.gateway.exchange import HttpReply, HttpRequest, refuse
from grpc_server.gateway.names import Paths
from grpc_server.gateway.origin import check_origin
from grpc_server.http_desk import Body, Connection, Head

_CLIENT = "x-gateway-client"
# pid, uid and gid of the peer: struct ucred.
_PEER = struct.Struct("3i")
_BACKLOG = 128
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)", re.IGNORECASE)


class Inlet:
    """The socket of one process, which its successors inherit."""

    def __init__(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind("")  # Linux chooses a name that is free
        self.listener.listen(_BACKLOG)
        self.address: bytes = self.listener.getsockname()


class ForwardDesk:
    """Gives each request to the next process that is ready.

    Parameters
    ----------
    paths : tuple of str
        Paths to pass on, with those below them.
    bodies : BodyReader
        Reads the bodies.
    list_ready : callable
        Returns the sockets' addresses of the processes that are ready.
    """

    # More than a process takes, so that its own refusal arrives.
    seconds = 2 * REQUEST_SECONDS

    def __init__(
        self,
        paths: tuple[str, ...],
        bodies: BodyReader,
        list_ready: Callable[[], Sequence[bytes]],
    ) -> None:
        self._paths = Paths(paths)
        self._bodies = bodies
        self._list_ready = list_ready
        self._n_requests = 0

    def takes(self, path: str) -> bool:
        """Return whether requests for a path are passed on."""
        return self._paths.find(path) is not None

    async def answer(
        self, head: Head, body: Body, writer: asyncio.StreamWriter
    ) -> bytes:
        """Return the process's reply."""
        refusal = check_origin(head)
        if refusal is not None:
            return refusal.encode(head.method)
        try:
            request = await self._bodies.read(head, body, writer)
        except BodyRefused as error:
            return error.reply.encode(head.method)
        try:
            return await self._forward(request)
        except OSError:
            message = "the process that had the request has ended; try again"
            return _try_again(message).encode(head.method)
        finally:
            self._bodies.release(request)

    async def _forward(self, request: HttpRequest) -> bytes:
        addresses = self._list_ready()
        if not addresses:
            return _try_again("no process is ready").encode(request.head.method)
        self._n_requests += 1
        address = addresses[self._n_requests % len(addresses)]
        reader, writer = await asyncio.open_unix_connection(os.fsdecode(address))
        try:
            writer.write(_write_head(request))
            writer.write(request.body)
            reply_bytes = await reader.read()
        finally:
            writer.transport.abort()
        if not _is_whole(reply_bytes, request.head.method):
            raise ConnectionResetError
        return reply_bytes


class InnerDesk:
    """Answers the requests that the supervisor passes on, in a process.

    Parameters
    ----------
    desk : GatewayDesk
        Answers them.
    supervisor_pid : int
        Process id of the supervisor.
    """

    seconds = REQUEST_SECONDS

    def __init__(self, desk: GatewayDesk, supervisor_pid: int) -> None:
        self._desk = desk
        self._supervisor_pid = supervisor_pid

    def takes(self, path: str) -> bool:
        """Return True: nothing else answers on this socket."""
        return True

    async def answer(
        self, head: Head, body: Body, writer: asyncio.StreamWriter
    ) -> bytes:
        """Return the reply to the supervisor's client."""
        peer = writer.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size
        )
        # Whoever shares the machine's network can find the socket.
        if _PEER.unpack(peer)[0] != self._supervisor_pid:
            message = "this socket answers the supervisor only"
            return refuse(HTTPStatus.FORBIDDEN, message).encode(head.method)
        return await self._desk.answer(_unwrap(head), body, writer)


def _try_again(message: str) -> HttpReply:
    headers = (("Retry-After", "1"),)
    return refuse(HTTPStatus.SERVICE_UNAVAILABLE, message, headers)


def _is_whole(reply: bytes, method: str) -> bool:
    """Tell whether a reply came to its end: a process may have ended while it sent it."""
    head, end, body = reply.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not end or length is None:
        return False
    return method == "HEAD" or len(body) == int(length[1])


def _write_head(request: HttpRequest) -> bytes:
    head = request.head
    target = head.path + (f"?{head.query}" if head.query else "")
    headers = {**head.headers, "content-length": str(len(request.body))}
    headers.pop("expect", None)
    headers[_CLIENT] = json.dumps([head.connection.peer, head.connection.names])
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{head.method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def _unwrap(head: Head) -> Head:
    headers = dict(head.headers)
    peer, names = json.loads(headers.pop(_CLIENT))
    connection = Connection(peer, tuple((kind, name) for kind, name in names))
    return Head(head.method, head.path, head.query, headers, connection)
