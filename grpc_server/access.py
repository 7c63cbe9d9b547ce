"""Decides who may call: by a bearer token, or by the names in the caller's certificate.

Knows neither gRPC nor HTTP. Both give it the credentials of a call, and what the call wants.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Protocol

from grpc_server.callers import Caller, CallersFile
from grpc_server.errors import NotAllowed, TooManyAttempts, Unauthenticated

# Wrong tokens of one connection, within a window, after which further ones are refused unread.
MAX_WRONG_TOKENS = 10
WINDOW_SECONDS = 10.0
# Connections that are remembered; each takes 200 bytes.
_MAX_CONNECTIONS = 10_000
_BEARER = "bearer "
_HOW = "send the metadata or header authorization: Bearer TOKEN"


class Credentials(Protocol):
    """What a call brings along."""

    def authorizations(self) -> list[str]:
        """Return the values of the call's authorization headers."""
        ...

    def identities(self) -> Iterable[str]:
        """Return the names of the caller's verified certificate, as proofs."""
        ...

    def connection(self) -> bytes:
        """Return the caller's address and port, which tell its connection."""
        ...


class Attempts:
    """Slows the guessing of tokens down, for each connection by itself.

    A connection may belong to a proxy with many callers. So a token that was right on a connection
    stays welcome there, however many wrong ones others send.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._wrong: dict[bytes, tuple[int, float]] = {}
        self._right: set[tuple[bytes, str]] = set()

    def must_wait(self, connection: bytes, proof: str) -> bool:
        """Return whether a proof is refused unread."""
        if not self._wrong or connection not in self._wrong:
            return False
        with self._lock:
            n_wrong, since = self._wrong.get(connection, (0, 0.0))
            if monotonic() - since > WINDOW_SECONDS:
                self._wrong.pop(connection, None)
                return False
            return n_wrong >= MAX_WRONG_TOKENS and (
                (connection, proof) not in self._right
            )

    def note_wrong(self, connection: bytes) -> None:
        """Count a wrong token."""
        with self._lock:
            n_wrong, since = self._wrong.get(connection, (0, monotonic()))
            if not n_wrong and len(self._wrong) >= _MAX_CONNECTIONS:
                del self._wrong[next(iter(self._wrong))]  # the oldest
            self._wrong[connection] = (n_wrong + 1, since)

    def note_right(self, connection: bytes, proof: str) -> None:
        """Remember that a proof was right on a connection."""
        if (connection, proof) in self._right:
            return
        with self._lock:
            if len(self._right) >= _MAX_CONNECTIONS:
                self._right.clear()  # at worst, a caller waits for a window to end
            self._right.add((connection, proof))


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call.

    Parameters
    ----------
    tokens : CallersFile or None
        Callers by token; None accepts no tokens.
    callers : CallersFile or None
        Callers by the names of certificates; None looks at no certificate.
    attempts : Attempts
        Limits the guessing of tokens.
    """

    tokens: CallersFile | None
    identities: CallersFile | None
    attempts: Attempts

    @property
    def is_open(self) -> bool:
        """Whether anybody may call who reaches the port."""
        return self.tokens is None and self.identities is None

    def check(self, credentials: Credentials, scope: str) -> Caller:
        """Return the caller.

        A token decides if there is one, otherwise the certificate.

        Raises
        ------
        Unauthenticated
            If there are no credentials, or they are wrong.
        TooManyAttempts
            If the connection has sent too many wrong tokens.
        NotAllowed
            If the caller may not do this.
        """
        caller = self._find(credentials)
        if scope not in caller.scopes:
            allowed = ", ".join(sorted(caller.scopes))
            raise NotAllowed(
                f"caller {caller.name!r} may not do this: it needs the scope {scope!r}, and has "
                f"{allowed}",
                caller=caller.name,
                scope=scope,
            )
        return caller

    def still_allows(self, caller: Caller) -> bool:
        """Return False if the caller's line is gone or has changed."""
        files = (self.tokens, self.identities)
        return any(file and file.find(caller.proof) == caller for file in files)

    def _find(self, credentials: Credentials) -> Caller:
        values = credentials.authorizations() if self.tokens is not None else []
        if values:
            return self._find_by_token(values, credentials.connection())
        if self.identities is None:
            raise Unauthenticated(f"the call has no token; {_HOW}")
        for proof in (found := list(credentials.identities())):
            if caller := self.identities.find(proof):
                return caller
        if not found:
            how = f"; or {_HOW}" if self.tokens is not None else ""
            raise Unauthenticated(f"no certificate with a name came{how}")
        raise NotAllowed(
            "no name of the certificate is allowed; its names must be in the server's file"
        )

    def _find_by_token(self, values: list[str], connection: bytes) -> Caller:
        assert self.tokens is not None
        if len(values) > 1:
            raise Unauthenticated(f"{len(values)} authorizations came; send one")
        if not values[0].lower().startswith(_BEARER):
            raise Unauthenticated(f"the authorization is not a bearer token; {_HOW}")
        token = values[0][len(_BEARER) :].strip()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        proof = f"sha256:{digest}"
        if self.attempts.must_wait(connection, proof):
            raise TooManyAttempts(
                f"this connection sent {MAX_WRONG_TOKENS} wrong tokens; wait "
                f"{WINDOW_SECONDS:g} s",
                max_seconds=f"{WINDOW_SECONDS:g}",
            )
        caller = self.tokens.find(proof)
        if caller is None:
            self.attempts.note_wrong(connection)
            raise Unauthenticated("the token is wrong or has been revoked")
        self.attempts.note_right(connection, proof)
        return caller
