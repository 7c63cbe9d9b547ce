"""The HTTP port: /metrics for Prometheus, /health/live and /health/ready for people.

One thread serves it, so idle and slow clients take no thread of others; each has 5 s in all.
"""

import asyncio
import errno
import io
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, make_wsgi_app

from grpc_server.errors import StartupError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CLIENT_SECONDS = 5.0
# Connections at once; beyond them, the oldest gives way: it has waited longest without a request.
_MAX_CONNECTIONS = 512
_BACKLOG = 256
_MAX_REQUEST_BYTES = 16 * 1024
_METHODS = ("GET", "HEAD")
# Turns of the loop until a connection that is cut off is closed.
_TURNS_TO_CLOSE = 5

_log = logging.getLogger(__name__)


def make_app(
    registry: CollectorRegistry,
    why_not_ready: Callable[[], str | None],
    why_not_alive: Callable[[], str | None],
) -> "WSGIApplication":
    """Return the WSGI application of the HTTP port.

    Parameters
    ----------
    registry : CollectorRegistry
        What /metrics shows.
    why_not_ready, why_not_alive : callable
        Return None if the server is ready or alive, else the reason, which /health/ready and
        /health/live tell with 503.
    """
    metrics: "WSGIApplication" = make_wsgi_app(registry)
    checks = {"/health/ready": why_not_ready, "/health/live": why_not_alive}
    words = {"/health/ready": "not ready", "/health/live": "not alive"}

    def app(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path not in checks:
            body = {"status": "not found", "paths": ["/metrics", *sorted(checks)]}
            return _reply(start_response, HTTPStatus.NOT_FOUND, body)
        reason = checks[path]()
        if reason is None:
            return _reply(start_response, HTTPStatus.OK, {"status": "ok"})
        status = HTTPStatus.SERVICE_UNAVAILABLE
        body = {"status": words[path], "reason": reason}
        return _reply(start_response, status, body)

    return app


def _reply(
    start_response: "StartResponse", status: HTTPStatus, body: dict[str, Any]
) -> list[bytes]:
    content = json.dumps(body).encode()
    start_response(_line(status), [("Content-Type", "application/json")])
    return [content]


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"


class HttpEndpoint:
    """Serves an application on a port, in a thread of its own, from `start` to `stop`.

    Raises
    ------
    StartupError
        If the port cannot be had.
    """

    def __init__(self, host: str, port: int, app: "WSGIApplication") -> None:
        self._app = app
        try:
            self._socket = _listen(host, port)
        except OSError as error:
            is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
            flag = "--http-port" if is_port else "--host"
            raise StartupError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with {flag}"
            ) from None
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._clients: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """Port that was bound."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and free the port."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._is_over.set)
            self._thread.join()
        self._socket.close()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._attend, sock=self._socket, limit=_MAX_REQUEST_BYTES, backlog=_BACKLOG
        )
        await self._is_over.wait()
        server.close()
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for _ in range(_TURNS_TO_CLOSE):
            await asyncio.sleep(0)

    async def _attend(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= _MAX_CONNECTIONS:
            next(iter(self._clients)).cancel()
        self._clients[task] = None
        try:
            async with asyncio.timeout(_CLIENT_SECONDS):
                writer.write(await self._answer(reader))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()  # it has had its time, has gone, or gives way
        finally:
            del self._clients[task]

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except asyncio.IncompleteReadError as error:
            return _plain(HTTPStatus.BAD_REQUEST) if error.partial else b""
        try:
            method, target, headers = _parse(head)
        except ValueError:
            return _plain(HTTPStatus.BAD_REQUEST)
        if method not in _METHODS:
            allowed = [("Allow", ", ".join(_METHODS))]
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, allowed)
        try:
            return _call(self._app, method, target, headers)
        except Exception:
            _log.exception("page failed", extra={"fields": {"path": target[:100]}})
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)


def _listen(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )[0]
    listener = socket.socket(family, kind)
    try:
        # Else a restart has to wait a minute for the connections of the process before.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _parse(head: bytes) -> tuple[str, str, Mapping[str, str]]:
    """Return method, target and headers, by names in lower case.

    Raises
    ------
    ValueError
        If it is no request of HTTP/1.
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1.") or not target.startswith("/"):
        raise ValueError(first)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ValueError(line)
        headers[name.lower()] = value.strip()
    return method, target, headers


def _call(
    app: "WSGIApplication", method: str, target: str, headers: Mapping[str, str]
) -> bytes:
    """Return what the application answers, as it goes over the wire."""
    path, _, query = target.partition("?")
    environ: "WSGIEnvironment" = {
        "REQUEST_METHOD": "GET",  # what HEAD has the headers of
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_ACCEPT": headers.get("accept", ""),
        "HTTP_ACCEPT_ENCODING": headers.get("accept-encoding", ""),
        "wsgi.input": io.BytesIO(),
    }
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        started.append((status, headers))
        return lambda content: None

    body = b"".join(app(environ, start_response))
    status, fields = started[-1]
    return _encode(status, fields, body, is_head=method == "HEAD")


def _plain(status: HTTPStatus, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    content = json.dumps({"status": status.phrase.lower()}).encode()
    fields = [("Content-Type", "application/json"), *headers]
    return _encode(_line(status), fields, content, is_head=False)


def _encode(
    status: str, headers: Iterable[tuple[str, str]], body: bytes, *, is_head: bool
) -> bytes:
    own = [("Content-Length", str(len(body))), ("Connection", "close")]
    kept = [pair for pair in headers if pair[0].lower() != "content-length"]
    lines = [f"{name}: {value}\r\n" for name, value in [*kept, *own]]
    head = f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode("latin-1")
    return head if is_head else head + body
