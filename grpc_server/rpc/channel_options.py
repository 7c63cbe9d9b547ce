"""Options of grpc-core: bounds of connections and messages, and of how long peers may be silent."""

from grpc_server.settings import Settings

# A bound on memory, some 13 KiB each: what waits in grpc-core until the serving thread accepts it.
_MAX_PENDING_CALLS = 10_000
# A connection whose first bytes of HTTP/2 have not come by then is closed; by default, after two
# minutes.
_HANDSHAKE_MS = 20_000
# A peer that does not answer a ping by then is gone.
_KEEPALIVE_TIMEOUT_MS = 20_000


def make_channel_options(
    settings: Settings, shares_port: bool
) -> list[tuple[str, int]]:
    """Return the options of the gRPC server; with `shares_port`, others listen on its port."""
    options = [
        # Else a second server on the same port takes half of the calls without an error.
        ("grpc.so_reuseport", int(shares_port)),
        # Beyond so many calls that nobody has accepted, 1,000 by default, grpc-core cancels some at
        # random, without a word to the caller: before that, the bound of calls in flight refuses
        # them, and says when to try again.
        ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_concurrent_streams", settings.max_calls_per_connection),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        # Clients may ping whether or not they have a call under way: a balancer may be between.
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
        # A connection kept by a busy client outlives the draining, since it needs no endpoint any
        # more: a call that arrives on it while the server stops is answered CANCELLED, which no
        # client tries again. It also lets clients find pods that are new.
        age_ms = _milliseconds(settings.max_connection_age_seconds)
        options.append(("grpc.max_connection_age_ms", age_ms))
    return options


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
