"""What the HTTP port tells of a request, and who may answer those that have a body."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Connection:
    """What a connection tells of its client.

    Parameters
    ----------
    peer : str
        Kind of address, address and port, as gRPC writes them.
    names : tuple of (str, str)
        Kinds and names of the client's verified certificate, such as ("DNS", "localhost").
    """

    peer: str
    names: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, writer: asyncio.StreamWriter) -> "Connection":
        """Return the connection that `writer` writes to."""
        certificate = writer.get_extra_info("peercert") or {}
        names = tuple(certificate.get("subjectAltName", ()))
        return cls(_name_peer(writer.get_extra_info("peername")), names)


def _name_peer(address: Any) -> str:
    match address:
        case (str(host), int(port)):
            return f"ipv4:{host}:{port}"
        case (str(host), int(port), *_):
            return f"ipv6:[{host}]:{port}"
    return f"unix:{address}"


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request.

    Parameters
    ----------
    method : str
        Method, such as "POST".
    path : str
        Path, as it came: nothing is decoded.
    query : str
        What follows the question mark.
    headers : mapping of str to str
        Value by lower-case name.
    connection : Connection
        The client.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    connection: Connection


class Body(Protocol):
    """What a client sends after the head."""

    async def read(self, n_bytes: int, /) -> bytes:
        """Return up to `n_bytes` bytes, none at the end."""
        ...


class HttpDesk(Protocol):
    """Answers requests that the pages of the HTTP port do not, and reads their bodies itself."""

    @property
    def seconds(self) -> float:
        """Time of one client in total."""
        ...

    def takes(self, path: str) -> bool:
        """Return whether the desk answers requests for a path."""
        ...

    async def answer(
        self, head: Head, body: Body, writer: asyncio.StreamWriter
    ) -> bytes:
        """Return the reply as bytes of HTTP/1; it never raises for what a client sends."""
        ...
