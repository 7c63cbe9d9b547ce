"""Desks that know their callers: they refuse a call before its message is read."""

from collections import Counter
from collections.abc import Callable

from grpc_server.access import Access, Credentials
from grpc_server.callers import UNKNOWN_CALLER, Caller
from grpc_server.errors import (
    CallError,
    NotAllowed,
    ShareExhausted,
    Unauthenticated,
    UnknownMethod,
)
from grpc_server.rpc.calls import Call, Desk
from grpc_server.rpc.forwarded import GatewayKey


class CallerShares:
    """Limits the open calls of each caller at one desk; for the serving thread only.

    Parameters
    ----------
    max_calls : int
        Most open calls of one caller.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._n_by_name: Counter[str] = Counter()

    def take(self, name: str) -> None:
        """Count a call that begins.

        Raises
        ------
        ShareExhausted
            If the caller has its share of calls open.
        """
        if self._n_by_name[name] >= self._max_calls:
            raise ShareExhausted(
                f"caller {name!r} has {self._max_calls} calls open, which is its share; try again "
                "later",
                caller=name,
                max_calls=self._max_calls,
                flag="--max-caller-share",
            )
        self._n_by_name[name] += 1

    def release(self, name: str) -> None:
        """Count a call that is over."""
        self._n_by_name[name] -= 1


class Guard:
    """Checks the callers of one server.

    Parameters
    ----------
    access : Access
        Who may call.
    count_call : callable
        Counts a call that ended, by caller and by name of its status code.
    gateway_key : GatewayKey
        Proves which calls come from clients of the HTTP port.
    """

    def __init__(
        self,
        access: Access,
        count_call: Callable[[str, str], None],
        gateway_key: GatewayKey,
    ) -> None:
        self.access = access
        self.count_call = count_call
        self._gateway_key = gateway_key

    def check(self, call: Call, scope: str) -> Caller | None:
        """Return the caller, None if no list names callers.

        Raises
        ------
        CallError
            If the caller may not make the call.
        """
        # The socket of this process's own pulse has no TLS. Whoever shares the machine's network
        # could find it, and come in without a certificate.
        credentials: Credentials | None = call
        if call.connection().startswith(b"unix"):
            credentials = self._gateway_key.read(call)
        if credentials is None:
            raise NotAllowed("this socket answers the server's own calls only")
        return None if self.access.is_open else self.access.check(credentials, scope)


class GuardedDesk:
    """Lets only allowed callers come to a desk.

    Parameters
    ----------
    desk : Desk
        Computes the calls.
    guard : Guard
        Checks the callers.
    scope : str
        Scope of the method.
    shares : CallerShares
        Limits the calls of each caller; desks with common room have common shares.
    flush : callable
        Called after a refusal: the metrics of a lane that collects them.
    """

    def __init__(
        self,
        desk: Desk,
        guard: Guard,
        scope: str,
        shares: CallerShares,
        flush: Callable[[], None] = lambda: None,
    ) -> None:
        self._desk = desk
        self._guard = guard
        self._scope = scope
        self._shares = shares
        self._flush = flush

    def admit(self, call: Call) -> bool:
        """Return whether the caller is allowed and there is room; refuse the call otherwise."""
        try:
            call.caller = self._guard.check(call, self._scope)
            if call.caller is not None:
                self._shares.take(call.caller.name)
        except CallError as error:
            call.fail(error)
            call.send()
            return False
        call.is_admitted = True
        return self._desk.admit(call)

    def take(self, call: Call) -> None:
        """Compute the reply, unless the caller has been struck off the list meanwhile."""
        if call.caller is None or self._guard.access.still_allows(call.caller):
            self._desk.take(call)
            return
        call.fail(Unauthenticated("the token or certificate has been revoked"))
        call.send()

    def forget(self, call: Call) -> None:
        """Release the room of a call, and count it for its caller."""
        name = UNKNOWN_CALLER if call.caller is None else call.caller.name
        self._guard.count_call(name, call.seen_code())
        if not call.is_admitted:
            self._flush()
            return
        if call.caller is not None:
            self._shares.release(call.caller.name)
        self._desk.forget(call)


class ClosedDesk:
    """Answers like a server without the method."""

    def admit(self, call: Call) -> bool:
        """Refuse the call."""
        call.fail(UnknownMethod("the server has no such method"))
        call.send()
        return False

    def take(self, call: Call) -> None:
        """Do nothing: no call is admitted."""

    def forget(self, call: Call) -> None:
        """Do nothing: no call is counted."""
