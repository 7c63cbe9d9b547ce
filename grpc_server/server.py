"""Assembles one server process, and starts, drains and stops it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from grpc_server.access import Access
from grpc_server.build_info import show_build
from grpc_server.callers import DESCRIBE, PREDICT
from grpc_server.canary.keeper import CanaryKeeper
from grpc_server.canary.start import make_keeper
from grpc_server.certificates import CertificateStore
from grpc_server.drift.collector import DriftCollector
from grpc_server.drift.monitor import DriftMonitor
from grpc_server.errors import StartupError
from grpc_server.gateway.start import open_gateway
from grpc_server.http_endpoint import HttpEndpoint, make_app
from grpc_server.http_guard import HttpGuard
from grpc_server.metrics import (
    CallCounter,
    DeferredMethodMetrics,
    Method,
    MethodMetrics,
    Metrics,
    Uncounted,
)
from grpc_server.model import LoadedModel, ModelSlot
from grpc_server.model.standing import Standing
from grpc_server.model.steps import NoSteps, Steps
from grpc_server.observe.observers import open_observers
from grpc_server.observe.records import BATCH, CHUNK
from grpc_server.observe.records import PREDICT as PREDICT_RECORD
from grpc_server.observe.tap import Tap
from grpc_server.ports import check_address, explain_bind_errors
from grpc_server.processing_seconds import ProcessingSeconds
from grpc_server.rest.pages import make_pages
from grpc_server.rest.start import make_sites
from grpc_server.rpc.call_log import CallLog, LoggedDesk
from grpc_server.rpc.calls import Desk
from grpc_server.rpc.canary import CanaryServicer, Undecoded
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
from grpc_server.rpc.guarded import CallerShares, ClosedDesk, Guard, GuardedDesk
from grpc_server.rpc.health import HEALTH_NAME, SERVICE_NAME, Health, HealthServicer
from grpc_server.rpc.health_port import (
    HealthEndpoint,
    join_address,
    make_patience,
    serve_health,
)
from grpc_server.rpc.pulse import MAX_SILENCE_SECONDS, METHOD, Pulse, PulsePoint
from grpc_server.rpc.requests import RequestDecoder, decode_small
from grpc_server.rpc.self_test import check_grpcio
from grpc_server.rpc.servicer import PredictionServicer
from grpc_server.rpc.tls import make_credentials
from grpc_server.rpc.unknown_methods import UNKNOWN, ServingThread, UnknownMethods
from grpc_server.security import open_access, open_certificates
from grpc_server.settings import Settings
from grpc_server.shadow.start import open_shadow
from grpc_server.tracing.start import open_tracing
from grpc_server.tracing.steps import StepRecorder
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1 import prediction_service_pb2_grpc

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    # Imported where it is used: without the protocol, a start does not pay for it.
    from grpc_server.oip.start import OpenInference

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

    Attributes
    ----------
    canary : CanaryKeeper or None
        Takes the canary; None if the settings name none.

    Raises
    ------
    StartupError
        If a port cannot be bound, or a file of TLS cannot be used.
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
        metrics = Metrics(registry)
        registry.register(ProcessingSeconds(metrics.calls.handling_seconds))
        drift = (
            DriftMonitor(settings.drift_features) if settings.drift_features else None
        )
        if drift is not None:
            registry.register(DriftCollector(drift.read))
        self.canary = make_keeper(settings, registry)
        certificates = open_certificates(
            settings, metrics.access.count_certificate_failure
        )
        access = open_access(settings, metrics.access.count_callers_failure)
        sites = make_sites(lambda: self._grpc.get_model(), access, settings)
        self._gateway = open_gateway(settings, point, sites, access)
        self._http = HttpEndpoint(
            settings.host,
            settings.http_port,
            self._make_app(settings, registry, access),
            tls=None if certificates is None else certificates.context,
            desks=() if self._gateway is None else self._gateway.desks,
        )
        try:
            self._grpc = GrpcEndpoint(
                settings,
                metrics,
                self._health,
                point,
                certificates=certificates,
                access=access,
                why_not_alive=self._pulse.why_not_alive,
                drift=drift,
                lane_policy=lane_policy,
                canary=self.canary,
            )
        except StartupError:
            self._http.stop()
            raise
        self.port = self._grpc.port

    def _make_app(
        self, settings: Settings, registry: CollectorRegistry, access: Access
    ) -> "WSGIApplication":
        checks = self._health.why_not_ready, self._pulse.why_not_alive
        pages = make_pages(settings, *checks)
        return make_app(registry, *checks, HttpGuard(access), pages)

    @property
    def http_port(self) -> int:
        """HTTP port that was bound."""
        return self._http.port

    @property
    def health_port(self) -> int | None:
        """Plain port of health checks that was bound, None without one."""
        return self._grpc.health_port

    def start(self) -> None:
        """Start to answer: alive, and not ready until `serve`."""
        self._grpc.start()
        self._pulse.start()
        self._http.start()

    def serve(self, model: LoadedModel) -> None:
        """Serve `model` from now on, and report ready."""
        self._grpc.serve(model)
        self._health.set_ready()

    def follow_steps(self) -> Steps:
        """Return what follows the swaps of one model, for one thread."""
        return self._grpc.follow_steps()

    def count_load_failure(self, error: str) -> None:
        """Count a model that was refused, by the name of the error's class."""
        self._grpc.count_load_failure(error)

    def show_standing(self, standing: Standing) -> None:
        """Show which version should answer, and why it does not."""
        self._grpc.show_standing(standing)

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
        if self._gateway is not None:
            self._gateway.stop()


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
    certificates : CertificateStore or None
        The newest certificates; None serves plain text.
    access : Access or None
        Who may call; None reads the files of callers that the settings name.
    why_not_alive : callable
        Returns the reason why this endpoint does not answer, None if it does; for the health port.
    drift : DriftMonitor or None
        Counts the answered rows; None counts none.
    shares_port : bool
        Whether other processes listen on the port too; the caller has reserved it then.
    lane_policy : LanePolicy
        Limits of the fast lane's rounds.
    canary : CanaryKeeper or None
        The canary beside the model; None without one, which costs a call nothing.

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
        certificates: CertificateStore | None = None,
        access: Access | None = None,
        why_not_alive: Callable[[], str | None] = lambda: None,
        drift: DriftMonitor | None = None,
        shares_port: bool = False,
        lane_policy: LanePolicy = DEFAULT_LANE_POLICY,
        canary: CanaryKeeper | None = None,
    ) -> None:
        self._settings = settings
        self._drift = drift
        self._canary = canary
        self._lane_policy = lane_policy
        self._metrics = metrics
        self._health = health
        self._point = point
        self._slot = ModelSlot()
        shadow = open_shadow(settings, metrics.registry, self._slot)
        self._observers = open_observers(settings, metrics.registry, shadow)
        self._tracing = open_tracing(
            settings, metrics.registry, point.gateway_key.find_peer
        )
        if canary is not None:
            canary.introduce_to(self._announce_canary)
        access = access or open_access(settings, metrics.access.count_callers_failure)
        needs_guard = not access.is_open or settings.tls_client_ca is not None
        self._guard = (
            Guard(access, metrics.access.count_caller, point.gateway_key)
            if needs_guard
            else None
        )
        check_grpcio()
        self._workers = Workers(
            settings.workers,
            settings.max_calls_in_flight,
            _N_WAITING_MESSAGES * settings.max_message_bytes,
        )
        self._servicer = self._make_servicer()
        self._open_inference = self._make_open_inference()
        self._server = self._build_server(shares_port)
        self._call_log = self._open_call_log()
        self._dispatcher = Dispatcher(self._server, make_patience(settings))
        self._give_desks()
        show_build(metrics.registry, grpc.__version__, settings.revision)
        metrics.show_lane(settings.lane, asked=settings.lane)
        self.port = self._bind(certificates, shares_port)
        self._server.add_insecure_port(point.address)
        self._probes = None
        if settings.health_port is not None:
            self._probes = HealthEndpoint(
                settings,
                settings.health_port,
                metrics,
                health,
                why_not_alive,
                shares_port=shares_port,
            )

    @property
    def health_port(self) -> int | None:
        """Plain port of health checks that was bound, None without one."""
        return None if self._probes is None else self._probes.port

    def start(self) -> None:
        """Start to answer."""
        self._observers.start()
        if self._tracing is not None:
            self._tracing.exporter.start()
        if self._call_log is not None:
            self._call_log.start()
        self._dispatcher.start()
        if self._drift is not None:
            self._drift.start()
        if self._probes is not None:
            self._probes.start()
        if self._canary is not None:
            self._canary.start()

    def serve(self, model: LoadedModel) -> None:
        """Serve `model` from now on."""
        if self._drift is not None:
            self._drift.watch(model)
        self._observers.announce(model)
        self._metrics.expect_labels(model.classes.labels)
        self._slot.put(model)
        self._metrics.show_model(model)
        if self._canary is not None:
            self._canary.serve_champion(model)

    def follow_steps(self) -> Steps:
        """Return what follows the swaps of one model, for one thread."""
        if self._tracing is None:
            return NoSteps()
        return StepRecorder(self._tracing.exporter.put)

    def count_load_failure(self, error: str) -> None:
        """Count a model that was refused, by the name of the error's class."""
        self._metrics.count_load_failure(error)

    def get_model(self) -> LoadedModel:
        """Return the model that answers; raise ModelUnavailable without one."""
        return self._slot.get()

    def show_standing(self, standing: Standing) -> None:
        """Show which version should answer, and why it does not."""
        self._slot.standing = standing
        self._metrics.show_standing(standing)

    def drain(self, wake: threading.Event) -> None:
        """Report not ready and keep answering, for the drain time or until `wake` is set."""
        self._health.set_not_ready("draining before the server stops")
        wake.wait(self._settings.drain_seconds)

    def stop(self) -> None:
        """Accept no new calls, finish those in flight in the grace time, and free the port."""
        self._health.set_not_ready("stopping")
        self._health.end_watches()
        self._dispatcher.stop(self._settings.grace_seconds)
        if self._probes is not None:
            self._probes.stop(0.0)
        if self._canary is not None:
            self._canary.stop()
        self._workers.stop()
        if self._drift is not None:
            self._drift.stop()
        self._observers.close()
        if self._tracing is not None:
            self._tracing.exporter.close()
        if self._call_log is not None:
            self._call_log.close()

    def _announce_canary(self, model: LoadedModel) -> None:
        """Tell the observers of a canary, and again of the champion: they keep the newest few."""
        self._observers.announce(model, is_canary=True)
        self._observers.announce(self._slot.get())

    def _open_call_log(self) -> CallLog | None:
        share = self._settings.access_log_share
        if share is None:
            return None
        find_peer = self._point.gateway_key.find_peer
        return CallLog(share, self._metrics.registry, find_peer)

    def _build_server(self, shares_port: bool) -> grpc.Server:
        settings = self._settings
        unknown = MethodMetrics(self._metrics, UNKNOWN, "unknown")
        server = grpc.server(
            ServingThread(),  # type: ignore[arg-type]  # grpcio accepts any executor
            interceptors=[UnknownMethods(unknown)],
            options=make_channel_options(settings, shares_port),
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            self._servicer, server
        )
        if self._open_inference is not None:
            self._open_inference.add_to(server)
        health_pb2_grpc.add_HealthServicer_to_server(
            HealthServicer(self._health), server
        )
        beat = grpc.unary_unary_rpc_method_handler(_beat, bytes, bytes)
        server.add_registered_method_handlers(self._point.service, {METHOD: beat})
        if settings.reflection:
            names = [SERVICE_NAME, HEALTH_NAME, reflection.SERVICE_NAME]
            if self._open_inference is not None:
                names.append(self._open_inference.service)
            reflection.enable_server_reflection(names, server)
        return server

    def _make_open_inference(self) -> OpenInference | None:
        if not self._settings.open_inference:
            return None
        from grpc_server.oip.start import OpenInference

        servicer = self._servicer
        return OpenInference(
            self._settings,
            self._slot,
            self._metrics,
            self._health,
            self._drift,
            self._observers,
            servicer if isinstance(servicer, CanaryServicer) else None,
        )

    def _make_servicer(self) -> Any:
        max_rows = self._settings.max_batch_rows
        arguments = self._slot, self._metrics, max_rows, self._drift
        if self._canary is None:
            return PredictionServicer(*arguments)
        return CanaryServicer(*arguments, self._canary)

    def _make_decoder(self) -> RequestDecoder | Undecoded:
        if self._canary is None:
            return RequestDecoder(self._slot, self._settings.max_batch_rows)
        return Undecoded()

    def _give_desks(self) -> None:
        settings, workers = self._settings, self._workers
        dispatcher = self._dispatcher
        decoder = self._make_decoder()
        streams = OpenCalls(settings.max_streams, workers.take_unbounded)
        get_model = decode_small(pb.GetModelRequest)
        shares = self._shares(settings.max_calls_in_flight)
        batches = self._guarded(workers, PREDICT, shares)
        describing = self._guarded(workers, DESCRIBE, shares)
        chunks = self._guarded(streams, PREDICT, self._shares(settings.max_streams))
        self._serve_predict(decoder)
        tap = self._observers.tap
        self._serve(
            SERVICE_NAME, "BatchPredict", batches, decoder.batch, tap=tap(BATCH)
        )
        if not settings.describe:
            describing = ClosedDesk()
        self._serve(SERVICE_NAME, "GetModel", describing, get_model)
        self._serve(
            SERVICE_NAME,
            "StreamPredict",
            chunks,
            decoder.chunk,
            "bidi_stream",
            tap(CHUNK),
        )
        if self._open_inference is not None:
            self._open_inference.serve_others(
                dispatcher, lambda name: self._find_open_desk(name, describing, shares)
            )
        serve_health(dispatcher, self._metrics, settings.max_watches)
        # Not counted, because only this process itself calls it.
        dispatcher.serve(self._point.path, AtOnce(), Uncounted(), bytes)
        if settings.reflection:
            self._serve_reflection()

    def _serve_predict(self, decoder: RequestDecoder | Undecoded) -> None:
        settings, dispatcher = self._settings, self._dispatcher
        shares = self._shares(settings.max_calls_in_flight)
        tap = self._observers.tap(PREDICT_RECORD)
        if settings.lane == "pool":
            desk = self._guarded(self._workers, PREDICT, shares)
            self._serve(SERVICE_NAME, "Predict", desk, decoder.predict, tap=tap)
            if self._open_inference is not None:
                method = Method.from_path(self._open_inference.path)
                counter = MethodMetrics(self._metrics, method)
                self._serve_infer(self._open_inference, desk, counter)
            return
        metrics = DeferredMethodMetrics(self._metrics, Method.from_path(PREDICT_PATH))
        infer_metrics = self._make_infer_metrics()
        flush = _join(metrics.flush, infer_metrics)
        lane = FastLane(
            dispatcher.queue,
            settings.max_calls_in_flight,
            flush,
            self._lane_policy,
        )
        desk = self._guarded(lane, PREDICT, shares, flush)
        desk = self._logged(desk, "Predict")
        dispatcher.serve(
            PREDICT_PATH, desk, metrics, decoder.predict, tap, tracing=self._tracing
        )
        if self._open_inference is not None and infer_metrics is not None:
            desk = self._open_inference.make_desk(lane, self._workers)
            desk = self._guarded(desk, PREDICT, shares, flush)
            self._serve_infer(self._open_inference, desk, infer_metrics)

    def _serve_infer(
        self, protocol: "OpenInference", desk: Desk, counter: CallCounter
    ) -> None:
        desk = self._logged(desk, "ModelInfer")
        protocol.serve_infer(self._dispatcher, desk, counter, self._tracing)

    def _make_infer_metrics(self) -> DeferredMethodMetrics | None:
        if self._open_inference is None:
            return None
        return DeferredMethodMetrics(
            self._metrics, Method.from_path(self._open_inference.path)
        )

    def _find_open_desk(
        self, name: str, describing: Desk, shares: CallerShares
    ) -> Desk:
        """Return the desk of a method of the Open Inference Protocol that does not predict."""
        desk: Desk = describing
        if name in ("ServerLive", "ServerReady"):  # open, as health checks are
            desk = AtOnce()
        elif name == "ModelReady":
            desk = self._guarded(AtOnce(), DESCRIBE, shares)
        return self._logged(desk, name)

    def _shares(self, n_calls: int) -> CallerShares:
        return CallerShares(max(1, int(self._settings.max_caller_share * n_calls)))

    def _guarded(
        self,
        desk: Desk,
        scope: str,
        shares: CallerShares,
        flush: Callable[[], None] = lambda: None,
    ) -> Desk:
        """Return a desk that knows its callers; the same one if anybody may call."""
        if self._guard is None:
            return desk
        return GuardedDesk(desk, self._guard, scope, shares, flush)

    def _logged(self, desk: Desk, method: str) -> Desk:
        """Return a desk whose calls are logged; the same one without an access log."""
        log = self._call_log
        return desk if log is None else LoggedDesk(desk, method, log)

    def _serve_reflection(self) -> None:
        calls = OpenCalls(self._settings.max_streams, self._workers.take_unbounded)
        decode = decode_small(reflection_pb2.ServerReflectionRequest)
        name = "ServerReflectionInfo"
        desk = self._guarded(calls, DESCRIBE, self._shares(self._settings.max_streams))
        self._serve(reflection.SERVICE_NAME, name, desk, decode, "bidi_stream")

    def _serve(
        self,
        service: str,
        name: str,
        desk: Desk,
        decode: Callable[[bytes], Any],
        grpc_type: str = "unary",
        tap: Tap | None = None,
    ) -> None:
        metrics = MethodMetrics(self._metrics, Method(service, name), grpc_type)
        desk = self._logged(desk, name)
        tracing = self._tracing if service == SERVICE_NAME else None
        path = f"/{service}/{name}"
        self._dispatcher.serve(path, desk, metrics, decode, tap, tracing=tracing)

    def _bind(self, certificates: CertificateStore | None, shares_port: bool) -> int:
        host, port = self._settings.host, self._settings.port
        address = join_address(host, port)
        with explain_bind_errors(host, port):
            if not shares_port:
                check_address(host, port)
            if certificates is None:
                return self._server.add_insecure_port(address)
            credentials = make_credentials(certificates)
            return self._server.add_secure_port(address, credentials)


def _join(
    flush: Callable[[], None], other: DeferredMethodMetrics | None
) -> Callable[[], None]:
    """Return what flushes the metrics of both methods of the fast lane, if it has two."""
    if other is None:
        return flush

    def flush_both() -> None:
        flush()
        other.flush()

    return flush_both


def _beat(request: bytes, context: grpc.ServicerContext) -> bytes:
    return b""
