"""The trace that a call belongs to, as W3C Trace Context writes it into the call's metadata."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_SAMPLED = 0x01
# Version, trace, parent and flags. A newer version may have more after a further dash.
_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# What W3C asks services to pass on at least; more is dropped as a whole.
_MAX_STATE_CHARACTERS = 512
_STATE = re.compile(r"[ -~\t]*").fullmatch


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The place of a call in a trace.

    Parameters
    ----------
    trace_id : str
        Identifier of the trace, 32 lower-case hexadecimal digits.
    parent_id : str
        Identifier of the caller's span, 16 such digits; empty if the trace begins here.
    is_sampled : bool
        Whether the spans of the trace are kept.
    state : str
        The `tracestate` of the call, at most 512 characters.
    """

    trace_id: str
    parent_id: str = ""
    is_sampled: bool = True
    state: str = ""


def find_context(metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
    """Return the trace that the caller names, None if it names none or the form is wrong.

    Parameters
    ----------
    metadata : iterable of pairs
        Metadata of the call.

    Returns
    -------
    TraceContext or None
        The context; None also if there are several `traceparent`, as W3C asks.
    """
    pairs = list(metadata)
    parents = [value for key, value in pairs if key == TRACEPARENT]
    if len(parents) != 1 or not isinstance(parents[0], str):
        return None
    found = _FORM.fullmatch(parents[0])
    if found is None:
        return None
    version, trace_id, parent_id, flags, rest = found.groups()
    if (
        version == "ff"
        or (version == "00" and rest)
        or not _are_set(trace_id, parent_id)
    ):
        return None
    is_sampled = bool(int(flags, 16) & _SAMPLED)
    return TraceContext(trace_id, parent_id, is_sampled, _find_state(pairs))


def _are_set(*identifiers: str) -> bool:
    return all(identifier.strip("0") for identifier in identifiers)


def _find_state(pairs: Iterable[tuple[str, str | bytes]]) -> str:
    state = ",".join(str(value) for key, value in pairs if key == TRACESTATE and value)
    is_valid = len(state) <= _MAX_STATE_CHARACTERS and _STATE(state)
    return state if is_valid else ""
