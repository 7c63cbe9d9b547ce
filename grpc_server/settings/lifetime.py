"""How the server and its connections end."""

from dataclasses import dataclass

from grpc_server.settings.setting import setting
from grpc_server.settings.values import positive_seconds, seconds


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
