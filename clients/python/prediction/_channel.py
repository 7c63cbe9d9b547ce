"""Channels: the syntax of targets, retries, load balancing and size limits."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import grpc.aio

from prediction.v1 import prediction_service_pb2 as pb

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["PredictionService"].full_name
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest answer that is read, equal to the server's default. Only GetModel comes near it."""

MAX_ATTEMPTS_LIMIT = 5
"""Most attempts that gRPC allows (gRFC A6)."""

# https://github.com/grpc/grpc/blob/master/doc/naming.md
_SCHEMES = frozenset("dns google-c2p ipv4 ipv6 unix unix-abstract vsock xds".split())
_HOST_AND_PORT = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/@\[\]]+):(?P<port>[0-9]{1,5})"
)
_LOOPBACK = re.compile(r"(.*/)?(localhost|127(\.[0-9]+){3}|\[::1\]):[0-9]+")

ChannelOption = tuple[str, str | int]


@dataclass(frozen=True, slots=True)
class ChannelArguments:
    """What a channel is opened with: its address, with a scheme, and gRPC's channel arguments."""

    address: str
    options: tuple[ChannelOption, ...]


def open_channel(
    target: str,
    credentials: grpc.ChannelCredentials | None,
    max_attempts: int,
    options: Iterable[ChannelOption],
) -> grpc.Channel:
    """Open a channel, encrypted if there are credentials.

    Parameters
    ----------
    target : str
        As in `normalize_target`.
    credentials : grpc.ChannelCredentials or None
        None sends in plain text.
    max_attempts : int
        Attempts of each call, [1, 5].
    options : iterable of (str, str or int)
        gRPC channel arguments, which replace this module's own.

    Returns
    -------
    grpc.Channel
        It connects at the first call.

    Raises
    ------
    ValueError
        If the target is not one.
    """
    arguments = channel_arguments(target, max_attempts, options)
    if credentials is None:
        return grpc.insecure_channel(arguments.address, arguments.options)
    return grpc.secure_channel(arguments.address, credentials, arguments.options)


def open_async_channel(
    arguments: ChannelArguments, credentials: grpc.ChannelCredentials | None
) -> grpc.aio.Channel:
    """Open a channel of the running event loop, encrypted if there are credentials."""
    if credentials is None:
        return grpc.aio.insecure_channel(arguments.address, arguments.options)
    return grpc.aio.secure_channel(arguments.address, credentials, arguments.options)


def channel_arguments(
    target: str, max_attempts: int, options: Iterable[ChannelOption]
) -> ChannelArguments:
    """Return what a channel is opened with; the parameters are those of `open_channel`.

    Raises
    ------
    ValueError
        If the target is not one.
    """
    address = normalize_target(target)
    # Merged here, because gRPC takes the first of two arguments with one name.
    merged = _default_options(address, max_attempts) | dict(options)
    return ChannelArguments(address, tuple(merged.items()))


def normalize_target(target: str) -> str:
    """Return a target with a scheme.

    Parameters
    ----------
    target : str
        ``host:port``, or a name with one of gRPC's schemes.

    Returns
    -------
    str
        A plain ``host:port`` with ``dns:///`` before it; any other target as it is.

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
        f"{target!r} is not a target; give host:port, such as localhost:50051, or a name with a "
        "gRPC scheme, such as unix:/run/prediction.sock"
    )


def _default_options(address: str, max_attempts: int) -> dict[str, str | int]:
    options: dict[str, str | int] = {
        "grpc.service_config": json.dumps(_service_config(max_attempts)),
        # The configuration above is complete, so no TXT records are looked up in DNS.
        "grpc.service_config_disable_resolution": 1,
        "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
        # Unlimited: the server decides how much it takes, and its answer names the limit.
        "grpc.max_send_message_length": -1,
        # By default, gRPC reconnects after 1 s at first and every 2 minutes in the end. All
        # attempts of a call would fall into one pause, and miss a server that has come back.
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 2000,
    }
    if _LOOPBACK.fullmatch(address):
        # gRPC uses http_proxy for loopback too, where the proxy would reach its own machine.
        options["grpc.enable_http_proxy"] = 0
    return options


def _service_config(max_attempts: int) -> dict[str, object]:
    """Return gRPC's service config (gRFC A2).

    Predictions and GetModel change nothing, so UNAVAILABLE is retried (AIP-194). No other code is.
    Health checks are never retried, because their first answer is what the caller wants to know.
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
        # A failure takes a token, a success gives a tenth back. With half of the tokens gone, gRPC
        # stops retrying (gRFC A6). So clients do not multiply the load of struggling servers.
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.1}
    return config
