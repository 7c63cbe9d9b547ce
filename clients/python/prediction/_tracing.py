"""The caller's trace, which goes to the server with each call (W3C Trace Context)."""

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

TraceContext: TypeAlias = Callable[[], Mapping[str, str]]

_NAMES = ("traceparent", "tracestate")
# gRPC refuses other characters in metadata.
_VALID = re.compile(r"[ -~]{1,512}")


def opentelemetry_context() -> dict[str, str]:
    """Return the `traceparent` and `tracestate` of OpenTelemetry's current span.

    Give it to a client: ``PredictionClient(target, trace_context=opentelemetry_context)``.

    Returns
    -------
    dict of str to str
        Empty without a span.

    Raises
    ------
    ModuleNotFoundError
        If the package opentelemetry-api is not installed; the extra ``tracing`` brings it.
    """
    from opentelemetry.trace.propagation.tracecontext import (
        TraceContextTextMapPropagator,
    )

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


def read_context(trace_context: TraceContext) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call.

    Parameters
    ----------
    trace_context : callable
        Returns `traceparent` and `tracestate` by name; other names are left out.

    Returns
    -------
    tuple of (str, str)
        Names and values.

    Raises
    ------
    ValueError
        If a value is not 1 to 512 printable ASCII characters.
    """
    found = trace_context()
    pairs = tuple((name, found[name]) for name in _NAMES if found.get(name))
    for name, value in pairs:
        if not _VALID.fullmatch(value):
            raise ValueError(
                f"{name} is {value[:100]!r}; it must be 1 to 512 printable ASCII characters"
            )
    return pairs
