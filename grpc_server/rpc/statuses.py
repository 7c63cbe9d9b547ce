"""The one table from domain errors to gRPC statuses, with machine-readable details."""

import secrets
from collections.abc import Callable, Mapping

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from grpc_server.errors import (
    BatchTooLarge,
    CallCancelled,
    CallError,
    DeadlineExceeded,
    InvalidInstance,
    MalformedMessage,
    MessageMissing,
    MessageOverdue,
    MessageRefused,
    ModelUnavailable,
    NotAllowed,
    NotSupported,
    Overloaded,
    ServerStops,
    ShareExhausted,
    TooManyAttempts,
    Unauthenticated,
    UnknownMethod,
    UnknownModel,
    UnknownService,
)

ERROR_DOMAIN = "prediction.v1"
# Delay in the RetryInfo of a refused call: longer than a full lane takes to empty.
RETRY_DELAY_SECONDS = 0.1

# Size limits of a status, which travels in headers. Beyond 8 KiB of headers, a caller sees
# RESOURCE_EXHAUSTED instead. The details contain the message as well, and grow by a third there.
_MAX_MESSAGE_BYTES = 1000
_MAX_VIOLATION_BYTES = 3500
_MAX_VALUE_BYTES = 120
# Tags and lengths of one violation, the dots of a cut text, and the count of omitted violations.
_VIOLATION_OVERHEAD_BYTES = 50

# Each reason is a value of prediction.v1.ErrorReason, which documents it.
STATUS_BY_ERROR: Mapping[type[CallError], tuple[grpc.StatusCode, str]] = {
    InvalidInstance: (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INSTANCE"),
    BatchTooLarge: (grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE"),
    ModelUnavailable: (grpc.StatusCode.UNAVAILABLE, "MODEL_UNAVAILABLE"),
    DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    CallCancelled: (grpc.StatusCode.CANCELLED, "CANCELLED"),
    Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    MalformedMessage: (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE"),
    # gRPC itself uses this code for a wrong number of messages.
    MessageMissing: (grpc.StatusCode.UNIMPLEMENTED, "MESSAGE_MISSING"),
    MessageOverdue: (grpc.StatusCode.DEADLINE_EXCEEDED, "MESSAGE_OVERDUE"),
    MessageRefused: (grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_REFUSED"),
    UnknownMethod: (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD"),
    UnknownService: (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SERVICE"),
    ServerStops: (grpc.StatusCode.UNAVAILABLE, "SERVER_STOPS"),
    Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    # Not RESOURCE_EXHAUSTED, which callers take for overload and try again.
    TooManyAttempts: (grpc.StatusCode.UNAUTHENTICATED, "TOO_MANY_ATTEMPTS"),
    NotAllowed: (grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED"),
    ShareExhausted: (grpc.StatusCode.RESOURCE_EXHAUSTED, "CALLER_SHARE_EXHAUSTED"),
}
# Reasons of the domain "inference", where prediction.v1.ErrorReason has no say.
_OF_OPEN_INFERENCE: Mapping[type[CallError], tuple[grpc.StatusCode, str]] = {
    NotSupported: (grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED"),
    UnknownModel: (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL"),
}
INTERNAL_REASON = "INTERNAL"


def to_status(error: CallError, domain: str = ERROR_DOMAIN) -> Status:
    """Return the status of `error`, with its details; `domain` is that of its reason."""
    kind = type(error)
    code, reason = _OF_OPEN_INFERENCE.get(kind) or STATUS_BY_ERROR[kind]
    metadata = {
        name: _cut(value, _MAX_VALUE_BYTES, _count_bytes)
        for name, value in error.metadata.items()
    }
    details: list[Message] = [
        ErrorInfo(reason=reason, domain=domain, metadata=metadata)
    ]
    if isinstance(error, InvalidInstance):
        details.append(_fit_bad_request(error))
    if isinstance(error, (Overloaded, ShareExhausted)):
        retry = RetryInfo()
        retry.retry_delay.FromNanoseconds(int(RETRY_DELAY_SECONDS * 1e9))
        details.append(retry)
    return _status(code, str(error), details)


def name_call(status: Status, request_id: str) -> None:
    """Add the identifier by which people find the call in the server's logs."""
    status.details.add().Pack(RequestInfo(request_id=request_id))


def internal_status(domain: str = ERROR_DOMAIN) -> tuple[Status, str]:
    """Return the status of an unexpected error, and the id that finds its cause in the log.

    The status reveals nothing but the id.
    """
    error_id = secrets.token_hex(8)
    info = ErrorInfo(
        reason=INTERNAL_REASON, domain=domain, metadata={"error_id": error_id}
    )
    message = f"internal error {error_id}; the server's log has the cause under this id"
    return _status(grpc.StatusCode.INTERNAL, message, [info]), error_id


def _bad_request(error: InvalidInstance, n_listed: int) -> BadRequest:
    listed = error.violations[:n_listed]
    request = BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=v.field, description=v.description)
            for v in listed
        ]
    )
    n_more = error.n_more + len(error.violations) - n_listed
    if n_more:
        request.field_violations.add(
            field="*", description=f"{n_more} more fields do not fit"
        )
    return request


def _fit_bad_request(error: InvalidInstance) -> BadRequest:
    """Return the violations that fit: fewer ones rather than shorter ones."""
    n_listed = len(error.violations)
    request = _bad_request(error, n_listed)
    while request.ByteSize() > _MAX_VIOLATION_BYTES and n_listed > 1:
        n_listed -= 1
        request = _bad_request(error, n_listed)
    if request.ByteSize() > _MAX_VIOLATION_BYTES:
        _cut_violation(request.field_violations[0])
    return request


def _cut_violation(violation: BadRequest.FieldViolation) -> None:
    """Cut a single violation: each of its two texts may take half of the room."""
    room = _MAX_VIOLATION_BYTES // 2 - _VIOLATION_OVERHEAD_BYTES
    violation.field = _cut(violation.field, room, _count_bytes)
    violation.description = _cut(violation.description, room, _count_bytes)


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> Status:
    status = Status(
        code=code.value[0],
        message=_cut(message, _MAX_MESSAGE_BYTES, _count_header_bytes),
    )
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _cut(text: str, max_bytes: int, count_bytes: Callable[[str], int]) -> str:
    """Cut a text to `max_bytes`; `count_bytes` returns the bytes of a character."""
    left = max_bytes
    for position, character in enumerate(text):
        left -= count_bytes(character)
        if left < 0:
            return text[:position] + "..."
    return text


def _count_bytes(character: str) -> int:
    return len(character.encode())


def _count_header_bytes(character: str) -> int:
    """Return the bytes of a character in the message's header, where most bytes become three."""
    is_plain = " " <= character <= "~" and character != "%"
    return 1 if is_plain else 3 * _count_bytes(character)
