"""The wire between callers and servers, for tests of either side.

Raw calls and connections, encoded fields, the details of errors, and the counters of calls.
"""

import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Protocol, TypeVar

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from support import read_page

SERVICE = "/prediction.v1.PredictionService/"
"""Start of the path of each method."""

_SOCKET_SECONDS = 20.0

_MessageT = TypeVar("_MessageT", bound=Message)


class Listener(Protocol):
    """Anything that listens on a port of the loopback address."""

    @property
    def port(self) -> int:
        """Return the port."""


class Server(Protocol):
    """A server with an HTTP port."""

    @property
    def http_port(self) -> int:
        """Return the port of /metrics."""


def failure(call: Callable[[], object]) -> Any:
    """Return the error of a call that fails, which is a grpc.RpcError and a grpc.Call at once."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def status_of_error(error: Any) -> Status:
    """Return the google.rpc.Status that a failed call carries."""
    status = rpc_status.from_call(error)
    assert isinstance(status, Status), "the call carries no status with details"
    return status


def detail(status: Status, position: int, kind: type[_MessageT]) -> _MessageT:
    """Return the detail at a position, which must be of that kind."""
    message = kind()
    assert status.details[position].Unpack(message), status.details[position].type_url
    return message


def error_info(status: Status) -> ErrorInfo:
    """Return the ErrorInfo, which is the first detail of every error."""
    return detail(status, 0, ErrorInfo)


def reason(error: Any) -> str:
    """Return the machine-readable reason of an error."""
    return str(error_info(status_of_error(error)).reason)


def field_violations(status: Status) -> list[tuple[str, str]]:
    """Return field and description of each violation; BadRequest is the second detail."""
    request = detail(status, 1, BadRequest)
    return [(v.field, v.description) for v in request.field_violations]


def violations(call: Callable[[], object]) -> list[tuple[str, str]]:
    """Return field and description of each violation of a call that fails with them."""
    error = failure(call)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert reason(error) == "INVALID_INSTANCE"
    return field_violations(status_of_error(error))


def retry_seconds(error: Any) -> float:
    """Return when to try again; RetryInfo is the second detail."""
    retry = detail(status_of_error(error), 1, RetryInfo)
    return float(retry.retry_delay.ToTimedelta().total_seconds())


def bad_request(*violations: tuple[str, str]) -> BadRequest:
    """Return the detail with these fields and descriptions."""
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=field, description=description)
            for field, description in violations
        ]
    )


@contextmanager
def channel_to(server: Listener, *options: Any) -> Iterator[grpc.Channel]:
    """Return a channel with a connection of its own."""
    own = ("grpc.use_local_subchannel_pool", 1)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", [own, *options]) as channel:
        yield channel


def raw_method(
    channel: grpc.Channel, name: str
) -> "grpc.UnaryUnaryMultiCallable[bytes, bytes]":
    """Return a method of PredictionService that takes and returns bytes."""
    return channel.unary_unary(SERVICE + name)


@contextmanager
def silent_calls(channel: grpc.Channel, path: str, count: int) -> Iterator[list[Any]]:
    """Make calls that send their headers and nothing more."""
    is_over = threading.Event()

    def say_nothing() -> Iterator[bytes]:
        is_over.wait(60)
        yield from ()

    method: Any = channel.stream_stream(path)
    made = [method(say_nothing()) for _ in range(count)]
    try:
        yield made
    finally:
        for call in made:
            call.cancel()
        is_over.set()


def read_metrics(server: Server) -> str:
    """Return the page /metrics of a server."""
    return read_page(f"http://127.0.0.1:{server.http_port}/metrics")


def samples(page: str, name: str, **labels: str) -> list[Sample]:
    """Return the samples of a name that have at least these labels."""
    return [
        sample
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def count_handled(page: str, method: str) -> dict[str, float]:
    """Return how many calls of a method ended with which status, without zeros."""
    found = samples(page, "grpc_server_handled_total", grpc_method=method)
    return {s.labels["grpc_code"]: s.value for s in found if s.value}


def varint(value: int) -> bytes:
    """Return a number in protobuf's encoding."""
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field in protobuf's encoding."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def dial(server: Listener) -> socket.socket:
    """Return a connection on which nothing has been sent."""
    return socket.create_connection(("127.0.0.1", server.port), _SOCKET_SECONDS)


def is_free(port: int) -> bool:
    """Tell whether nothing listens on a port of the loopback address."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@contextmanager
def silent_connections(server: Listener, count: int) -> Iterator[None]:
    """Hold connections open on which nothing is sent."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(dial(server))
        yield


def exchange(server: Listener, request: bytes) -> bytes:
    """Send bytes and return all that comes back."""
    with dial(server) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


class RawConnection:
    """An HTTP/2 client with a receive window of its own choice."""

    def __init__(self, server: Listener, window_bytes: int) -> None:
        self._socket = dial(server)
        window = struct.pack("!HI", 4, window_bytes)  # SETTINGS_INITIAL_WINDOW_SIZE
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        self._socket.sendall(preface + _frame(4, 0, 0, window))

    def call(self, stream: int, path: str, message: bytes) -> None:
        """Send one call."""
        names = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "x",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        head = b"".join(map(_literal, names, names.values()))
        body = b"\0" + struct.pack("!I", len(message)) + message
        self._socket.sendall(_frame(1, 4, stream, head) + _frame(0, 1, stream, body))

    def ping(self) -> None:
        """Send a PING frame."""
        with suppress(ConnectionError):  # the server may have gone already
            self._socket.sendall(_frame(6, 0, 0, bytes(8)))

    def is_turned_away(self) -> bool:
        """Tell whether the server ends this connection because of its pings."""
        self._socket.settimeout(0.5)
        received = b""
        with suppress(OSError):
            while part := self._socket.recv(65_536):
                received += part
        return b"too_many_pings" in received

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
    length = struct.pack("!I", len(data))[1:]
    return length + bytes([kind, flags]) + struct.pack("!I", stream) + data


def _literal(name: str, value: str) -> bytes:
    return b"".join(
        [b"\0", bytes([len(name)]), name.encode()]
        + [bytes([len(value)]), value.encode()]
    )


def read_page_with_token(
    port: int, path: str, token: str | None = None
) -> tuple[int, str]:
    """Return status and text of a page of the HTTP port."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
