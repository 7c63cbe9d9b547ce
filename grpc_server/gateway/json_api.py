"""The service's methods as JSON over HTTP, by the paths and forms of proto/openapi.yaml."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from math import isfinite
from typing import Any

# The messages that a status may hold, for json_format.
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from grpc_server.errors import MalformedMessage
from grpc_server.gateway.bridge import (
    BATCH_PREDICT,
    GET_MODEL,
    PREDICT,
    Bridge,
    CallRefused,
    RpcMethod,
)
from grpc_server.gateway.exchange import JSON, HttpReply, HttpRequest, refuse
from grpc_server.gateway.origin import find_kind
from grpc_server.gateway.paths import JSON_API
from grpc_server.request_id import REQUEST_ID
from grpc_server.rpc.statuses import to_status
from prediction.v1 import prediction_service_pb2 as pb

_MAX_DEPTH = 20
# Fields that are long lists of numbers.
_NUMBERS = ("features", "values")
assert error_details_pb2


@dataclass(frozen=True, slots=True)
class _Operation:
    """One path."""

    verb: str
    method: RpcMethod
    request: type[Message]


_OPERATIONS = {
    f"{JSON_API}/predict": _Operation("POST", PREDICT, pb.PredictRequest),
    f"{JSON_API}/predict/batch": _Operation(
        "POST", BATCH_PREDICT, pb.BatchPredictRequest
    ),
    f"{JSON_API}/model": _Operation("GET", GET_MODEL, pb.GetModelRequest),
}


class JsonApi:
    """Answers requests with the gRPC server's replies in JSON.

    Parameters
    ----------
    bridge : Bridge
        Calls the gRPC server.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        # One body at a time: each further thread in Python would delay the calls of all others.
        self._turn = threading.Lock()

    def __call__(self, request: HttpRequest) -> HttpReply:
        """Answer a request."""
        head = request.head
        operation = _OPERATIONS.get(head.path)
        if operation is None:
            message = f"there is no path {head.path[:100]!r}; there are {', '.join(_OPERATIONS)}"
            return refuse(HTTPStatus.NOT_FOUND, message)
        if head.method != operation.verb:
            message = f"{head.path} takes {operation.verb}, not {head.method[:20]!r}"
            allow = (("Allow", operation.verb),)
            return refuse(HTTPStatus.METHOD_NOT_ALLOWED, message, allow)
        if operation.verb == "POST" and find_kind(head) != JSON:
            message = f"Content-Type is {find_kind(head)[:50]!r}; send {JSON}"
            return refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
        return self._call(operation, request)

    def _call(self, operation: _Operation, request: HttpRequest) -> HttpReply:
        message = operation.request()
        if operation.verb == "POST":
            try:
                with self._turn:
                    _read_json(request.body, message)
            except ValueError as error:
                return _show_status(HTTPStatus.BAD_REQUEST, _malformed(error))
        try:
            answer = self._bridge.call(operation.method, message, request.head)
        except CallRefused as error:
            return show_refusal(error)
        with self._turn:
            body = _write_json(answer.message)
        return HttpReply(
            HTTPStatus.OK, body, headers=((REQUEST_ID, answer.request_id),)
        )


def show_refusal(error: CallRefused) -> HttpReply:
    """Return the reply for a call that was not answered: its google.rpc.Status in JSON."""
    headers: tuple[tuple[str, str], ...] = ((REQUEST_ID, error.request_id),)
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers += (("WWW-Authenticate", "Bearer"),)  # RFC 9110, 11.6.1
    return _show_status(error.http_status, error.status, headers)


def _show_status(
    code: HTTPStatus, status: Status, headers: tuple[tuple[str, str], ...] = ()
) -> HttpReply:
    return HttpReply(code, _write_json(status), headers=headers)


def _malformed(error: ValueError) -> Status:
    return to_status(MalformedMessage(f"the body is not JSON of the request: {error}"))


def _read_json(body: bytes, message: Message) -> None:
    """Fill a message.

    Raises
    ------
    ValueError
        If the body is not JSON of the message's form.
    """
    try:
        members = json.loads(body, object_pairs_hook=_unique)
        if not isinstance(members, dict):
            raise ValueError("it is no object")
        _take_numbers(members, message)
        _fill(
            members,
            message,
            ignore_unknown_fields=True,
            max_recursion_depth=_MAX_DEPTH,
        )
    except RecursionError:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} deep") from None
    except (json_format.ParseError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)[:500]) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's members; which of two with one name counts would be a guess."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("an object has two members of one name")
    return members


def _take_numbers(members: dict[str, Any], message: Message) -> None:
    """Move plain finite numbers to the message at once: json_format takes each by itself."""
    for name in _NUMBERS:
        numbers = members.get(name)
        if not hasattr(message, name) or not isinstance(numbers, list):
            continue
        if all(type(one) is float or type(one) is int for one in numbers):
            if isfinite(sum(map(abs, numbers))):
                getattr(message, name).extend(members.pop(name))


# Untyped in the library's stubs, some of whose parameters are newer.
_fill: Callable[..., Any] = json_format.ParseDict
_write: Callable[..., Any] = json_format.MessageToJson


def _write_json(message: Message) -> bytes:
    text: str = _write(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    )
    return text.encode()
