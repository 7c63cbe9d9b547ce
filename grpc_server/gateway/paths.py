"""Which paths the gateway answers; the supervisor passes the same ones on."""

from grpc_server.access import Access
from grpc_server.gateway.bodies import BodyReader, BodyRoom
from grpc_server.gateway.senders import SenderCheck
from grpc_server.settings import Settings

JSON_API = "/v1"
REST_MODELS = "/v2/models"
PAGES = ("/", "/page.css", "/page.js", "/docs", "/openapi.json")
# As behind the proxy. Python parses a body without a pause, in which no call is answered.
MAX_JSON_BYTES = 1024 * 1024
# Memory for the bodies of all requests, in bodies of the largest size.
_N_BODIES = 2


def list_paths(settings: Settings) -> tuple[str, ...]:
    """Return the paths; those below them belong to them."""
    of_page = (JSON_API, *PAGES) if settings.page else ()
    return (*of_page, REST_MODELS) if settings.open_inference else of_page


def make_bodies(settings: Settings, access: Access) -> BodyReader:
    """Return what reads the bodies of requests."""
    max_bytes = settings.max_message_bytes
    limits = {JSON_API: min(MAX_JSON_BYTES, max_bytes)}
    room = BodyRoom(_N_BODIES * max_bytes)
    return BodyReader(max_bytes, room, limits, SenderCheck(access))
