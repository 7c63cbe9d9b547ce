"""Where the server listens, who may connect, and how connections and the server end."""

import re
from dataclasses import dataclass
from pathlib import Path

from grpc_server.settings.setting import setting
from grpc_server.settings.values import (
    boolean,
    integer,
    path,
    positive_seconds,
    seconds,
    share,
)

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


@dataclass(frozen=True, init=False, repr=False, eq=False)
class SecuritySettings:
    """Certificates, callers, and the port for those that know neither."""

    tls_cert: Path | None = setting(
        None,
        path,
        "file of the certificate of both ports, PEM, the server's first; a changed file is read "
        "at the next connection, without a restart (default: plain text)",
    )
    tls_key: Path | None = setting(
        None, path, "file of the certificate's private key, PEM, without a password"
    )
    tls_client_ca: Path | None = setting(
        None,
        path,
        "file of the CAs of clients, PEM; each client of both ports needs a certificate of one",
    )
    health_port: int | None = setting(
        None,
        integer(0, 65535),
        "second port of gRPC, in plain text, for probes that know no TLS: it answers "
        "grpc.health.v1 and nothing else; 0 takes a free one (default: none)",
    )
    tokens_file: Path | None = setting(
        None,
        path,
        "file of callers by token, a line each: name, sha256:DIGEST of the token, scopes of "
        "predict, describe and metrics; a changed file is read within a second (default: anybody "
        "may call)",
    )
    tokens_without_tls: bool = setting(
        False,
        boolean,
        "allow --tokens-file without TLS on other than a loopback address",
    )
    allowed_identities: Path | None = setting(
        None,
        path,
        "file of callers by certificate, a line each: name, dns:NAME or uri:NAME, scopes; needs "
        "--tls-client-ca",
    )
    max_caller_share: float = setting(
        1.0,
        share,
        "most of a method's open calls that one caller may have, as a share of "
        "--max-calls-in-flight or --max-streams, in each process; a caller with more gets "
        "RESOURCE_EXHAUSTED",
    )


@dataclass(frozen=True, init=False, repr=False, eq=False)
class LifetimeSettings:
    """Times of a stop, and of connections that are old, idle or silent."""

    drain_seconds: float = setting(
        5.0,
        seconds,
        "time to report not ready and keep answering after SIGTERM; SIGINT skips it",
    )
    grace_seconds: float = setting(
        20.0, seconds, "time for calls in flight to finish after the drain"
    )
    max_connection_age_seconds: float = setting(
        0.0,
        seconds,
        "age, give or take a tenth, at which a connection is closed once its calls are answered; "
        "if it is below --drain-seconds, no connection is open at a stop; 0 never closes one",
    )
    max_connection_idle_seconds: float = setting(
        900.0,
        seconds,
        "time without a call after which a connection is closed; the next call opens another; 0 "
        "never closes one",
    )
    keepalive_seconds: float = setting(
        60.0,
        positive_seconds,
        "time of silence after which the server pings a client; without a reply within 20 s, its "
        "connection and calls are dropped",
    )
    min_ping_seconds: float = setting(
        5.0,
        seconds,
        "shortest time between two pings of a client on a quiet connection; a client that pings "
        "more often is disconnected; Go clients and balancers ping every 10 s or more",
    )
