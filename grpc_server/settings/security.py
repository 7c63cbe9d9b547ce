"""Who may connect and call: TLS, tokens and identities."""

from dataclasses import dataclass
from pathlib import Path

from grpc_server.settings.setting import setting
from grpc_server.settings.values import boolean, integer, path, share


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
