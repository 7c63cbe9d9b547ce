"""Puts the parts of one server together, and takes it through its life."""

import logging
import threading

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from grpc_server.admission import BoundedPool
from grpc_server.errors import FastLaneUnusable, StartupError
from grpc_server.fast_lane import FastLane, check_fast_lane
from grpc_server.health import SERVICE_NAME, Health
from grpc_server.http_endpoint import HttpEndpoint, make_app
from grpc_server.interceptor import EdgeInterceptor
from grpc_server.metrics import DeferredMethodMetrics, Method, Metrics
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.ports import check_address, telling_the_address
from grpc_server.servicer import PredictionServicer
from grpc_server.settings import Settings
from prediction.v1 import prediction_service_pb2_grpc

_log = logging.getLogger(__name__)

PREDICT_PATH = f"/{SERVICE_NAME}/Predict"

# A bound on memory, some 13 KiB each: what waits in grpc-core until the serving thread accepts it.
_MAX_PENDING_CALLS = 10_000


class PredictionServer:
    """One server process: the gRPC port, the HTTP port and the model that answers.

    Both ports are bound here, so that a port in use fails before anything else is done.

    Raises
    ------
    StartupError
        If a port cannot be had.
    """

    def __init__(self, settings: Settings) -> None:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._health = Health()
        self._http = HttpEndpoint(
            settings.host,
            settings.http_port,
            make_app(registry, self._health.why_not_ready),
        )
        try:
            self._grpc = GrpcEndpoint(settings, Metrics(registry), self._health)
        except StartupError:
            self._http.stop()
            raise
        self.port = self._grpc.port

    @property
    def http_port(self) -> int:
        """Port of HTTP that was bound."""
        return self._http.port

    def start(self) -> None:
        """Begin to answer: alive, and not ready until a model is served."""
        self._grpc.start()
        self._http.start()

    def serve(self, model: LoadedModel) -> None:
        """Let `model` answer from now on, and be ready."""
        self._grpc.serve(model)
        self._health.set_ready()

    def count_load_failure(self) -> None:
        """Count a model that was refused."""
        self._grpc.count_load_failure()

    def drain(self, wake: threading.Event) -> None:
        """Report not ready and go on answering, so that balancers stop sending new calls.

        Lasts the drain time, or until `wake` is set.
        """
        self._grpc.drain(wake)

    def stop(self) -> None:
        """Take no new calls, give those in flight the grace time, and free both ports."""
        self._grpc.stop()
        self._http.stop()


class GrpcEndpoint:
    """The gRPC port and the model that answers there.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    metrics : Metrics
        What counts the calls.
    health : Health
        What health checks are told; whoever made it says when it is ready.
    shares_port : bool
        Whether further processes listen on the port; the caller has reserved it for them.

    Raises
    ------
    StartupError
        If the port cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        health: Health,
        *,
        shares_port: bool = False,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._health = health
        self._slot = ModelSlot()
        pool = BoundedPool(settings.workers, settings.max_calls_in_flight)
        streams = BoundedPool(settings.max_streams, settings.max_streams)
        self._edge = EdgeInterceptor(self._metrics, pool, streams, SERVICE_NAME)
        self._grpc = self._build_grpc_server(pool, shares_port)
        self._fast_lane = self._open_fast_lane() if settings.lane == "fast" else None
        lane = "pool" if self._fast_lane is None else "fast"
        self._metrics.show_lane(lane, asked=settings.lane)
        self.port = self._bind(shares_port)

    def start(self) -> None:
        """Begin to answer."""
        self._grpc.start()
        if self._fast_lane is not None:
            self._fast_lane.start()

    def serve(self, model: LoadedModel) -> None:
        """Let `model` answer from now on."""
        self._slot.put(model)
        self._metrics.show_model(model)

    def count_load_failure(self) -> None:
        """Count a model that was refused."""
        self._metrics.count_load_failure()

    def drain(self, wake: threading.Event) -> None:
        """Report not ready and go on answering, for the drain time or until `wake` is set."""
        self._health.set_not_ready("draining before the server stops")
        wake.wait(self._settings.drain_seconds)

    def stop(self) -> None:
        """Take no new calls, give those in flight the grace time, and free the port."""
        self._health.set_not_ready("stopping")
        self._grpc.stop(self._settings.grace_seconds).wait()

    def _open_fast_lane(self) -> FastLane | None:
        """Take Predict off the pool, or leave it there if grpcio has changed."""
        try:
            check_fast_lane()
        except FastLaneUnusable as error:
            fields = {"reason": str(error)}
            _log.warning("fast lane unusable", extra={"fields": fields})
            return None
        metrics = DeferredMethodMetrics(self._metrics, Method.from_path(PREDICT_PATH))
        return FastLane(
            self._grpc,
            PREDICT_PATH,
            lambda handler: self._edge.wrap(PREDICT_PATH, handler, metrics),
            self._settings.max_calls_in_flight,
            metrics.flush,
        )

    def _build_grpc_server(self, pool: BoundedPool, shares_port: bool) -> grpc.Server:
        settings = self._settings
        server = grpc.server(
            pool,
            interceptors=[self._edge],
            options=_channel_options(settings, shares_port),
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(self._slot, self._metrics, settings.max_batch_rows),
            server,
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health.servicer, server)
        if settings.reflection:
            names = (SERVICE_NAME, "grpc.health.v1.Health", reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)
        return server

    def _bind(self, shares_port: bool) -> int:
        host, port = self._settings.host, self._settings.port
        with telling_the_address(host, port):
            if not shares_port:
                check_address(host, port)
            return self._grpc.add_insecure_port(
                f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            )


def _channel_options(settings: Settings, shares_port: bool) -> list[tuple[str, int]]:
    options = [
        # Else a second server on the same port takes half of the calls without an error.
        ("grpc.so_reuseport", int(shares_port)),
        # Beyond so many calls that nobody has accepted, 1,000 by default, grpc-core cancels some at
        # random, without a word to the caller: before that, the bound of calls in flight refuses
        # them, and says when to try again.
        ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
    ]
    if settings.max_connection_age_seconds:
        # A connection kept by a busy client outlives the draining, since it needs no endpoint any
        # more: a call that arrives on it while the server stops is answered CANCELLED, which no
        # client tries again. It also lets clients find pods that are new.
        age_ms = max(1, round(settings.max_connection_age_seconds * 1000))
        options.append(("grpc.max_connection_age_ms", age_ms))
    return options
