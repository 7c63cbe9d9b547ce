"""Paths of REST v2 that belong to a model."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Self
from urllib.parse import unquote_to_bytes

from grpc_server.gateway.paths import REST_MODELS
from grpc_server.model.kinds import quote
from grpc_server.rest.refusals import Refusal

_DEEDS = ("infer", "ready")


@dataclass(frozen=True, slots=True)
class Place:
    """What a path asks for.

    Parameters
    ----------
    model : str
        Name of a model.
    version : str
        Version of it; empty if the path names none.
    deed : str
        "infer", "ready", or "" for the metadata.
    """

    model: str
    version: str
    deed: str

    @classmethod
    def read(cls, path: str) -> Self:
        """Read a path below `REST_MODELS`, as it came.

        Raises
        ------
        Refusal
            If no model has such a path.
        """
        parts = path.removeprefix(f"{REST_MODELS}/").split("/")
        deed = parts.pop() if len(parts) > 1 and parts[-1] in _DEEDS else ""
        match parts:
            case [model] if model and path.startswith(f"{REST_MODELS}/"):
                return cls(_decode(model), "", deed)
            case [model, "versions", version] if model and version:
                return cls(_decode(model), _decode(version), deed)
        raise Refusal(
            f"there is no path {quote(path)}; there are {REST_MODELS}/NAME and "
            f"{REST_MODELS}/NAME/versions/VERSION, each alone and with /ready or /infer",
            HTTPStatus.NOT_FOUND,
        )

    @property
    def verb(self) -> str:
        """Method that the path takes."""
        return "POST" if self.deed == "infer" else "GET"


def _decode(part: str) -> str:
    """Decode one part of a path: a slash in a name is no end of it."""
    try:
        return unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise Refusal(f"{quote(part)} is not UTF-8", HTTPStatus.NOT_FOUND) from None
