"""Pages of REST v2 that need no model: what runs here, and whether it is alive and ready."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from grpc_server import __version__
from grpc_server.settings import Settings

DISTRIBUTION = "prediction-server"

Page = Callable[[], tuple[HTTPStatus, dict[str, Any]]]


def make_pages(
    settings: Settings,
    why_not_ready: Callable[[], str | None],
    why_not_alive: Callable[[], str | None],
) -> Mapping[str, Page]:
    """Return the pages by path.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    why_not_ready, why_not_alive : callable
        Return None if the server is ready or alive, otherwise the reason.

    Returns
    -------
    mapping of str to callable
        Returns status and content of each page; empty if the settings ask for none.
    """
    if not settings.open_inference:
        return {}
    return {
        "/v2": _describe_server,
        "/v2/health/live": lambda: _tell("live", why_not_alive()),
        "/v2/health/ready": lambda: _tell("ready", why_not_ready()),
    }


def _describe_server() -> tuple[HTTPStatus, dict[str, Any]]:
    content: dict[str, Any] = {"name": DISTRIBUTION, "version": __version__}
    content["extensions"] = ["binary_tensor_data"]
    return HTTPStatus.OK, content


def _tell(what: str, reason: str | None) -> tuple[HTTPStatus, dict[str, Any]]:
    if reason is None:
        return HTTPStatus.OK, {what: True}
    return HTTPStatus.SERVICE_UNAVAILABLE, {what: False, "error": reason}
