"""Makes what tracing needs, if it is on; nothing of OpenTelemetry is imported before."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from grpc_server.errors import SettingsError
from grpc_server.settings import Settings
from grpc_server.tracing.headers import read_headers
from grpc_server.tracing.sampling import Sampler

if TYPE_CHECKING:
    from grpc_server.tracing.exporter import TraceExporter


@dataclass(frozen=True, slots=True)
class Tracing:
    """What the parts of a server need to be traced.

    Parameters
    ----------
    sampler : Sampler
        Chooses the calls.
    exporter : TraceExporter
        Takes the records.
    find_peer : callable
        Returns the address and port of a call's client.
    """

    sampler: Sampler
    exporter: "TraceExporter"
    find_peer: Callable[[Any], str]


def open_tracing(
    settings: Settings, registry: CollectorRegistry, find_peer: Callable[[Any], str]
) -> Tracing | None:
    """Return what tracing needs, None without a collector.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    registry : CollectorRegistry
        Registers the counts.
    find_peer : callable
        Returns the address and port of a call's client.

    Raises
    ------
    SettingsError
        If OpenTelemetry's messages are not installed, or the file of headers is wrong.
    """
    if settings.otlp_endpoint is None:
        if settings.otlp_headers is not None:
            raise SettingsError("--otlp-headers needs --otlp-endpoint URL")
        return None
    if find_spec("opentelemetry") is None or not find_spec("opentelemetry.proto"):
        raise SettingsError(
            "--otlp-endpoint needs the package opentelemetry-proto; install "
            "prediction-server[tracing]"
        )
    # Imported here: a server without tracing pays neither their time nor their memory.
    from grpc_server.tracing.collector import Collector
    from grpc_server.tracing.exporter import TraceExporter, TraceMetrics
    from grpc_server.tracing.otlp import describe_process

    path = settings.otlp_headers
    headers = None if path is None else read_headers(path)
    exporter = TraceExporter(
        Collector(settings.otlp_endpoint, headers).send,
        describe_process(settings.trace_service),
        TraceMetrics(registry),
    )
    sampler = Sampler(settings.trace_share, exporter.has_room)
    return Tracing(sampler, exporter, find_peer)
