"""How a client reaches its servers: the target's spelling, retries, balancing and size limits."""

import json
import re
from collections.abc import Iterable

import grpc

from prediction.v1 import prediction_service_pb2 as pb

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["PredictionService"].full_name
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Size up to which an answer is read, as the server's default. Only GetModel's can come near."""

MAX_ATTEMPTS_LIMIT = 5
"""gRPC allows no more attempts than these (gRFC A6)."""

# https://github.com/grpc/grpc/blob/master/doc/naming.md
_SCHEMES = frozenset("dns google-c2p ipv4 ipv6 unix unix-abstract vsock xds".split())
_HOST_AND_PORT = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/@\[\]]+):(?P<port>[0-9]{1,5})"
)
_LOOPBACK = re.compile(r"(.*/)?(localhost|127(\.[0-9]+){3}|\[::1\]):[0-9]+")

ChannelOption = tuple[str, str | int]


def open_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    max_attempts: int,
    options: Iterable[ChannelOption],
) -> grpc.Channel:
    """Open a channel to `target`, encrypted if there are credentials."""
    address = normalize_target(target)
    # Merged here: of two arguments with one name, gRPC takes the first.
    arguments = list((_default_options(address, max_attempts) | dict(options)).items())
    if credentials is None:
        return grpc.insecure_channel(address, arguments)
    return grpc.secure_channel(address, credentials, arguments)


def normalize_target(target: str) -> str:
    """Return a target with a scheme: ``dns:///`` is put before a plain ``host:port``.

    Raises
    ------
    ValueError
        If the target is neither ``host:port`` nor a name with one of gRPC's schemes.
    """
    plain = _HOST_AND_PORT.fullmatch(target)
    if plain and 0 < int(plain["port"]) < 2**16:
        return f"dns:///{target}"
    scheme, separator, rest = target.partition(":")
    if separator and rest and scheme in _SCHEMES and not plain:
        return target
    raise ValueError(
        f"{target!r} is no target: give host:port, such as localhost:50051, or a name with one of "
        f"gRPC's schemes, such as unix:/run/prediction.sock"
    )


def _default_options(address: str, max_attempts: int) -> dict[str, str | int]:
    options: dict[str, str | int] = {
        "grpc.service_config": json.dumps(_service_config(max_attempts)),
        # The configuration above is the whole of it: no look-up of TXT records in DNS.
        "grpc.service_config_disable_resolution": 1,
        "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
        # Unlimited: how much it takes is the server's word, and its answer names the limit.
        "grpc.max_send_message_length": -1,
        # By default a lost server is looked for after 1 s, in the end every 2 minutes: all attempts
        # of a call would fall into one pause, and a server that came back would stay unseen.
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 2000,
    }
    if _LOOPBACK.fullmatch(address):
        # gRPC obeys http_proxy also for loopback, where the proxy would look at itself.
        options["grpc.enable_http_proxy"] = 0
    return options


def _service_config(max_attempts: int) -> dict[str, object]:
    """Return gRPC's service config (gRFC A2).

    Predict and GetModel change nothing, so UNAVAILABLE is retried (AIP-194), and nothing else.
    Health never is: its first answer is the news.
    """
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if max_attempts > 1:
        policy = {
            "maxAttempts": max_attempts,
            "initialBackoff": "0.1s",
            "maxBackoff": "1s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [
            {"name": [{"service": SERVICE_NAME}], "retryPolicy": policy}
        ]
        # A failure takes one of the tokens, a success gives a tenth back, and with half of them
        # gone nothing is retried (gRFC A6): clients must not multiply the load of servers in need.
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    return config
