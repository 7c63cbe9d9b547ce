"""Makes the site of REST v2 where the settings ask for it; nothing else imports its parts."""

from collections.abc import Callable, Mapping

from grpc_server.access import Access
from grpc_server.gateway.bridge import Bridge
from grpc_server.gateway.exchange import Handler
from grpc_server.gateway.paths import REST_MODELS
from grpc_server.model import LoadedModel
from grpc_server.settings import Settings


def make_sites(
    get_model: Callable[[], LoadedModel], access: Access, settings: Settings
) -> Mapping[str, Callable[[Bridge], Handler]]:
    """Return what makes the site of a bridge, by its path.

    Parameters
    ----------
    get_model : callable
        Returns the model that answers.
    access : Access
        Who may call.
    settings : Settings
        Settings of the server.
    """
    if not settings.open_inference:
        return {}
    from grpc_server.oip.identity import Identity
    from grpc_server.rest.site import RestSite

    identity = Identity(get_model, settings.model_name)
    return {REST_MODELS: lambda bridge: RestSite(bridge, identity, access, settings)}
