"""The gateway of one process: its sites, its desk, and the socket of the supervisor."""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from grpc_server.access import Access
from grpc_server.gateway.bridge import Bridge
from grpc_server.gateway.desk import GatewayDesk
from grpc_server.gateway.exchange import Handler
from grpc_server.gateway.forward import InnerDesk
from grpc_server.gateway.json_api import JsonApi
from grpc_server.gateway.paths import JSON_API, PAGES, list_paths, make_bodies
from grpc_server.gateway.static_files import show_file
from grpc_server.http_desk import HttpDesk
from grpc_server.http_endpoint import HttpEndpoint
from grpc_server.rpc.pulse import PulsePoint
from grpc_server.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Gateway:
    """What answers requests in one process, until `stop`.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    point : PulsePoint
        Where the process's own gRPC server listens.
    more : mapping of str to callable
        What makes the sites of other packages, by path.
    access : Access
        Who may call.
    """

    def __init__(
        self,
        settings: Settings,
        point: PulsePoint,
        more: Mapping[str, Callable[[Bridge], Handler]],
        access: Access,
    ) -> None:
        self._bridge = Bridge(point.address, point.gateway_key, settings)
        sites = self._make_sites(settings, more)
        self._desk = GatewayDesk(sites, make_bodies(settings, access))
        self._inner: HttpEndpoint | None = None

    @property
    def desks(self) -> tuple[HttpDesk, ...]:
        """Desks for the HTTP port of the same process."""
        return (self._desk,)

    def listen(self, listener: socket.socket) -> None:
        """Answer the supervisor on the socket that it has made for this process."""
        desk = InnerDesk(self._desk, os.getppid())
        self._inner = HttpEndpoint("", 0, _no_page, desks=(desk,), listener=listener)
        self._inner.start()

    def _make_sites(
        self, settings: Settings, more: Mapping[str, Callable[[Bridge], Handler]]
    ) -> dict[str, Handler]:
        sites: dict[str, Handler] = dict.fromkeys(PAGES, show_file)
        sites[JSON_API] = JsonApi(self._bridge)
        sites.update({path: make(self._bridge) for path, make in more.items()})
        return {path: sites[path] for path in list_paths(settings)}

    def stop(self) -> None:
        """Stop answering."""
        if self._inner is not None:
            self._inner.stop()
        self._desk.stop()
        self._bridge.stop()


def _no_page(
    environ: "WSGIEnvironment", start_response: "StartResponse"
) -> Iterable[bytes]:
    start_response(f"{HTTPStatus.NOT_FOUND.value} Not Found", [])
    return []
