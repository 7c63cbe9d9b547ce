"""Answers REST v2 about the model of this process.

A request to infer becomes a call of ModelInfer, like that of any caller.
"""

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from time import monotonic

from grpc_server.access import Access
from grpc_server.callers import PREDICT
from grpc_server.errors import (
    CallError,
    InvalidInstance,
    ModelUnavailable,
    UnknownModel,
)
from grpc_server.gateway.bridge import Answer, Bridge, CallRefused, RpcMethod
from grpc_server.gateway.desk import CALL_SECONDS
from grpc_server.gateway.exchange import JSON, HttpReply, HttpRequest
from grpc_server.gateway.origin import find_kind
from grpc_server.http_desk import Head
from grpc_server.http_guard import Credentials
from grpc_server.model import LoadedModel
from grpc_server.model.kinds import quote
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.identity import Identity
from grpc_server.oip.service import INFER_PATH, METADATA_PATH
from grpc_server.request_id import REQUEST_ID
from grpc_server.rest.answers import write_answer, write_metadata
from grpc_server.rest.binary import HEADER, BinaryData, split_body
from grpc_server.rest.infer_request import InferRequest, read_request
from grpc_server.rest.json_text import read_json, write_json
from grpc_server.rest.places import Place
from grpc_server.rest.refusals import Refusal
from grpc_server.settings import Settings

_INFER = RpcMethod(INFER_PATH, pb.ModelInferResponse)
_METADATA = RpcMethod(METADATA_PATH, pb.ModelMetadataResponse)
_BINARY = "application/octet-stream"
# Inputs that no feature has, besides one for each feature.
_N_EXTRA_INPUTS = 100
# Values of a request besides those of its rows: names, shapes and parameters.
_N_OTHER_VALUES = 10_000
_VALUES_OF_INPUT = 100
# A value in a list of its own counts twice.
_VALUES_OF_CELL = 2
# JSON up to this size is read in a few milliseconds.
_SMALL_BYTES = 64 * 1024
# Of errors that are found before the call.
_STATUSES: Mapping[type[CallError], HTTPStatus] = {
    InvalidInstance: HTTPStatus.BAD_REQUEST,
    UnknownModel: HTTPStatus.NOT_FOUND,
    ModelUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class RestSite:
    """Answers requests for paths below `REST_MODELS`.

    Parameters
    ----------
    bridge : Bridge
        Calls the gRPC server.
    identity : Identity
        Knows the model's name.
    access : Access
        Who may call.
    settings : Settings
        Settings of the server.
    """

    bridge: Bridge
    identity: Identity
    access: Access
    settings: Settings
    # One large body at a time: each further thread in Python would delay the calls of all others.
    _turn: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __call__(self, request: HttpRequest) -> HttpReply:
        """Answer a request."""
        try:
            return self._answer(Place.read(request.head.path), request)
        except Refusal as error:
            return _refuse(error.status, str(error))
        except (InvalidInstance, UnknownModel, ModelUnavailable) as error:
            return _refuse(_STATUSES[type(error)], str(error))
        except CallRefused as error:
            return _show_refusal(error)

    def _answer(self, place: Place, request: HttpRequest) -> HttpReply:
        verb = "GET" if request.head.method == "HEAD" else request.head.method
        if verb != place.verb:
            message = f"the path takes {place.verb}, not {quote(request.head.method)}"
            allow = ("Allow", place.verb)
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, message, allow)
        if place.deed == "infer":
            return self._infer(place, request)
        if place.deed == "ready":
            return self._tell_ready(place)
        request_for = pb.ModelMetadataRequest(name=place.model, version=place.version)
        answer = self.bridge.call(_METADATA, request_for, request.head)
        return _reply(write_metadata(answer.message), answer)

    def _tell_ready(self, place: Place) -> HttpReply:
        """Answer anybody, so without the name and version that the server has."""
        try:
            self.identity.get(place.model, place.version)
        except UnknownModel:
            version = f" version {quote(place.version)}" if place.version else ""
            asked = f"{quote(place.model)}{version}"
            message = f"Request for unknown model: {asked} is not found"
            return _refuse(HTTPStatus.NOT_FOUND, message)
        return _reply(write_json({"name": place.model, "ready": True}))

    def _infer(self, place: Place, request: HttpRequest) -> HttpReply:
        head, start = request.head, monotonic()
        # First, so that a stranger's body costs nothing but its way here.
        self._check_caller(head)
        _check_kind(head)
        model = self.identity.get(place.model, place.version)
        asked = self._read(place, model, head.headers.get(HEADER), request.body)
        seconds = _find_time_left(asked, start)
        answer = self.bridge.call(_INFER, asked.message, head, seconds)
        text, data = write_answer(asked, answer.message)
        return _reply(text, answer, data)

    def _check_caller(self, head: Head) -> None:
        """Let a caller who may not predict be refused, and counted, by the gRPC server."""
        if self.access.is_open:
            return
        token = head.headers.get("authorization", "")
        try:
            self.access.check(Credentials(token, head.connection), PREDICT)
        except CallError:
            self.bridge.call(_INFER, pb.ModelInferRequest(), head)

    def _read(
        self, place: Place, model: LoadedModel, header: str | None, body: bytes
    ) -> InferRequest:
        schema = model.input_schema
        n_features = len(schema.features)
        n_cells = self.settings.max_batch_rows * n_features
        n_values = _VALUES_OF_CELL * n_cells
        n_values += _VALUES_OF_INPUT * (n_features + _N_EXTRA_INPUTS)
        text, data = split_body(header, body)
        with self._turn if len(text) > _SMALL_BYTES else nullcontext():
            value = read_json(text, n_values + _N_OTHER_VALUES)
            asked = read_request(value, place, schema, BinaryData(data))
        n_bytes, most = asked.message.ByteSize(), self.settings.max_message_bytes
        if n_bytes > most:
            raise Refusal(
                f"the request takes {n_bytes} bytes as a message; {most} are allowed "
                "(--max-message-bytes); send fewer rows",
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        return asked


def _check_kind(head: Head) -> None:
    kind = find_kind(head)
    # Triton's client names no type.
    if kind not in ("", JSON, *((_BINARY,) if HEADER in head.headers else ())):
        raise Refusal(
            f"Content-Type is {quote(kind)}; send {JSON}, or {_BINARY} and {HEADER}",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )


def _find_time_left(asked: InferRequest, start: float) -> float:
    """Return the seconds until the deadline of a request that came at `start`."""
    if asked.seconds is None:
        return CALL_SECONDS
    left = asked.seconds - (monotonic() - start)
    if left <= 0:
        raise Refusal(
            f"the deadline of {asked.seconds * 1e6:g} microseconds has passed",
            HTTPStatus.GATEWAY_TIMEOUT,
        )
    return min(left, CALL_SECONDS)


def _reply(
    text: bytes, answer: Answer | None = None, data: bytes | None = None
) -> HttpReply:
    headers = [] if answer is None else [(REQUEST_ID, answer.request_id)]
    if data is None:
        return HttpReply(HTTPStatus.OK, text, headers=tuple(headers))
    headers.append((HEADER, str(len(text))))
    return HttpReply(HTTPStatus.OK, text + data, _BINARY, tuple(headers))


def _refuse(status: HTTPStatus, message: str, *headers: tuple[str, str]) -> HttpReply:
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers += (("Retry-After", "1"),)
    return HttpReply(status, write_json({"error": message}), headers=headers)


def _show_refusal(error: CallRefused) -> HttpReply:
    headers = [(REQUEST_ID, error.request_id)]
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers.append(("WWW-Authenticate", "Bearer"))  # RFC 9110, 11.6.1
    return _refuse(error.http_status, error.status.message, *headers)
