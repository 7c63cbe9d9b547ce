"""A collector of OTLP over HTTP for tests, which answers as each test chooses."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
# Status, headers and body of a reply.
Reply = tuple[int, dict[str, str], bytes]
TAKEN: Reply = 200, {"Content-Type": "application/x-protobuf"}, b""


class TestCollector:
    """Keeps what it is sent.

    Parameters
    ----------
    url : str
        Its address.

    Attributes
    ----------
    replies : list of Reply
        Next replies, the last of which is given from then on.
    requests : list of ExportTraceServiceRequest
        What came and was answered with status 200.
    """

    __test__ = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.replies: list[Reply] = [TAKEN]
        self.requests: list[ExportTraceServiceRequest] = []
        self.n_posts = 0

    def answer(self, content: bytes) -> Reply:
        self.n_posts += 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply[0] == 200:
            self.requests.append(ExportTraceServiceRequest.FromString(content))
        return reply

    def spans(self) -> list[Span]:
        """Return all spans that came, in order."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def roots(self, name: str) -> list[Span]:
        """Return the spans with a name."""
        return [span for span in self.spans() if span.name == name]

    def children(self, span: Span) -> list[Span]:
        """Return the children of a span, in order."""
        return [s for s in self.spans() if s.parent_span_id == span.span_id]


def facts(span: Any) -> dict[str, Any]:
    """Return the attributes of a span or of a resource by name."""
    return {
        attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value"))
        for attribute in span.attributes
    }


@contextmanager
def running_collector() -> Iterator[TestCollector]:
    """Run a collector on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, body = collector.answer(content)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = TestCollector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield collector
        server.shutdown()


@contextmanager
def odd_collector(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a program that does as it likes with each connection; return its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(
                    target=_attend, args=(answer, connection), daemon=True
                ).start()

        threading.Thread(target=run, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"


def _attend(answer: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection:
        try:
            answer(connection)
        except OSError:
            return  # the other side has hung up, as it should
