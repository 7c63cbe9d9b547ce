"""Which build of the server runs."""

import platform

from prometheus_client import CollectorRegistry, Gauge

from grpc_server import __version__


def show_build(registry: CollectorRegistry, grpcio_version: str, revision: str) -> None:
    """Register the metric that tells versions apart.

    Parameters
    ----------
    registry : CollectorRegistry
        Registers the metric.
    grpcio_version : str
        Version of the package that is imported.
    revision : str
        Revision of the code; empty if it is not known.
    """
    info = Gauge(
        "prediction_build_info",
        "1 for the server's version, its Python and grpcio, and the revision of the settings.",
        ("version", "python", "grpcio", "revision"),
        registry=registry,
        multiprocess_mode="livemax",
    )
    versions = __version__, platform.python_version(), grpcio_version
    info.labels(*versions, revision or "unknown").set(1)
