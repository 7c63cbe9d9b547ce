"""The standard health service, grpc.health.v1, without its generated code.

A copy of that code would clash with grpcio-health-checking in protobuf's descriptor pool. It is
not needed: `HealthCheckRequest` is one text in field 1, and `HealthCheckResponse` one enum in field
1. On the wire they equal the well-known types StringValue and Int32Value.
https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto
"""

from typing import TypeAlias

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from prediction._models import HealthStatus

# In quotes, because only its type stubs make it generic.
HealthCheck: TypeAlias = "grpc.UnaryUnaryMultiCallable[StringValue, Int32Value]"
AsyncHealthCheck: TypeAlias = (
    "grpc.aio.UnaryUnaryMultiCallable[StringValue, Int32Value]"
)
_CHECK = "/grpc.health.v1.Health/Check"

_STATUS_BY_NUMBER = {
    1: HealthStatus.SERVING,
    2: HealthStatus.NOT_SERVING,
    3: HealthStatus.SERVICE_UNKNOWN,
}


def health_check(channel: grpc.Channel) -> HealthCheck:
    """Return the method Check of the health service that `channel` reaches."""
    return channel.unary_unary(
        _CHECK,
        request_serializer=StringValue.SerializeToString,
        response_deserializer=Int32Value.FromString,
    )


def async_health_check(channel: grpc.aio.Channel) -> AsyncHealthCheck:
    """Return the same method of a channel of an event loop."""
    return channel.unary_unary(
        _CHECK,
        request_serializer=StringValue.SerializeToString,
        response_deserializer=Int32Value.FromString,
    )


def to_request(service: str) -> StringValue:
    """Return the request for the health of a service."""
    return StringValue(value=service)


def to_health_status(response: Int32Value) -> HealthStatus:
    """Return the status in a response, or UNKNOWN if this client does not know it."""
    return _STATUS_BY_NUMBER.get(response.value, HealthStatus.UNKNOWN)
