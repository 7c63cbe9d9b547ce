"""Calls this process's own gRPC server for a client of the HTTP port."""

import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from grpc_server.gateway.desk import CALL_SECONDS
from grpc_server.http_desk import Head
from grpc_server.request_id import REQUEST_ID, find_request_id
from grpc_server.rpc.forwarded import Client, GatewayKey
from grpc_server.rpc.health import SERVICE_NAME
from grpc_server.settings import Settings
from prediction.v1 import prediction_service_pb2 as pb

# Headers that are metadata of the call.
_TOKEN, _TRACE = "authorization", ("traceparent", "tracestate")
# A longer one is of no use to a trace.
_MAX_TRACE_CHARACTERS = 512
# From 8 KiB on, gRPC refuses calls by chance, as RESOURCE_EXHAUSTED; it adds some of its own.
_MAX_METADATA_BYTES = 7 * 1024
# grpc-core says so of a reply.
_TOO_LARGE = "larger than max"
# What gRPC counts for each besides its name and value, and base64 for bytes.
_ENTRY_BYTES = 32
_KINDS = {"DNS": "dns:", "URI": "uri:"}
# What a refused call is in HTTP, as proxies for JSON have it.
_HTTP_STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    # The server stops while the call is open.
    grpc.StatusCode.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """A method of the gRPC server.

    Parameters
    ----------
    path : str
        Path of the method.
    reply : type
        Message of the reply.
    """

    path: str
    reply: type[Message]


PREDICT = RpcMethod(f"/{SERVICE_NAME}/Predict", pb.PredictResponse)
BATCH_PREDICT = RpcMethod(f"/{SERVICE_NAME}/BatchPredict", pb.BatchPredictResponse)
GET_MODEL = RpcMethod(f"/{SERVICE_NAME}/GetModel", pb.GetModelResponse)


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a call.

    Parameters
    ----------
    message : Message
        The reply, of the method's type.
    request_id : str
        Identifier by which the logs name the call.
    """

    message: Any
    request_id: str


class CallRefused(Exception):
    """A call that was not answered.

    Attributes
    ----------
    status : google.rpc.Status
        Code, message and details, as a caller of gRPC gets them.
    http_status : HTTPStatus
        The same in HTTP.
    request_id : str
        Identifier by which the logs name the call.
    """

    def __init__(self, status: Status, code: grpc.StatusCode, request_id: str) -> None:
        super().__init__(status, code, request_id)
        self.status = status
        self.http_status = _HTTP_STATUSES.get(code, HTTPStatus.INTERNAL_SERVER_ERROR)
        self.request_id = request_id


class Bridge:
    """Makes calls like any caller: past the desks, the guard, the metrics and the logs.

    Parameters
    ----------
    address : str
        Socket on which only this process's server listens.
    key : GatewayKey
        Proves to the server whose calls these are.
    settings : Settings
        Settings of the server.
    """

    def __init__(self, address: str, key: GatewayKey, settings: Settings) -> None:
        self._address = address
        self._key = key
        self._max_bytes = settings.max_message_bytes
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None

    def call(
        self,
        method: RpcMethod,
        request: Message,
        head: Head,
        timeout_seconds: float = CALL_SECONDS,
    ) -> Answer:
        """Make a call for a client.

        Parameters
        ----------
        method : RpcMethod
            What to call.
        request : Message
            Its request.
        head : Head
            Head of the client's request: its headers authorization, x-request-id, traceparent and
            tracestate, and its connection, belong to the call.
        timeout_seconds : float
            Deadline, > 0.

        Returns
        -------
        Answer
            The reply.

        Raises
        ------
        CallRefused
            If the call has no reply.
        """
        stated = head.headers.get(REQUEST_ID, "")
        request_id = find_request_id([(REQUEST_ID, stated)])
        metadata = self._make_metadata(head, request_id)
        try:
            message = self._open(method)(
                request, timeout=timeout_seconds, metadata=metadata
            )
        except grpc.RpcError as error:
            raise _refused(error, request_id) from None
        return Answer(message, request_id)

    def stop(self) -> None:
        """Close the connection; calls in progress end."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()

    def _make_metadata(
        self, head: Head, request_id: str
    ) -> tuple[tuple[str, str | bytes], ...]:
        metadata: list[tuple[str, str | bytes]] = [(REQUEST_ID, request_id)]
        if token := head.headers.get(_TOKEN, ""):
            if not _is_plain(token):
                message = (
                    f"the header {_TOKEN} has other than printable ASCII characters"
                )
                raise _bad_head(message, request_id)
            metadata.append((_TOKEN, token))
        metadata += _list_trace(head)
        names = head.connection.names
        proofs = tuple(_KINDS[kind] + name for kind, name in names if kind in _KINDS)
        metadata += self._key.label(Client(head.connection.peer, proofs))
        n_bytes = sum(map(_count_bytes, metadata))
        if n_bytes > _MAX_METADATA_BYTES:
            message = (
                f"the header {_TOKEN} and the names of the certificate take {n_bytes} bytes as "
                f"metadata; {_MAX_METADATA_BYTES} are allowed"
            )
            raise _bad_head(message, request_id)
        return tuple(metadata)

    def _open(self, method: RpcMethod) -> Any:
        """Return what calls a method; the first one connects."""
        with self._lock:
            if self._channel is None:
                options = [
                    ("grpc.use_local_subchannel_pool", 1),
                    ("grpc.max_receive_message_length", self._max_bytes),
                    ("grpc.initial_reconnect_backoff_ms", 100),
                    ("grpc.max_reconnect_backoff_ms", 1000),
                ]
                self._channel = grpc.insecure_channel(self._address, options)
            return self._channel.unary_unary(
                method.path,
                request_serializer=_serialize,
                response_deserializer=method.reply.FromString,
            )


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _list_trace(head: Head) -> list[tuple[str, str | bytes]]:
    """Return the headers of a trace; a call without a trace is better than none."""
    # A tab may stand for a space there, which metadata do not know.
    values = [(name, head.headers.get(name, "").replace("\t", " ")) for name in _TRACE]
    return [
        (name, value)
        for name, value in values
        if value and _is_plain(value) and len(value) <= _MAX_TRACE_CHARACTERS
    ]


def _count_bytes(entry: tuple[str, str | bytes]) -> int:
    name, value = entry
    n_bytes = len(value) if isinstance(value, str) else -(-len(value) // 3) * 4
    return len(name) + n_bytes + _ENTRY_BYTES


def _bad_head(message: str, request_id: str) -> CallRefused:
    code = grpc.StatusCode.INVALID_ARGUMENT
    return CallRefused(Status(code=code.value[0], message=message), code, request_id)


def _refused(error: Any, request_id: str) -> CallRefused:
    status = rpc_status.from_call(error)
    if status is not None:
        return CallRefused(status, error.code(), request_id)
    return _refused_by_core(error.code(), error.details() or "", request_id)


def _refused_by_core(
    code: grpc.StatusCode, message: str, request_id: str
) -> CallRefused:
    """Return the refusal of a call that gRPC itself has ended, without details."""
    if code is grpc.StatusCode.UNAVAILABLE:
        message = "the server stops; try again"  # gRPC's own words name its socket
    is_too_large = _TOO_LARGE in message
    if is_too_large:
        message = "the answer is larger than --max-message-bytes; send fewer rows"
    status = Status(code=code.value[0], message=message or code.name)
    refused = CallRefused(status, code, request_id)
    if is_too_large:  # another try would end the same
        refused.http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return refused


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
