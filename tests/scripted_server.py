"""A prediction server whose answers each test chooses, for tests of clients."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health, health_pb2_grpc
from grpc_status import rpc_status

from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1 import prediction_service_pb2_grpc as pb_grpc

LOOPBACK = "127.0.0.1:0"
Answer: TypeAlias = Message | Status | Callable[[Any, grpc.ServicerContext], Message]

PREDICTION = pb.PredictResponse(
    model="LightGBM",
    prediction=1,
    label="1",
    probabilities=[0.25, 0.75],
    model_version="7",
)


class ScriptedServicer(pb_grpc.PredictionServiceServicer):
    """Gives the answers in turn, and the last one from then on.

    Parameters
    ----------
    answers : message, Status or callable
        A message is returned, a status aborts the call, a callable takes the request and the
        context.

    Attributes
    ----------
    requests : list of message
        Every request that came.
    seconds_left : list of float
        Time left until the deadline of each request, when it came.
    """

    def __init__(self, *answers: Answer) -> None:
        self._answers = answers or (PREDICTION,)
        self._lock = threading.Lock()
        self.requests: list[Any] = []
        self.seconds_left: list[float] = []

    def Predict(self, request: pb.PredictRequest, context: Any) -> Any:
        return self._answer(request, context)

    def BatchPredict(self, request: pb.BatchPredictRequest, context: Any) -> Any:
        return self._answer(request, context)

    def StreamPredict(self, request_iterator: Any, context: Any) -> Any:
        for request in request_iterator:
            yield self._answer(request, context)

    def GetModel(self, request: pb.GetModelRequest, context: Any) -> Any:
        return self._answer(request, context)

    def _answer(self, request: Message, context: grpc.ServicerContext) -> Message:
        with self._lock:
            answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
            self.requests.append(request)
            self.seconds_left.append(context.time_remaining())
        if callable(answer):
            return answer(request, context)
        if isinstance(answer, Status):
            abort(answer, context)
        return answer


def abort(status: Status, context: grpc.ServicerContext) -> NoReturn:
    """End a call with a status and its details."""
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError("abort_with_status returned")


def status_of(code: grpc.StatusCode, message: str = "", *details: Message) -> Status:
    """Return a status with details, as a server sends it."""
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


@contextmanager
def scripted_server(
    *servicers: ScriptedServicer | health.HealthServicer,
    address: str = LOOPBACK,
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Iterator[str]:
    """Run a server; yield the target at which it is reached."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0), *options])
        for servicer in servicers:
            _add(servicer, server)
        port = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
        server.start()
        try:
            yield address if address != LOOPBACK else f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


def _add(
    servicer: ScriptedServicer | health.HealthServicer, server: grpc.Server
) -> None:
    if isinstance(servicer, ScriptedServicer):
        pb_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    else:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


@contextmanager
def unused_target() -> Iterator[str]:
    """Yield a target where nothing listens. Its port is bound, so nothing else can listen there."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"
