"""The standard health service, grpc.health.v1, without its generated code.

A copy of that code would clash in protobuf's descriptor pool with grpcio-health-checking. None is
needed: `HealthCheckRequest` is one text in field 1 and `HealthCheckResponse` one enum in field 1,
on the wire the same as the well-known types StringValue and Int32Value.
https://github.com/grpc/grpc/blob/master/src/proto/grpc/health/v1/health.proto
"""

from typing import TypeAlias

import grpc
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from prediction._models import HealthStatus

# In quotes: generic in its stubs only.
HealthCheck: TypeAlias = "grpc.UnaryUnaryMultiCallable[StringValue, Int32Value]"

_STATUS_BY_NUMBER = {
    1: HealthStatus.SERVING,
    2: HealthStatus.NOT_SERVING,
    3: HealthStatus.SERVICE_UNKNOWN,
}


def health_check(channel: grpc.Channel) -> HealthCheck:
    """Return the method Check of the health service at the end of `channel`."""
    return channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=Int32Value.FromString,
    )


def to_request(service: str) -> StringValue:
    """Return the request that asks for the health of a service."""
    return StringValue(value=service)


def to_health_status(response: Int32Value) -> HealthStatus:
    """Return the status in a response, UNKNOWN if this client does not know it."""
    return _STATUS_BY_NUMBER.get(response.value, HealthStatus.UNKNOWN)
