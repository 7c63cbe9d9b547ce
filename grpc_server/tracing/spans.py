"""What is told of one trace: spans, with the times at which they began and ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

Attribute: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work.

    Parameters
    ----------
    name : str
        What was done, such as "decode".
    begin_ns, end_ns : int
        Times in nanoseconds since the epoch.
    attributes : mapping of str to str, int, float or bool
        Facts by name.
    error : str
        Why it failed; empty if it did not.
    children : tuple of Span
        Pieces of this one.
    """

    name: str
    begin_ns: int
    end_ns: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    error: str = ""
    children: "tuple[Span, ...]" = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """One span of this server with its children, and its place in a trace.

    Parameters
    ----------
    trace_id : str
        32 lower-case hexadecimal digits.
    parent_id : str
        The caller's span, 16 such digits; empty if the trace begins here.
    state : str
        The caller's `tracestate`.
    is_call : bool
        Whether the span is a call of a caller.
    root : Span
        The span.
    """

    trace_id: str
    parent_id: str
    state: str
    is_call: bool
    root: Span


class Record(Protocol):
    """What a thread that answers calls hands over: the trace is made of it elsewhere."""

    def to_trace(self) -> Trace:
        """Return the trace."""
        ...
