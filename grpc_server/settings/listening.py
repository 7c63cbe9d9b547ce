"""When and where the server listens."""

import re
from dataclasses import dataclass

from grpc_server.settings.setting import setting
from grpc_server.settings.values import boolean, integer

_HOST_NAME = r"[\w-]{1,63}(\.[\w-]{1,63})*"


def _host(text: str) -> str:
    """Return an address or a name for a socket, without the brackets of URIs."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    is_address_6 = re.fullmatch(
        r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%\w+)?", host
    )
    if not is_address_6 and not re.fullmatch(_HOST_NAME, host, re.ASCII):
        raise ValueError(
            "an address or a name, such as 0.0.0.0, ::1 or localhost; --port sets the port"
        )
    return host


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ListeningSettings:
    """Start, address and ports."""

    wait_for_model: bool = setting(
        False,
        boolean,
        "start without a model, and report not ready until --model-dir holds one",
    )
    host: str = setting(
        "0.0.0.0", _host, "address to listen on, such as 127.0.0.1 or ::1"
    )
    port: int = setting(50051, integer(0, 65535), "port of gRPC; 0 takes a free one")
    http_port: int = setting(
        8080, integer(0, 65535), "port of /metrics and /health; 0 takes a free one"
    )
