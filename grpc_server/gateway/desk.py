"""Answers requests in the process that serves the model."""

import asyncio
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus

from grpc_server.gateway.bodies import BODY_SECONDS, BodyReader, BodyRefused
from grpc_server.gateway.exchange import Handler, HttpReply, HttpRequest, refuse
from grpc_server.gateway.names import Paths
from grpc_server.gateway.origin import check_origin
from grpc_server.http_desk import Body, Head

# Of one call of the gRPC server: as long as the proxy for JSON waits.
CALL_SECONDS = 10.0
# For the body, the wait for a thread and the call, and the time to send the reply.
REQUEST_SECONDS = BODY_SECONDS + 2 * CALL_SECONDS
# Threads wait for the gRPC server, and turn JSON into messages.
_N_THREADS = 8
# Requests that wait for a thread or have one.
_MAX_REQUESTS = 64

_log = logging.getLogger(__name__)


class GatewayDesk:
    """Answers requests by the site of their path, on a few threads.

    Parameters
    ----------
    sites : mapping of str to Handler
        Handler by path; the paths below it belong to it.
    bodies : BodyReader
        Reads the bodies.
    """

    seconds = REQUEST_SECONDS

    def __init__(self, sites: Mapping[str, Handler], bodies: BodyReader) -> None:
        self._sites = dict(sites)
        self._paths = Paths(self._sites)
        self._bodies = bodies
        self._pool = ThreadPoolExecutor(_N_THREADS, "gateway")
        self._room = threading.BoundedSemaphore(_MAX_REQUESTS)

    def takes(self, path: str) -> bool:
        """Return whether a site answers requests for a path."""
        return self._paths.find(path) is not None

    async def answer(
        self, head: Head, body: Body, writer: asyncio.StreamWriter
    ) -> bytes:
        """Return the reply as bytes of HTTP/1."""
        refusal = check_origin(head)
        if refusal is not None:
            return refusal.encode(head.method)
        try:
            request = await self._bodies.read(head, body, writer)
        except BodyRefused as error:
            return error.reply.encode(head.method)
        if not self._room.acquire(blocking=False):
            self._bodies.release(request)
            return _busy().encode(head.method)
        task = self._pool.submit(self._handle, request)

        def release(task: Future[HttpReply]) -> None:
            # Not sooner: a thread goes on after its client has gone.
            self._room.release()
            self._bodies.release(request)

        task.add_done_callback(release)
        reply = await asyncio.wrap_future(task)
        return reply.encode(head.method)

    def stop(self) -> None:
        """Begin no more requests; do not wait for those that have begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _handle(self, request: HttpRequest) -> HttpReply:
        name = self._paths.find(request.head.path)
        assert name is not None
        try:
            return self._sites[name](request)
        except Exception:
            fields = {"path": request.head.path[:100]}
            _log.exception("request failed", extra={"fields": fields})
            message = "the server failed; its log has the cause"
            return refuse(HTTPStatus.INTERNAL_SERVER_ERROR, message)


def _busy() -> HttpReply:
    message = f"{_MAX_REQUESTS} requests wait for an answer; try again later"
    return refuse(HTTPStatus.TOO_MANY_REQUESTS, message, (("Retry-After", "1"),))
