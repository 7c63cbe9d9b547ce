"""Converts the status of a failed call to an exception.

Knows how google.rpc error details travel. A status without them, or with broken ones, still gives
an exception.
"""

import re
from collections.abc import Iterable
from typing import TypeVar, cast

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status

from prediction._errors import (
    DeadlineExceededError,
    FieldViolation,
    InvalidInstanceError,
    ModelUnavailableError,
    OverloadedError,
    PredictionError,
    ServerError,
    UnavailableError,
)

# Metadata that holds google.rpc.Status: https://grpc.io/docs/guides/error/#richer-error-model
_DETAILS_KEY = "grpc-status-details-bin"
_MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
# gRPC reports a message or header beyond a limit with the code of overload and no details.
_SIZE_LIMIT = re.compile(r"larger than max|exceeds (soft|hard) limit")

_CLASS_BY_CODE: dict[grpc.StatusCode, type[PredictionError]] = {
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.INTERNAL: ServerError,
    grpc.StatusCode.UNKNOWN: ServerError,
    grpc.StatusCode.DATA_LOSS: ServerError,
    grpc.StatusCode.UNIMPLEMENTED: ServerError,
}

_MessageT = TypeVar("_MessageT", bound=Message)
_ResponseT = TypeVar("_ResponseT")


def check_answer(response: _ResponseT) -> _ResponseT:
    """Return the answer of a call that ended with OK.

    Raises
    ------
    ServerError
        If there is none. grpcio gives None if no message came; grpc.aio also if it is broken.
    """
    if response is None:
        raise ServerError(
            grpc.StatusCode.INTERNAL,
            "the server answered OK without a readable message",
        )
    return response


def to_exception(error: grpc.RpcError) -> PredictionError:
    """Return the exception for a failed unary call."""
    # A stub raises an error that is also a grpc.Call, which its declared type does not say.
    call = cast(grpc.Call, error)
    details = _details(call.trailing_metadata() or ())
    exception = _make_exception(call.code(), call.details() or "", details)
    info = _find(ErrorInfo, details)
    if info is not None:
        exception.reason, exception.metadata = info.reason, dict(info.metadata)
    request = _find(RequestInfo, details)
    if request is not None:
        exception.request_id = request.request_id
    return exception


def _make_exception(
    code: grpc.StatusCode, message: str, details: tuple[Any, ...]
) -> PredictionError:
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInstanceError(code, message, _violations(details))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return _exhausted(code, message, details)
    if code is grpc.StatusCode.UNAVAILABLE:
        return _unavailable(code, message, details)
    return _CLASS_BY_CODE.get(code, PredictionError)(code, message)


def _exhausted(
    code: grpc.StatusCode, message: str, details: Iterable[Any]
) -> PredictionError:
    retry = _find(RetryInfo, details)
    if retry is None and _SIZE_LIMIT.search(message):
        return PredictionError(code, message)
    return OverloadedError(code, message, None if retry is None else _seconds(retry))


def _unavailable(
    code: grpc.StatusCode, message: str, details: Iterable[Any]
) -> UnavailableError:
    info = _find(ErrorInfo, details)
    if info is not None and info.reason == _MODEL_UNAVAILABLE:
        return ModelUnavailableError(code, message)
    return UnavailableError(code, _explain_tls(message))


def _explain_tls(message: str) -> str:
    """Return what a failed handshake means, in one sentence; other messages as they are."""
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return (
            "the server's certificate is not trusted or does not fit its name; give the CA that "
            "issued it"
        )
    if "WRONG_VERSION_NUMBER" in message:
        return "the server speaks plain text on this port; connect without TLS"
    if "CERTIFICATE_REQUIRED" in message:
        return "the server wants a client's certificate; give a certificate and its key"
    return message


def _violations(details: Iterable[Any]) -> tuple[FieldViolation, ...]:
    request = _find(BadRequest, details)
    if request is None:
        return ()
    return tuple(
        FieldViolation(violation.field, violation.description)
        for violation in request.field_violations
    )


def _seconds(retry: RetryInfo) -> float:
    delay = retry.retry_delay
    return max(0.0, float(delay.seconds) + float(delay.nanos) / 1e9)


def _details(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[Any, ...]:
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return tuple(Status.FromString(value).details)
            except DecodeError:
                return ()
    return ()


def _find(kind: type[_MessageT], details: Iterable[Any]) -> _MessageT | None:
    """Return the detail of a kind, or None if there is no readable one."""
    for detail in details:
        message = kind()
        try:
            if detail.Unpack(message):
                return message
        except DecodeError:
            return None
    return None
