"""Adds inference.GRPCInferenceService to a server, and gives its methods their desks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from grpc_server.drift.monitor import DriftMonitor
from grpc_server.metrics import CallCounter, Method, MethodMetrics, Metrics
from grpc_server.model import ModelSlot
from grpc_server.observe.observers import Observers
from grpc_server.observe.records import BATCH, PREDICT
from grpc_server.oip import model_config_pb2 as config_pb
from grpc_server.oip import open_inference_grpc_pb2 as pb
from grpc_server.oip.desk import ForkedDesk
from grpc_server.oip.identity import Identity
from grpc_server.oip.infer import ModelInfer
from grpc_server.oip.requests import make_decoder
from grpc_server.oip.scoring import Scorer
from grpc_server.oip.service import (
    INFER,
    INFER_PATH,
    SERVICE_NAME,
    OpenInferenceServicer,
)
from grpc_server.oip.telling import Teller
from grpc_server.rpc.calls import Desk
from grpc_server.rpc.canary import CanaryServicer
from grpc_server.rpc.dispatcher import Dispatcher
from grpc_server.rpc.health import Health
from grpc_server.rpc.requests import decode_small
from grpc_server.settings import Settings
from grpc_server.tracing.start import Tracing

# Domain of the reasons of its errors.
ERROR_DOMAIN = "inference"
_REQUESTS: Mapping[str, type[Message]] = {
    "ServerLive": pb.ServerLiveRequest,
    "ServerReady": pb.ServerReadyRequest,
    "ModelReady": pb.ModelReadyRequest,
    "ServerMetadata": pb.ServerMetadataRequest,
    "ModelMetadata": pb.ModelMetadataRequest,
    "ModelConfig": config_pb.ModelConfigRequest,
}


@dataclass(frozen=True, slots=True)
class OpenInference:
    """The service, over what it shares with prediction.v1.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    slot : ModelSlot
        Holds the model.
    metrics : Metrics
        Counts predictions.
    health : Health
        Knows whether the server is ready.
    drift : DriftMonitor or None
        Counts the answered rows; None counts none.
    observers : Observers
        See the answered calls.
    canary : CanaryServicer or None
        Divides the calls between two models; None without a canary.
    """

    settings: Settings
    slot: ModelSlot
    metrics: Metrics
    health: Health
    drift: DriftMonitor | None
    observers: Observers
    canary: CanaryServicer | None

    service = SERVICE_NAME
    path = INFER_PATH

    def make_desk(self, lane: Desk, workers: Desk) -> Desk:
        """Return the desk of ModelInfer over a lane and workers."""
        return ForkedDesk(lane, workers, self.slot)

    def add_to(self, server: grpc.Server) -> None:
        """Register the methods; each needs a desk before the server starts."""
        max_rows = self.settings.max_batch_rows
        identity = Identity(self.slot.get, self.settings.model_name)
        servicer = OpenInferenceServicer(identity, self.health, max_rows)
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(
                getattr(servicer, name), kind.FromString, _encode
            )
            for name, kind in _REQUESTS.items()
        }
        infer = ModelInfer(
            self.slot,
            identity,
            Scorer(self.metrics, self.drift),
            max_rows,
            self.canary,
            self._make_teller(),
        )
        # Its replies are encoded already.
        handlers[INFER] = grpc.unary_unary_rpc_method_handler(infer, bytes, bytes)
        server.add_registered_method_handlers(SERVICE_NAME, handlers)

    def serve_infer(
        self,
        dispatcher: Dispatcher,
        desk: Desk,
        counter: CallCounter,
        tracing: Tracing | None,
    ) -> None:
        """Give ModelInfer its desk, its counter, and what traces it."""
        decode = make_decoder(self.slot, self.settings.max_batch_rows)
        dispatcher.serve(
            INFER_PATH, desk, counter, decode, domain=ERROR_DOMAIN, tracing=tracing
        )

    def serve_others(
        self, dispatcher: Dispatcher, find_desk: Callable[[str], Desk]
    ) -> None:
        """Give each other method the desk that `find_desk` returns for its name."""
        for name, kind in _REQUESTS.items():
            counter = MethodMetrics(self.metrics, Method(SERVICE_NAME, name))
            dispatcher.serve(
                f"/{SERVICE_NAME}/{name}",
                find_desk(name),
                counter,
                decode_small(kind),
                domain=ERROR_DOMAIN,
            )

    def _make_teller(self) -> Teller | None:
        of_rows = self.observers.tap(PREDICT)
        of_batches = self.observers.tap(BATCH)
        if of_rows is None or of_batches is None:
            return None
        return Teller(of_rows, of_batches)


def _encode(message: Message) -> bytes:
    return message.SerializeToString()
