"""Requests to the HTTP port, byte by byte where the test asks for it."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wire import Server

JSON_TYPE = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the HTTP port."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def reason(self) -> str:
        """Return the reason of a google.rpc.Status."""
        return str(self.json["details"][0]["reason"])


def send(
    server: Server,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send a request, with a body of JSON unless it is bytes already, and return the reply."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    client = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    try:
        client.request(
            method,
            path,
            None if body is None else content,
            JSON_TYPE | dict(headers or {}),
        )
        reply = client.getresponse()
        text = reply.read().decode()
        return Reply(reply.status, {k.lower(): v for k, v in reply.getheaders()}, text)
    finally:
        client.close()


def post(
    server: Server,
    path: str,
    body: object,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Post a body."""
    return send(server, "POST", path, body, headers)


def exchange(server: Server, *parts: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back."""
    address = ("127.0.0.1", server.http_port)
    with socket.create_connection(address, timeout=30) as client:
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))
