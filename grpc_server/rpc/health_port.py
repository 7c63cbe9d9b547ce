"""The methods of the health service, on the gRPC port and on a plain port of their own."""

from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_server.metrics import Method, MethodMetrics, Metrics
from grpc_server.ports import check_address, explain_bind_errors
from grpc_server.rpc.calls import Desk
from grpc_server.rpc.channel_options import make_channel_options
from grpc_server.rpc.desks import AtOnce, OpenCalls
from grpc_server.rpc.dispatcher import Dispatcher
from grpc_server.rpc.health import HEALTH_NAME, Health, HealthServicer
from grpc_server.rpc.patience import Patience
from grpc_server.rpc.requests import decode_small
from grpc_server.rpc.unknown_methods import UNKNOWN, ServingThread, UnknownMethods
from grpc_server.settings import Settings

# The oldest allowed version of grpcio-health-checking has no List.
_HEALTH_METHODS = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name


def make_patience(settings: Settings) -> Patience:
    """Return the time limits of calls."""
    return Patience(
        message_seconds=settings.message_seconds,
        pause_seconds=settings.stream_idle_seconds,
        taking_seconds=settings.answer_seconds,
    )


def serve_health(dispatcher: Dispatcher, metrics: Metrics, max_watches: int) -> None:
    """Give the methods of the health service their desks.

    Parameters
    ----------
    dispatcher : Dispatcher
        Dispatcher of a server that has the health service.
    metrics : Metrics
        Counts the calls.
    max_watches : int
        Most open calls of Watch.
    """
    at_once = AtOnce()
    watches = OpenCalls(max_watches, at_once.take)
    check = decode_small(health_pb2.HealthCheckRequest)
    methods: list[tuple[str, Desk, Callable[[bytes], Any], str]]
    methods = [
        ("Check", at_once, check, "unary"),
        ("Watch", watches, check, "server_stream"),
    ]
    if "List" in _HEALTH_METHODS:
        list_all = decode_small(health_pb2.HealthListRequest)
        methods.append(("List", at_once, list_all, "unary"))
    for name, desk, decode, grpc_type in methods:
        counter = MethodMetrics(metrics, Method(HEALTH_NAME, name), grpc_type)
        dispatcher.serve(f"/{HEALTH_NAME}/{name}", desk, counter, decode)


class HealthEndpoint:
    """A plain port that answers the health service and nothing else, from `start` to `stop`.

    Probes that know no TLS use it. It has no other service, so that nobody else can.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    port : int
        Port, [0, 65535]; 0 takes a free one.
    metrics : Metrics
        Counts the calls.
    health : Health
        State of the health checks.
    why_not_alive : callable
        Returns the reason why the other port does not answer, None if it does: a thread of its own
        serves this port.
    shares_port : bool
        Whether other processes listen on the port too; the caller has reserved it then.

    Raises
    ------
    StartupError
        If the port cannot be bound.
    """

    def __init__(
        self,
        settings: Settings,
        port: int,
        metrics: Metrics,
        health: Health,
        why_not_alive: Callable[[], str | None],
        *,
        shares_port: bool = False,
    ) -> None:
        server = grpc.server(
            ServingThread(),  # type: ignore[arg-type]  # grpcio accepts any executor
            interceptors=[UnknownMethods(MethodMetrics(metrics, UNKNOWN, "unknown"))],
            options=make_channel_options(settings, shares_port),
        )
        servicer = HealthServicer(health, why_not_alive)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        self._dispatcher = Dispatcher(server, make_patience(settings))
        serve_health(self._dispatcher, metrics, settings.max_watches)
        host = settings.host
        with explain_bind_errors(host, port, flag="--health-port"):
            if not shares_port:
                check_address(host, port)
            self.port = server.add_insecure_port(join_address(host, port))

    def start(self) -> None:
        """Start to answer."""
        self._dispatcher.start()

    def stop(self, grace_seconds: float) -> None:
        """Accept no new calls, finish those in flight in the grace time, and free the port."""
        self._dispatcher.stop(grace_seconds)


def join_address(host: str, port: int) -> str:
    """Return an address as gRPC writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
