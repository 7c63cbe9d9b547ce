"""Calls that this process makes to itself for clients of its HTTP port, and whose they are."""

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from secrets import compare_digest
from typing import Any

from grpc_server.rpc.calls import Call

_KEY = "x-gateway-key"
_CLIENT = "x-gateway-client-bin"


@dataclass(frozen=True, slots=True)
class Client:
    """The client of a forwarded call.

    Parameters
    ----------
    peer : str
        Address and port.
    proofs : tuple of str
        Names in its verified certificate, as ``dns:`` or ``uri:`` names.
    """

    peer: str
    proofs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Credentials:
    """The credentials of a forwarded call: its own token, and the client's connection."""

    call: Call
    client: Client

    def authorizations(self) -> list[str]:
        """Return the values of the call's authorization headers."""
        return self.call.authorizations()

    def identities(self) -> Iterable[str]:
        """Return the names of the client's certificate, as proofs."""
        return self.client.proofs

    def connection(self) -> bytes:
        """Return the client's address and port."""
        return self.client.peer.encode()


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """Proves that a call on the process's own socket comes from its own gateway.

    Whoever shares the machine's network can find that socket.
    """

    _secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def label(self, client: Client) -> list[tuple[str, str | bytes]]:
        """Return the metadata that a forwarded call needs."""
        text = json.dumps([client.peer, client.proofs])
        return [(_KEY, self._secret), (_CLIENT, text.encode())]

    def read(self, call: Call) -> _Credentials | None:
        """Return the credentials of a forwarded call, None if the call is not forwarded."""
        found: dict[str, Any] = dict(call.metadata)
        # As bytes: of texts, it takes none beyond ASCII.
        stated = str(found.get(_KEY, "")).encode(errors="replace")
        if not compare_digest(stated, self._secret.encode()):
            return None
        peer, proofs = json.loads(found[_CLIENT])
        return _Credentials(call, Client(peer, tuple(proofs)))

    def find_peer(self, call: Call) -> str:
        """Return the address and port of a call's client, also of one of the HTTP port."""
        peer = call.connection()
        forwarded = self.read(call) if peer.startswith(b"unix") else None
        found = peer if forwarded is None else forwarded.connection()
        return found.decode("utf-8", "replace")
