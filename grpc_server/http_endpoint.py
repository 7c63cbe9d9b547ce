"""The HTTP port: /metrics for Prometheus, /health/live and /health/ready for probes and people.

One thread serves all clients, so that idle and slow ones hold no thread; each has 5 s in total. A
second thread writes slow pages, so that health checks never wait for them.
"""

import asyncio
import errno
import io
import json
import logging
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, make_wsgi_app

from grpc_server.errors import StartupError
from grpc_server.http_desk import Connection, Head, HttpDesk
from grpc_server.http_ending import CountedReader, hear_out, may_be_sending

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CONNECTION_KEY = "prediction.connection"
CLIENT_SECONDS = 5.0
MAX_CONNECTIONS = 512
# Memory for replies that clients have not taken yet.
MAX_UNSENT_BYTES = 64 * 1024 * 1024
# Connections may use one quarter of the files that the process may open.
_SHARE_OF_FILES = 4
# Pages that grow with the number of series.
_SLOW_PATHS = ("/metrics",)
_BACKLOG = 256
_MAX_REQUEST_BYTES = 16 * 1024
_METHODS = ("GET", "HEAD")
_SINGLE_HEADERS = (
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "inference-header-content-length",
    "origin",
)
# How often a stopping server looks for connections that have come up meanwhile.
_LOOK_SECONDS = 0.01
# Time at a stop for requests that have begun: the calls that they wait for are over by then.
_FINISH_SECONDS = 2.0

_log = logging.getLogger(__name__)


def make_app(
    registry: CollectorRegistry,
    why_not_ready: Callable[[], str | None],
    why_not_alive: Callable[[], str | None],
    check_caller: Callable[
        ["WSGIEnvironment"], HTTPStatus | None
    ] = lambda environ: None,
    pages: Mapping[
        str, Callable[[], tuple[HTTPStatus, dict[str, Any]]]
    ] = MappingProxyType({}),
) -> "WSGIApplication":
    """Return the WSGI application of the HTTP port.

    Parameters
    ----------
    registry : CollectorRegistry
        Metrics that /metrics shows.
    why_not_ready, why_not_alive : callable
        Return None if the server is ready or alive, otherwise the reason. /health/ready and
        /health/live show it with status 503.
    check_caller : callable
        Returns None if the caller may read /metrics, otherwise the status that refuses it.
    pages : mapping of str to callable
        Return status and content of further pages, by path.

    Returns
    -------
    WSGIApplication
        The application.
    """
    metrics: "WSGIApplication" = make_wsgi_app(registry)
    checks = {"/health/ready": why_not_ready, "/health/live": why_not_alive}
    words = {"/health/ready": "not ready", "/health/live": "not alive"}

    def app(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            refusal = check_caller(environ)
            if refusal is not None:
                return _reply(
                    start_response, refusal, {"status": refusal.phrase.lower()}
                )
            return metrics(environ, start_response)
        if path in pages:
            return _reply(start_response, *pages[path]())
        if path not in checks:
            body = {
                "status": "not found",
                "paths": ["/metrics", *sorted({*checks, *pages})],
            }
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
    headers = [("Content-Type", "application/json")]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", "Bearer"))  # RFC 9110, 11.6.1
    start_response(_line(status), headers)
    return [content]


def _line(status: HTTPStatus) -> str:
    return f"{status.value} {status.phrase}"


class HttpEndpoint:
    """Serves an application on a port, in its own thread, from `start` to `stop`.

    Parameters
    ----------
    host : str
        Address or name to listen on.
    port : int
        Port, [0, 65535]; 0 takes a free one.
    app : WSGIApplication
        The application.
    client_seconds : float
        Time of one client in total, > 0.
    max_connections : int
        Most connections, fewer if the process may open few files. Beyond them, the oldest
        connection without a request is closed.
    max_unsent_bytes : int
        Most bytes of the replies that are being sent, unless a single one has more. Beyond them,
        the client that takes its reply for the longest time is cut off.
    tls : callable or None
        Returns the TLS context of the next connection; None serves plain text.
    desks : sequence of HttpDesk
        Answer other requests than those for pages, each those for its paths.
    listener : socket.socket or None
        Listens already; None binds `host` and `port`.

    Raises
    ------
    StartupError
        If the port cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        app: "WSGIApplication",
        *,
        client_seconds: float = CLIENT_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
        max_unsent_bytes: int = MAX_UNSENT_BYTES,
        tls: Callable[[], ssl.SSLContext] | None = None,
        desks: Sequence[HttpDesk] = (),
        listener: socket.socket | None = None,
    ) -> None:
        self._tls = tls
        self._desks = desks
        self._app = app
        self._client_seconds = client_seconds
        try:
            self._socket = listener or _listen(host, port)
        except OSError as error:
            is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
            flag = "--http-port" if is_port else "--host"
            raise StartupError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with {flag}"
            ) from None
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._max_connections = _fit_to_files(max_connections)
        self._max_unsent_bytes = max_unsent_bytes
        # All are ordered, the oldest first.
        self._clients: dict[asyncio.Task[None], None] = {}
        self._silent: dict[asyncio.Task[None], None] = {}
        self._n_unsent_bytes: dict[asyncio.Task[None], int] = {}
        self._slow_pages = ThreadPoolExecutor(1, "pages")
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """Port that was bound, (0, 65535]."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests that have begun, for a short time, and free the port."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._is_over.set)
            self._thread.join()
        self._socket.close()
        self._slow_pages.shutdown(wait=False, cancel_futures=True)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(
            self._attend, sock=self._socket, limit=_MAX_REQUEST_BYTES, backlog=_BACKLOG
        )
        await self._is_over.wait()
        # Not closed yet: a closed server fails on connections that it has accepted meanwhile, and
        # leaves them open.
        self._loop.remove_reader(self._socket)
        await self._finish_requests()
        await self._cut_off_clients()
        server.close()

    async def _finish_requests(self) -> None:
        """Wait until no request that has come is without its reply, or for a short time."""
        end = self._loop.time() + _FINISH_SECONDS
        is_busy = True  # at first, for a request that is on its way into this process
        while is_busy and self._loop.time() < end:
            await asyncio.sleep(_LOOK_SECONDS)
            is_busy = len(self._clients) > len(self._silent)

    async def _cut_off_clients(self) -> None:
        """Close all connections, and those that asyncio has accepted but not handed over yet."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            # A task that is cancelled before its first step would leave its connection open. So
            # only those that have begun are cancelled.
            for task in list(self._clients):
                task.cancel()
            await asyncio.wait(others, timeout=_LOOK_SECONDS)
        # asyncio closes the socket of a connection that is cut off a turn later.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _attend(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= self._max_connections:
            self._make_room()
        self._clients[task] = self._silent[task] = None
        try:
            async with asyncio.timeout(self._client_seconds) as limit:
                if self._tls is not None:
                    # Here, so that a client's time and the limit of connections include it.
                    await writer.start_tls(self._tls())
                head = await _read_head(reader)
                self._silent.pop(task, None)
                body = CountedReader(reader)
                reply = await self._answer(head, body, writer, limit)
                self._make_room_for(task, reply)
                writer.write(reply)
                await writer.drain()
                if may_be_sending(head, reply, body.n_bytes):
                    await hear_out(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()  # its time is over, it is gone, or it makes room
        finally:
            self._silent.pop(task, None)
            self._clients.pop(task, None)
            self._n_unsent_bytes.pop(task, None)

    def _make_room_for(self, task: "asyncio.Task[None]", reply: bytes) -> None:
        """Cut off the slowest takers, so that all replies fit into their memory."""
        unsent = self._n_unsent_bytes
        unsent[task] = len(reply)
        while len(unsent) > 1 and sum(unsent.values()) > self._max_unsent_bytes:
            slowest = next(iter(unsent))
            slowest.cancel()
            del unsent[slowest]

    def _make_room(self) -> None:
        victim = next(iter(self._silent or self._clients))
        victim.cancel()
        # So that the next call chooses another one.
        self._silent.pop(victim, None)
        self._clients.pop(victim)

    async def _answer(
        self,
        raw: bytes | HTTPStatus,
        body: CountedReader,
        writer: asyncio.StreamWriter,
        limit: asyncio.Timeout,
    ) -> bytes:
        if isinstance(raw, HTTPStatus):
            return _plain(raw)
        try:
            head = _parse(raw, Connection.of(writer))
        except ValueError:
            return _plain(HTTPStatus.BAD_REQUEST)
        try:
            for desk in self._desks:
                if desk.takes(head.path):
                    limit.reschedule(self._loop.time() + desk.seconds)
                    return await desk.answer(head, body, writer)
            return await self._show_page(head)
        except Exception:
            _log.exception("page failed", extra={"fields": {"path": head.path[:100]}})
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _show_page(self, head: Head) -> bytes:
        if head.method not in _METHODS:
            allowed = [("Allow", ", ".join(_METHODS))]
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, allowed)
        if head.path not in _SLOW_PATHS:
            return _call(self._app, head)
        return await asyncio.wrap_future(
            self._slow_pages.submit(_call, self._app, head)
        )


async def _read_head(reader: asyncio.StreamReader) -> bytes | HTTPStatus:
    """Return the head of a request, or the status that refuses it.

    Raises
    ------
    ConnectionResetError
        If the client sent nothing.
    """
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise ConnectionResetError from None
        return HTTPStatus.BAD_REQUEST


def _fit_to_files(max_connections: int) -> int:
    """Return how many connections the process's limit of open files allows."""
    n_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if n_files == resource.RLIM_INFINITY:
        return max_connections
    return max(1, min(max_connections, n_files // _SHARE_OF_FILES))


def _listen(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )[0]
    listener = socket.socket(family, kind)
    try:
        # A restart would otherwise wait a minute for the previous process's connections.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _parse(raw: bytes, connection: Connection) -> Head:
    """Return the head of a request.

    Raises
    ------
    ValueError
        If it is not a request of HTTP/1.
    """
    first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1.") or not target.startswith("/"):
        raise ValueError(first)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or (key in _SINGLE_HEADERS and key in headers):
            raise ValueError(line)  # which of two counts would be a guess
        headers[key] = value.strip()
    path, _, query = target.partition("?")
    return Head(method, path, query, headers, connection)


def _call(app: "WSGIApplication", head: Head) -> bytes:
    """Return the application's response as bytes of HTTP/1."""
    environ: "WSGIEnvironment" = {
        "REQUEST_METHOD": "GET",  # HEAD has the same headers
        "PATH_INFO": head.path,
        "QUERY_STRING": head.query,
        "HTTP_AUTHORIZATION": head.headers.get("authorization", ""),
        "HTTP_ACCEPT": head.headers.get("accept", ""),
        "HTTP_ACCEPT_ENCODING": head.headers.get("accept-encoding", ""),
        "wsgi.input": io.BytesIO(),
        CONNECTION_KEY: head.connection,
    }
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        started.append((status, headers))
        return lambda content: None

    body = b"".join(app(environ, start_response))
    status, fields = started[-1]
    return encode_reply(status, fields, body, is_head=head.method == "HEAD")


def _plain(status: HTTPStatus, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    content = json.dumps({"status": status.phrase.lower()}).encode()
    fields = [("Content-Type", "application/json"), *headers]
    return encode_reply(_line(status), fields, content, is_head=False)


def encode_reply(
    status: str, headers: Iterable[tuple[str, str]], body: bytes, *, is_head: bool
) -> bytes:
    """Return a reply as bytes of HTTP/1, after which the connection is closed."""
    own = [("Content-Length", str(len(body))), ("Connection", "close")]
    kept = [pair for pair in headers if pair[0].lower() != "content-length"]
    lines = [f"{name}: {value}\r\n" for name, value in [*kept, *own]]
    head = f"HTTP/1.1 {status}\r\n{''.join(lines)}\r\n".encode("latin-1")
    return head if is_head else head + body
