"""Assembles one server process, and starts, drains and stops it."""

import threading
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from grpc_server.errors import StartupError
from grpc_server.http_endpoint import HttpEndpoint, make_app
from grpc_server.metrics import (
    DeferredMethodMetrics,
    Method,
    MethodMetrics,
    Metrics,
    Uncounted,
)
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.ports import check_address, explain_bind_errors
from grpc_server.rpc.calls import Desk
from grpc_server.rpc.channel_options import make_channel_options
from grpc_server.rpc.desks import (
    DEFAULT_LANE_POLICY,
    AtOnce,
    FastLane,
    LanePolicy,
    OpenCalls,
    Workers,
)
from grpc_server.rpc.dispatcher import Dispatcher
from grpc_server.rpc.health import HEALTH_NAME, SERVICE_NAME, Health, HealthServicer
from grpc_server.rpc.patience import Patience
from grpc_server.rpc.pulse import MAX_SILENCE_SECONDS, METHOD, Pulse, PulsePoint
from grpc_server.rpc.requests import RequestDecoder, decode_small
from grpc_server.rpc.self_test import check_grpcio
from grpc_server.rpc.servicer import PredictionServicer
from grpc_server.rpc.unknown_methods import UNKNOWN, ServingThread, UnknownMethods
from grpc_server.settings import Settings
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1 import prediction_service_pb2_grpc

# The oldest allowed version of grpcio-health-checking has no List.
_HEALTH_METHODS = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name
PREDICT_PATH = f"/{SERVICE_NAME}/Predict"
# Memory for the messages that wait for a worker, in messages of the largest size.
_N_WAITING_MESSAGES = 8


class PredictionServer:
    """One server process: the gRPC port, the HTTP port and the current model.

    The constructor binds both ports, so that a port in use fails before anything else happens.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    lane_policy : LanePolicy
        Limits of the fast lane's rounds.
    max_silence_seconds : float
        Time without a reply to its own calls after which the server reports not alive, > 0.

    Raises
    ------
    StartupError
        If a port cannot be bound.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        lane_policy: LanePolicy = DEFAULT_LANE_POLICY,
        max_silence_seconds: float = MAX_SILENCE_SECONDS,
    ) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._health = Health()
        point = PulsePoint()
        self._pulse = Pulse(point, max_silence_seconds=max_silence_seconds)
        self._http = HttpEndpoint(
            settings.host,
            settings.http_port,
            make_app(registry, self._health.why_not_ready, self._pulse.why_not_alive),
        )
        try:
            metrics = Metrics(registry)
            self._grpc = GrpcEndpoint(
                settings, metrics, self._health, point, lane_policy=lane_policy
            )
        except StartupError:
            self._http.stop()
            raise
        self.port = self._grpc.port

    @property
    def http_port(self) -> int:
        """HTTP port that was bound."""
        return self._http.port

    def start(self) -> None:
        """Start to answer: alive, and not ready until `serve`."""
        self._grpc.start()
        self._pulse.start()
        self._http.start()

    def serve(self, model: LoadedModel) -> None:
        """Serve `model` from now on, and report ready."""
        self._grpc.serve(model)
        self._health.set_ready()

    def count_load_failure(self) -> None:
        """Count a model that was refused."""
        self._grpc.count_load_failure()

    def drain(self, wake: threading.Event) -> None:
        """Report not ready and keep answering, so that balancers stop sending new calls.

        This lasts for the drain time, or until `wake` is set.
        """
        self._grpc.drain(wake)

    def stop(self) -> None:
        """Accept no new calls, finish those in flight in the grace time, and free both ports."""
        self._pulse.stop()
        self._grpc.stop()
        self._http.stop()


class GrpcEndpoint:
    """The gRPC port and the current model.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    metrics : Metrics
        Counts the calls.
    health : Health
        State of the health checks; the caller sets it ready.
    point : PulsePoint
        Second address to listen on, for this process's own pulse.
    shares_port : bool
        Whether other processes listen on the port too; the caller has reserved it then.
    lane_policy : LanePolicy
        Limits of the fast lane's rounds.

    Raises
    ------
    StartupError
        If the port cannot be bound.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        health: Health,
        point: PulsePoint,
        *,
        shares_port: bool = False,
        lane_policy: LanePolicy = DEFAULT_LANE_POLICY,
    ) -> None:
        self._settings = settings
        self._lane_policy = lane_policy
        self._metrics = metrics
        self._health = health
        self._point = point
        self._slot = ModelSlot()
        check_grpcio()
        self._workers = Workers(
            settings.workers,
            settings.max_calls_in_flight,
            _N_WAITING_MESSAGES * settings.max_message_bytes,
        )
        self._server = self._build_server(shares_port)
        patience = Patience(
            message_seconds=settings.message_seconds,
            pause_seconds=settings.stream_idle_seconds,
            taking_seconds=settings.answer_seconds,
        )
        self._dispatcher = Dispatcher(self._server, patience)
        self._give_desks()
        metrics.show_lane(settings.lane, asked=settings.lane)
        self.port = self._bind(shares_port)
        self._server.add_insecure_port(point.address)

    def start(self) -> None:
        """Start to answer."""
        self._dispatcher.start()

    def serve(self, model: LoadedModel) -> None:
        """Serve `model` from now on."""
        self._slot.put(model)
        self._metrics.show_model(model)

    def count_load_failure(self) -> None:
        """Count a model that was refused."""
        self._metrics.count_load_failure()

    def drain(self, wake: threading.Event) -> None:
        """Report not ready and keep answering, for the drain time or until `wake` is set."""
        self._health.set_not_ready("draining before the server stops")
        wake.wait(self._settings.drain_seconds)

    def stop(self) -> None:
        """Accept no new calls, finish those in flight in the grace time, and free the port."""
        self._health.set_not_ready("stopping")
        self._health.end_watches()
        self._dispatcher.stop(self._settings.grace_seconds)
        self._workers.stop()

    def _build_server(self, shares_port: bool) -> grpc.Server:
        settings = self._settings
        unknown = MethodMetrics(self._metrics, UNKNOWN, "unknown")
        server = grpc.server(
            ServingThread(),  # type: ignore[arg-type]  # grpcio accepts any executor
            interceptors=[UnknownMethods(unknown)],
            options=make_channel_options(settings, shares_port),
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(self._slot, self._metrics, settings.max_batch_rows),
            server,
        )
        health_pb2_grpc.add_HealthServicer_to_server(
            HealthServicer(self._health), server
        )
        beat = grpc.unary_unary_rpc_method_handler(_beat, bytes, bytes)
        server.add_registered_method_handlers(self._point.service, {METHOD: beat})
        if settings.reflection:
            names = (SERVICE_NAME, HEALTH_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    def _give_desks(self) -> None:
        settings, workers = self._settings, self._workers
        decoder = RequestDecoder(self._slot, settings.max_batch_rows)
        streams = OpenCalls(settings.max_streams, workers.take_unbounded)
        get_model = decode_small(pb.GetModelRequest)
        self._serve_predict(decoder)
        self._serve(SERVICE_NAME, "BatchPredict", workers, decoder.batch)
        self._serve(SERVICE_NAME, "GetModel", workers, get_model)
        self._serve(
            SERVICE_NAME, "StreamPredict", streams, decoder.chunk, "bidi_stream"
        )
        self._serve_health()
        if settings.reflection:
            self._serve_reflection()

    def _serve_predict(self, decoder: RequestDecoder) -> None:
        settings, dispatcher = self._settings, self._dispatcher
        if settings.lane == "pool":
            self._serve(SERVICE_NAME, "Predict", self._workers, decoder.predict)
            return
        metrics = DeferredMethodMetrics(self._metrics, Method.from_path(PREDICT_PATH))
        lane = FastLane(
            dispatcher.queue,
            settings.max_calls_in_flight,
            metrics.flush,
            self._lane_policy,
        )
        dispatcher.serve(PREDICT_PATH, lane, metrics, decoder.predict)

    def _serve_health(self) -> None:
        at_once = AtOnce()
        watches = OpenCalls(self._settings.max_watches, at_once.take)
        check = decode_small(health_pb2.HealthCheckRequest)
        self._serve(HEALTH_NAME, "Check", at_once, check)
        if "List" in _HEALTH_METHODS:
            list_all = decode_small(health_pb2.HealthListRequest)
            self._serve(HEALTH_NAME, "List", at_once, list_all)
        self._serve(HEALTH_NAME, "Watch", watches, check, "server_stream")
        # Not counted, because only this process itself calls it.
        self._dispatcher.serve(self._point.path, at_once, Uncounted(), bytes)

    def _serve_reflection(self) -> None:
        calls = OpenCalls(self._settings.max_streams, self._workers.take_unbounded)
        decode = decode_small(reflection_pb2.ServerReflectionRequest)
        name = "ServerReflectionInfo"
        self._serve(reflection.SERVICE_NAME, name, calls, decode, "bidi_stream")

    def _serve(
        self,
        service: str,
        name: str,
        desk: Desk,
        decode: Callable[[bytes], Any],
        grpc_type: str = "unary",
    ) -> None:
        metrics = MethodMetrics(self._metrics, Method(service, name), grpc_type)
        self._dispatcher.serve(f"/{service}/{name}", desk, metrics, decode)

    def _bind(self, shares_port: bool) -> int:
        host, port = self._settings.host, self._settings.port
        with explain_bind_errors(host, port):
            if not shares_port:
                check_address(host, port)
            return self._server.add_insecure_port(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            )


def _beat(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b""
