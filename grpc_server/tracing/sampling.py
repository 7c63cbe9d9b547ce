"""Which calls are traced: those of sampled traces, and a share of those that begin a trace."""

import re
from collections.abc import Callable, Iterable
from random import getrandbits, random

from grpc_server.tracing.context import TRACEPARENT, TraceContext, find_context

_NOT_SAMPLED = re.compile(
    r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f][02468ace]"
).fullmatch


class Sampler:
    """Decides for each call, as OpenTelemetry's ParentBased(TraceIdRatioBased) does.

    Parameters
    ----------
    share : float
        Share of the calls without a trace of their caller that are traced, [0, 1].
    has_room : callable
        Returns whether one more call may be traced now; it counts the calls that may not.
    """

    def __init__(self, share: float, has_room: Callable[[], bool]) -> None:
        self._share = share
        self._has_room = has_room

    def decide(
        self, metadata: Iterable[tuple[str, str | bytes]]
    ) -> TraceContext | None:
        """Return the context of a call to trace, None for a call that is not traced.

        Parameters
        ----------
        metadata : iterable of pairs
            Metadata of the call, which can be iterated over several times.
        """
        # Kept short: every call passes here while tracing is on.
        parent: str | bytes = ""
        for key, value in metadata:
            if key == TRACEPARENT:
                if parent:
                    return self._begin()  # of several, none counts
                parent = value
        return self._follow(parent, metadata) if parent else self._begin()

    def _follow(
        self, parent: str | bytes, metadata: Iterable[tuple[str, str | bytes]]
    ) -> TraceContext | None:
        # Reading the whole context takes several times as long, and most callers keep few traces.
        if isinstance(parent, str) and _NOT_SAMPLED(parent):
            return None
        context = find_context(metadata)
        if context is None:
            return self._begin()
        return context if context.is_sampled and self._has_room() else None

    def _begin(self) -> TraceContext | None:
        if random() >= self._share or not self._has_room():
            return None
        return TraceContext(make_trace_id())


def make_trace_id() -> str:
    """Return a new identifier of a trace: 32 hexadecimal digits, not all 0."""
    return f"{getrandbits(128) or 1:032x}"
