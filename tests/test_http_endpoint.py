"""The HTTP port, against clients that are slow, silent, many, or do not speak HTTP."""

import gc
import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from grpc_server.errors import StartupError
from grpc_server.http_ending import may_be_sending
from grpc_server.http_endpoint import (
    CLIENT_SECONDS,
    MAX_CONNECTIONS,
    HttpEndpoint,
    make_app,
)

from support import read_page
from wire import dial, exchange, silent_connections


class Reasons:
    """Why the server is not ready, or not alive."""

    ready: str | None = None
    alive: str | None = None


@pytest.fixture
def reasons() -> Reasons:
    return Reasons()


@pytest.fixture
def client_seconds() -> float:
    return CLIENT_SECONDS


@pytest.fixture
def endpoint(reasons: Reasons, client_seconds: float) -> Iterator[HttpEndpoint]:
    registry = CollectorRegistry()
    Gauge("answer", "A number.", registry=registry).set(42)
    app = make_app(registry, lambda: reasons.ready, lambda: reasons.alive)
    endpoint = HttpEndpoint("127.0.0.1", 0, app, client_seconds=client_seconds)
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture
def send(endpoint: HttpEndpoint) -> Callable[[bytes], bytes]:
    """Return a function that sends bytes and returns all that comes back."""

    return partial(exchange, endpoint)


def get(endpoint: HttpEndpoint, path: str) -> tuple[int, Any]:
    try:
        url = f"http://127.0.0.1:{endpoint.port}{path}"
        with urllib.request.urlopen(url, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_health_tells_why_not(endpoint: HttpEndpoint, reasons: Reasons) -> None:
    assert get(endpoint, "/health/ready") == (200, {"status": "ok"})
    assert get(endpoint, "/health/live") == (200, {"status": "ok"})

    reasons.ready, reasons.alive = "no model", "it hangs"

    ready = {"status": "not ready", "reason": "no model"}
    alive = {"status": "not alive", "reason": "it hangs"}
    assert get(endpoint, "/health/ready") == (503, ready)
    assert get(endpoint, "/health/live") == (503, alive)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_not_allowed(
    method: str, send: Callable[[bytes], bytes]
) -> None:
    answer = send(f"{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


def test_head_has_the_headers_of_get_alone(send: Callable[[bytes], bytes]) -> None:
    head, _, body = send(b"HEAD /metrics HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b""
    _, _, body = send(b"GET /metrics HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"answer 42.0" in body


def test_no_answer_tells_what_runs_here(send: Callable[[bytes], bytes]) -> None:
    answers = [
        send(b"GET /metrics HTTP/1.1\r\n\r\n"),
        send(b"POST / HTTP/1.1\r\n\r\n"),
        send(b"GET / HTTP/1.1\r\n\r\n"),
        send(b"nonsense\r\n\r\n"),
    ]

    for answer in answers:
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"server:" not in head
        assert b"python" not in head


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/2.0\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"half a request",
    ],
)
def test_what_is_no_request_is_refused(
    request_bytes: bytes, send: Callable[[bytes], bytes]
) -> None:
    assert send(request_bytes).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_request_without_end_is_refused(send: Callable[[bytes], bytes]) -> None:
    answer = send(b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 10_000)

    assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""


@pytest.mark.parametrize("client_seconds", [0.5])
def test_slow_clients_have_a_time_in_all(endpoint: HttpEndpoint) -> None:
    """Sending a byte now and then gives them no more time."""
    with dial(endpoint) as client:
        begin = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < begin + 30:
                client.sendall(b"G")
                time.sleep(0.05)

    assert get(endpoint, "/health/live")[0] == 200


def test_silent_clients_keep_nobody_waiting(endpoint: HttpEndpoint) -> None:
    with silent_connections(endpoint, 300):
        assert get(endpoint, "/health/live")[0] == 200


class SlowPage(Collector):
    """Metrics that take as long to write as the test wants."""

    def __init__(self) -> None:
        self.is_asked, self.may_go_on = threading.Event(), threading.Event()

    def collect(self) -> Iterator[Metric]:
        """Return nothing, after a while."""
        self.is_asked.set()
        self.may_go_on.wait(20)
        yield from ()


@contextmanager
def slow_endpoint(
    page: SlowPage, max_connections: int = MAX_CONNECTIONS
) -> Iterator[HttpEndpoint]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(page)
    app = make_app(registry, lambda: None, lambda: None)
    endpoint = HttpEndpoint("127.0.0.1", 0, app, max_connections=max_connections)
    endpoint.start()
    try:
        yield endpoint
    finally:
        page.may_go_on.set()
        endpoint.stop()


def test_health_does_not_wait_for_a_page_that_takes_time() -> None:
    page = SlowPage()
    page.may_go_on.set()
    with slow_endpoint(page) as endpoint, ThreadPoolExecutor(1) as pool:
        page.may_go_on.clear()
        page.is_asked.clear()
        url = f"http://127.0.0.1:{endpoint.port}/metrics"
        scrape = pool.submit(read_page, url)
        assert page.is_asked.wait(20)

        assert get(endpoint, "/health/live")[0] == 200

        assert not scrape.done()
        page.may_go_on.set()
        scrape.result(20)


def test_the_silent_give_way_before_those_that_have_asked() -> None:
    page = SlowPage()
    page.may_go_on.set()
    with slow_endpoint(page, 5) as endpoint, ThreadPoolExecutor(1) as pool:
        page.may_go_on.clear()
        page.is_asked.clear()
        scrape = pool.submit(read_page, f"http://127.0.0.1:{endpoint.port}/metrics")
        assert page.is_asked.wait(20)
        with silent_connections(endpoint, 20):
            assert get(endpoint, "/health/live")[0] == 200
            page.may_go_on.set()

            scrape.result(20)


def test_many_at_once_are_all_answered(endpoint: HttpEndpoint) -> None:
    """They exceed a backlog of 5, but not the limit of connections."""
    url = f"http://127.0.0.1:{endpoint.port}/metrics"
    with ThreadPoolExecutor(50) as pool:
        pages = list(pool.map(read_page, [url] * 300))

    assert all("answer 42.0" in page for page in pages)


def test_a_page_that_fails_ends_no_other() -> None:
    def fail() -> str | None:
        raise RuntimeError("bug")

    endpoint = HttpEndpoint(
        "127.0.0.1", 0, make_app(CollectorRegistry(), fail, lambda: None)
    )
    endpoint.start()
    try:
        assert get(endpoint, "/health/ready")[0] == 500
        assert get(endpoint, "/health/live")[0] == 200
    finally:
        endpoint.stop()


def test_an_address_that_is_none_names_its_flag() -> None:
    app = make_app(CollectorRegistry(), lambda: None, lambda: None)
    with pytest.raises(StartupError, match="choose another with --host"):
        HttpEndpoint("no.such.host.invalid", 0, app)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartupError, match="choose another with --http-port"):
            HttpEndpoint("127.0.0.1", port, app)


def test_it_stops_while_clients_are_there(endpoint: HttpEndpoint) -> None:
    with silent_connections(endpoint, 10):
        stopping = threading.Thread(target=endpoint.stop)
        stopping.start()
        stopping.join(20)

        assert not stopping.is_alive()


@pytest.mark.parametrize(
    ("head", "n_read", "is_sending"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", 5, False),
        (b"POST / HTTP/1.1\r\ncontent-length:5 \r\n\r\n", 4, True),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 5, True),
        (b"POST / HTTP/1.1\r\nX-Content-Length: 5\r\n\r\n", 5, True),
        (b"GET / HTTP/1.1\r\n\r\n", 0, False),
    ],
)
def test_only_a_client_that_may_be_sending_is_heard_out(
    head: bytes, n_read: int, is_sending: bool
) -> None:
    """With TLS, each refusal of a body that had been read took two seconds."""
    assert may_be_sending(head, b"HTTP/1.1 400 Bad", n_read) is is_sending
    assert not may_be_sending(head, b"HTTP/1.1 200 OK", n_read)


def test_a_stop_waits_for_requests_that_have_begun() -> None:
    page = SlowPage()
    page.may_go_on.set()
    with slow_endpoint(page) as endpoint, ThreadPoolExecutor(2) as pool:
        page.may_go_on.clear()
        page.is_asked.clear()
        scrape = pool.submit(read_page, f"http://127.0.0.1:{endpoint.port}/metrics")
        assert page.is_asked.wait(20)

        stop = pool.submit(endpoint.stop)
        with suppress(TimeoutError):
            stop.result(0.1)
        page.may_go_on.set()

        assert scrape.result(20) == ""
        stop.result(20)


class LargeReplies:
    """Answers each request with more than a socket takes at once."""

    seconds = 30.0
    reply = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(16 * 1024 * 1024)

    def takes(self, path: str) -> bool:
        return True

    async def answer(self, *request: object) -> bytes:
        return self.reply


def test_clients_that_take_no_reply_give_way() -> None:
    """Each reply that nobody took stayed in memory for half a minute."""
    app = make_app(CollectorRegistry(), lambda: None, lambda: None)
    size = len(LargeReplies.reply)
    desks = (LargeReplies(),)
    endpoint = HttpEndpoint("127.0.0.1", 0, app, desks=desks, max_unsent_bytes=2 * size)
    endpoint.start()
    received = []
    with ExitStack() as stack:
        stack.callback(endpoint.stop)
        clients = [stack.enter_context(dial(endpoint)) for _ in range(3)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert client.recv(1)
        for client in clients:
            received.append(1 + count_bytes(client))

    assert received[0] < size
    assert received[1:] == [size, size]


def count_bytes(client: socket.socket) -> int:
    """Return how many bytes come until the other end closes or resets the connection."""
    count = 0
    with suppress(ConnectionError):
        while part := client.recv(1024 * 1024):
            count += len(part)
    return count


def test_a_stop_leaves_no_connection_open() -> None:
    """Connections come in while the endpoint stops, at each moment of it."""
    left_open: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, left_open.append
    try:
        with warnings.catch_warnings():
            # What is left open is a warning when it is freed, and the hook gets each as an error.
            warnings.simplefilter("error", ResourceWarning)
            for number in range(40):
                _stop_while_clients_dial(seconds=0.002 * (number % 8))
            gc.collect()
    finally:
        sys.unraisablehook = hook

    assert left_open == []


def _stop_while_clients_dial(seconds: float) -> None:
    app = make_app(CollectorRegistry(), lambda: None, lambda: None)
    endpoint = HttpEndpoint("127.0.0.1", 0, app)
    endpoint.start()

    def dial_many() -> None:
        for _ in range(20):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", endpoint.port), 5).close()

    threads = [threading.Thread(target=dial_many) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)  # the moment of the stop is the subject
    endpoint.stop()
    for thread in threads:
        thread.join()
