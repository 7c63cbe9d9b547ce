"""Opens the gateway of a process, if its settings ask for one."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from grpc_server.access import Access
from grpc_server.gateway.paths import list_paths
from grpc_server.rpc.pulse import PulsePoint
from grpc_server.settings import Settings

if TYPE_CHECKING:
    from grpc_server.gateway.bridge import Bridge
    from grpc_server.gateway.exchange import Handler
    from grpc_server.gateway.process import Gateway


def open_gateway(
    settings: Settings,
    point: PulsePoint,
    more: "Mapping[str, Callable[[Bridge], Handler]]",
    access: Access,
) -> "Gateway | None":
    """Return the gateway of a process, None if the settings ask for none; see `Gateway`."""
    if not list_paths(settings):
        return None
    # Here, so that a server without it starts without protobuf's JSON.
    from grpc_server.gateway.process import Gateway

    return Gateway(settings, point, more, access)
