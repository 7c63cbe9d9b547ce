"""The HTTP port: /metrics for Prometheus, /health/live and /health/ready for people."""

import json
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from grpc_server.errors import StartupError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # http.server's default looks the host's name up, which may take seconds without a network.
    server_name = ""

    def server_bind(self) -> None:
        """Bind without looking up a name."""
        # Else a restart has to wait a minute for the connections of the process before.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()[:2]
        self.server_port = self.server_address[1]
        self.setup_environ()


class _ThreadingServerV6(_ThreadingServer):
    address_family = socket.AF_INET6


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a probe every few seconds says nothing."""


def make_app(
    registry: CollectorRegistry, why_not_ready: Callable[[], str | None]
) -> "WSGIApplication":
    """Return the WSGI application of the HTTP port.

    Parameters
    ----------
    registry : CollectorRegistry
        What /metrics shows.
    why_not_ready : callable
        Returns None if the server is ready, else the reason, which /health/ready tells with 503.
    """
    metrics: "WSGIApplication" = make_wsgi_app(registry)

    def app(
        environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, start_response)
        if path == "/health/live":
            return _reply(start_response, "200 OK", {"status": "ok"})
        if path == "/health/ready":
            reason = why_not_ready()
            if reason is None:
                return _reply(start_response, "200 OK", {"status": "ok"})
            body = {"status": "not ready", "reason": reason}
            return _reply(start_response, "503 Service Unavailable", body)
        known = ["/metrics", "/health/live", "/health/ready"]
        return _reply(
            start_response, "404 Not Found", {"status": "not found", "paths": known}
        )

    return app


def _reply(
    start_response: "StartResponse", status: str, body: dict[str, Any]
) -> list[bytes]:
    content = json.dumps(body).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(content))),
    ]
    start_response(status, headers)
    return [content]


class HttpEndpoint:
    """Serves an application on a port, in threads of its own, from `start` to `stop`.

    Raises
    ------
    StartupError
        If the port cannot be had.
    """

    def __init__(self, host: str, port: int, app: "WSGIApplication") -> None:
        kind = _ThreadingServerV6 if ":" in host else _ThreadingServer
        try:
            self._server = make_server(host, port, app, kind, _QuietHandler)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --http-port"
            ) from None
        # How often to look whether to stop, which bounds how long `stop` takes.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="http", daemon=True
        )

    @property
    def port(self) -> int:
        """Port that was bound."""
        return self._server.server_port

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more, and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
