"""Options of grpc-core: limits of connections and messages, and time limits of silent peers."""

from grpc_server.settings import Settings

# Calls that wait in grpc-core for the serving thread. The limit bounds memory: 13 KiB each.
_MAX_PENDING_CALLS = 10_000
# Time for a new connection to send its first bytes of HTTP/2; grpc-core's default is two minutes.
_HANDSHAKE_MS = 20_000
# Time for a peer to reply to a ping, after which it counts as gone.
_KEEPALIVE_TIMEOUT_MS = 20_000


def make_channel_options(
    settings: Settings, shares_port: bool
) -> list[tuple[str, int]]:
    """Return the options of the gRPC server.

    Parameters
    ----------
    settings : Settings
        Settings of the server.
    shares_port : bool
        Whether other processes listen on the same port.

    Returns
    -------
    list of (str, int)
        Names and values of grpc-core's options.
    """
    options = [
        # By default, a second server on the same port would take half of the calls, without error.
        ("grpc.so_reuseport", int(shares_port)),
        # Beyond this many pending calls, 1,000 by default, grpc-core cancels some at random and
        # without a reason. With the higher limit, the desks refuse calls first, and say when to
        # retry.
        ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # Allows pings on a connection without calls, which balancers send.
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            _milliseconds(settings.min_ping_seconds),
        ),
    ]
    if settings.max_connection_idle_seconds:
        idle_ms = _milliseconds(settings.max_connection_idle_seconds)
        options.append(("grpc.max_connection_idle_ms", idle_ms))
    if settings.max_connection_age_seconds:
        # A busy client keeps its connection during the drain, because it resolves no endpoints
        # meanwhile. A call that arrives on it while the server stops ends with CANCELLED, which
        # clients do not retry. A limited age also lets clients find new pods.
        age_ms = _milliseconds(settings.max_connection_age_seconds)
        options.append(("grpc.max_connection_age_ms", age_ms))
    return options


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
