"""Takes answered calls off the threads that answer them, in about a microsecond each."""

from collections.abc import Iterable
from time import time

from grpc_server.observe.backlog import Backlog
from grpc_server.request_id import N_POSITIONS, find_position


class Outlet:
    """Where the sampled records of one observer go.

    Parameters
    ----------
    backlog : Backlog
        Holds them.
    share : float
        Share of the calls to take, [0, 1].
    """

    __slots__ = ("bound", "put")

    def __init__(self, backlog: Backlog, share: float) -> None:
        self.put = backlog.put
        # Calls whose position is below are taken.
        self.bound = round(share * N_POSITIONS)


class Tap:
    """Takes the answered calls of one method; for any thread.

    Parameters
    ----------
    kind : int
        PREDICT, BATCH or CHUNK.
    outlets : iterable of Outlet
        Where sampled calls go, one for each observer.
    tells_id : bool
        Whether callers are told the identifier of their call, which costs 4 us.

    Attributes
    ----------
    needs_id : bool
        Whether calls need an identifier at all.
    """

    __slots__ = ("_kind", "_outlets", "_samples", "needs_id", "tells_id")

    def __init__(self, kind: int, outlets: Iterable[Outlet], tells_id: bool) -> None:
        self._kind = kind
        self._outlets = tuple(outlets)
        self._samples = any(outlet.bound < N_POSITIONS for outlet in self._outlets)
        self.tells_id = tells_id
        self.needs_id = tells_id or self._samples

    def put(
        self,
        request_id: str,
        caller: str,
        request: bytes,
        reply: bytes,
        first_row: int = 0,
    ) -> None:
        """Take one answered call.

        Parameters
        ----------
        request_id : str
            Identifier of the call; empty if none is needed.
        caller : str
            Name of the caller; empty if it has none.
        request, reply : bytes
            Encoded messages.
        first_row : int
            Number of the first row within the call.
        """
        position = find_position(request_id) if self._samples else 0
        record = (self._kind, time(), first_row, request_id, caller, request, reply)
        for outlet in self._outlets:
            if position < outlet.bound:
                outlet.put(record)
