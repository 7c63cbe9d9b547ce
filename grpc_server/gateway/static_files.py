"""The page of the model and that of the HTTP interface: files that hold nothing of the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from types import MappingProxyType

from grpc_server.gateway.exchange import HttpReply, HttpRequest, refuse

_COMMON = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
)
# Nothing inline, and no text of a model can become code: browsers refuse it as well.
_PAGE_POLICY = _COMMON + (
    "script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# Swagger UI writes styles into its elements, and has its pictures in them.
_DOCS_POLICY = _COMMON + (
    "script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src 'self' data:"
)
_HTML = "text/html; charset=utf-8"
_CSS = "text/css; charset=utf-8"
_SCRIPT = "text/javascript; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the package, as the server gives it out."""

    name: str
    kind: str
    policy: str = _PAGE_POLICY


_FILES: Mapping[str, _File] = MappingProxyType(
    {
        "/": _File("files/page.html", _HTML),
        "/page.css": _File("files/page.css", _CSS),
        "/page.js": _File("files/page.js", _SCRIPT),
        "/openapi.json": _File("files/openapi.json", "application/json"),
        "/docs": _File("files/docs.html", _HTML, _DOCS_POLICY),
        "/docs/docs.css": _File("files/docs.css", _CSS, _DOCS_POLICY),
        "/docs/docs.js": _File("files/docs.js", _SCRIPT, _DOCS_POLICY),
        "/docs/swagger-ui.css": _File("swagger/swagger-ui.css", _CSS, _DOCS_POLICY),
        "/docs/swagger-ui-bundle.js": _File(
            "swagger/swagger-ui-bundle.js", _SCRIPT, _DOCS_POLICY
        ),
    }
)


def show_file(request: HttpRequest) -> HttpReply:
    """Answer a request for one of the files; anybody may see them."""
    head = request.head
    if head.method not in ("GET", "HEAD"):
        allow = (("Allow", "GET, HEAD"),)
        message = f"{head.path[:100]} takes GET, not {head.method[:20]!r}"
        return refuse(HTTPStatus.METHOD_NOT_ALLOWED, message, allow)
    file = _FILES.get(head.path)
    content = None if file is None else _read(file.name)
    if file is None or content is None:
        return refuse(HTTPStatus.NOT_FOUND, f"there is no file {head.path[:100]!r}")
    headers = (("Content-Security-Policy", file.policy),)
    return HttpReply(HTTPStatus.OK, content, file.kind, headers)


def _read(name: str) -> bytes | None:
    """Return a file of the package, None if it is not there: Swagger UI is brought by make."""
    try:
        return files("grpc_server.gateway").joinpath(name).read_bytes()
    except FileNotFoundError:
        return None
