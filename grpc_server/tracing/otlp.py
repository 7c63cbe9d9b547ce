"""Writes traces in OpenTelemetry's protocol (OTLP)."""

import os
import platform
import socket
from collections.abc import Mapping
from random import getrandbits
from uuid import uuid4

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from grpc_server import __version__
from grpc_server.tracing.spans import Attribute, Span, Trace

_SCOPE = "grpc_server.tracing"
_MAX_CHARACTERS = 1024
# Of the flags of OTLP: whether the parent is another process, and that this is known; sampled.
_IS_REMOTE, _KNOWS_REMOTE, _SAMPLED = 0x200, 0x100, 0x01


def describe_process(service: str) -> dict[str, Attribute]:
    """Return the attributes of this process, by OpenTelemetry's conventions for resources.

    Parameters
    ----------
    service : str
        Name of the service.
    """
    return {
        "service.name": service,
        "service.version": __version__,
        "service.instance.id": str(uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
    }


class OtlpBatch:
    """A request for the collector, which grows trace by trace.

    Parameters
    ----------
    resource : mapping of str to str, int, float or bool
        Attributes of this process.
    """

    def __init__(self, resource: Mapping[str, Attribute]) -> None:
        self._request = ExportTraceServiceRequest()
        spans = self._request.resource_spans.add()
        spans.resource.attributes.extend(_write(resource))
        scope = spans.scope_spans.add()
        scope.scope.name = _SCOPE
        scope.scope.version = str(resource["service.version"])
        self._spans = scope.spans
        self.n_traces = self.n_spans = 0

    def add(self, trace: Trace) -> None:
        """Add the spans of a trace."""
        kind = "SERVER" if trace.is_call else "INTERNAL"
        written = self._add(trace, trace.root, bytes.fromhex(trace.parent_id))
        written.kind = trace_pb2.Span.SpanKind.Value(f"SPAN_KIND_{kind}")
        written.trace_state = trace.state
        written.flags = _SAMPLED | _KNOWS_REMOTE
        if trace.parent_id:
            written.flags |= _IS_REMOTE
        self.n_traces += 1

    def encode(self) -> bytes:
        """Return the request as bytes."""
        return self._request.SerializeToString()

    def _add(self, trace: Trace, span: Span, parent_id: bytes) -> trace_pb2.Span:
        self.n_spans += 1
        written: trace_pb2.Span = self._spans.add(
            trace_id=bytes.fromhex(trace.trace_id),
            span_id=(getrandbits(64) or 1).to_bytes(8, "big"),
            parent_span_id=parent_id,
            flags=_SAMPLED | _KNOWS_REMOTE,
            name=span.name,
            kind=trace_pb2.Span.SpanKind.SPAN_KIND_INTERNAL,
            start_time_unix_nano=span.begin_ns,
            end_time_unix_nano=max(span.begin_ns, span.end_ns),
            attributes=_write(span.attributes),
        )
        if span.error:
            written.status.code = trace_pb2.Status.StatusCode.STATUS_CODE_ERROR
            written.status.message = _clean(span.error)
        for child in span.children:
            self._add(trace, child, written.span_id)
        return written


def _write(attributes: Mapping[str, Attribute]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(v)) for name, v in attributes.items()]


def _value(value: Attribute) -> AnyValue:
    match value:
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case str():
            return AnyValue(string_value=_clean(value))


def _clean(text: str) -> str:
    """Return a text that protobuf accepts and that is not too long."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode()
