"""Posts requests to a collector over HTTP, whatever it answers and however long it takes."""

import socket
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
)
from urllib.parse import SplitResult, urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)

# Time for one request in total, and for each step of it.
_TOTAL_SECONDS, _STEP_SECONDS = 10.0, 5.0
_MAX_REPLY_BYTES = 64 * 1024
_MAX_REASON_CHARACTERS = 200
# What OTLP asks to send again.
_AGAIN = (429, 502, 503, 504)
_PROTOBUF = "application/x-protobuf"


class Outcome(Enum):
    """What became of a request."""

    TAKEN = auto()
    REFUSED = auto()  # sending it again is of no use
    AGAIN = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """What the collector made of a request.

    Parameters
    ----------
    outcome : Outcome
        Whether it was taken.
    reason : str
        Why not, or what the collector warns of; empty if there is nothing to say.
    n_refused_spans : int
        Spans of a taken request that the collector did not take, 0 or more.
    wait_seconds : float
        Time after which to send again, as the collector asks; 0 if it does not say.
    """

    outcome: Outcome
    reason: str = ""
    n_refused_spans: int = 0
    wait_seconds: float = 0.0


class Collector:
    """Sends requests to a collector, one connection each.

    Parameters
    ----------
    url : str
        Address of the collector's traces, such as "http://localhost:4318/v1/traces".
    headers : mapping of str to str or None
        What the collector asks for besides, such as a token.
    total_seconds : float
        Longest time of one request, > 0; looking a name up is not included.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        total_seconds: float = _TOTAL_SECONDS,
    ) -> None:
        self._url: SplitResult = urlsplit(url)
        own = {"Content-Type": _PROTOBUF, "Connection": "close"}
        self._headers = {**(headers or {}), **own}
        self._total_seconds = total_seconds

    def send(self, content: bytes) -> Reply:
        """Send an encoded request; never raises.

        Parameters
        ----------
        content : bytes
            An encoded `ExportTraceServiceRequest`.

        Returns
        -------
        Reply
            What became of it.
        """
        try:
            connection = self._connect()
        except (OSError, ValueError) as error:
            return Reply(Outcome.AGAIN, _name(error))
        # A collector that sends its reply byte by byte would keep the thread for hours.
        is_late = threading.Event()
        alarm = threading.Timer(self._total_seconds, _cut, (connection.sock, is_late))
        alarm.daemon = True
        try:
            alarm.start()
            reply = self._exchange(connection, content)
        except RuntimeError as error:  # no thread can be started
            reply = Reply(Outcome.AGAIN, _name(error))
        finally:
            alarm.cancel()
            connection.close()
        # What was read of a reply that was cut off may look like a whole one.
        return (
            Reply(Outcome.AGAIN, self._describe_delay()) if is_late.is_set() else reply
        )

    def _exchange(self, connection: HTTPConnection, content: bytes) -> Reply:
        try:
            connection.request("POST", self._url.path, content, self._headers)
            return _read(connection.getresponse())
        except (OSError, HTTPException, ValueError) as error:
            return Reply(Outcome.AGAIN, _name(error))

    def _describe_delay(self) -> str:
        return f"no whole reply within {self._total_seconds:g} s"

    def _connect(self) -> HTTPConnection:
        host = self._url.hostname or ""
        if self._url.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                host,
                self._url.port,
                timeout=_STEP_SECONDS,
                context=ssl.create_default_context(),
            )
        else:
            connection = HTTPConnection(host, self._url.port, timeout=_STEP_SECONDS)
        connection.connect()
        return connection


def _cut(connected: socket.socket, is_late: threading.Event) -> None:
    is_late.set()
    try:
        connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it is closed already


def _read(response: HTTPResponse) -> Reply:
    content = response.read(_MAX_REPLY_BYTES)
    status = response.status
    if status in _AGAIN:
        wait_seconds = _read_wait(response.getheader("Retry-After", ""))
        return Reply(Outcome.AGAIN, f"status {status}", wait_seconds=wait_seconds)
    if not 200 <= status < 300:
        return Reply(Outcome.REFUSED, f"status {status}")
    return _read_content(content, response.getheader("Content-Type", ""))


def _read_content(content: bytes, kind: str) -> Reply:
    """Read a reply of success; a page of something else than a collector is none."""
    if not kind.startswith(_PROTOBUF):
        is_plain = not content or kind.startswith("application/json")
        return Reply(Outcome.TAKEN) if is_plain else _no_collector(kind)
    try:
        success = ExportTraceServiceResponse.FromString(content).partial_success
    except DecodeError:
        return _no_collector(kind)
    n_refused = max(0, success.rejected_spans)
    return Reply(Outcome.TAKEN, _shorten(success.error_message), n_refused)


def _no_collector(kind: str) -> Reply:
    reason = f"the reply of type {_shorten(kind)!r} is not a collector's"
    return Reply(Outcome.REFUSED, reason)


def _read_wait(text: str) -> float:
    """Return the seconds that a reply asks to wait; 0 for dates, which are seldom used."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _name(error: Exception) -> str:
    return _shorten(f"{type(error).__name__}: {error}")


def _shorten(text: str) -> str:
    return text[:_MAX_REASON_CHARACTERS]
