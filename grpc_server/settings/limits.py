"""How large a message may be, how many calls may be open, and how long they wait."""

from dataclasses import dataclass

from grpc_server.settings.setting import setting
from grpc_server.settings.values import integer, positive_seconds


@dataclass(frozen=True, init=False, repr=False, eq=False)
class LimitSettings:
    """Bounds of what callers may use."""

    max_message_bytes: int = setting(
        16 * 1024 * 1024,
        integer(1024, 2**31 - 1),
        "largest message to receive or to send, in bytes",
    )
    max_batch_rows: int = setting(
        10_000,
        integer(1, 1_000_000),
        "most instances of one batch, or of one chunk of a stream; --max-message-bytes also limits "
        "them, by default to 10,000 instances of 200 numbers",
    )
    max_streams: int = setting(
        1024,
        integer(1, 100_000),
        "most open streams; more get RESOURCE_EXHAUSTED; a stream that waits for its caller holds "
        "no thread",
    )
    max_watches: int = setting(
        10_000,
        integer(1, 1_000_000),
        "most open calls of Health/Watch, of about 10 KiB each; more get RESOURCE_EXHAUSTED; a "
        "client that checks health has one per connection",
    )
    max_calls_per_connection: int = setting(
        1024,
        integer(1, 100_000),
        "most open calls of one connection, which limits its memory; clients hold further calls "
        "back once they know the limit",
    )
    message_seconds: float = setting(
        10.0,
        positive_seconds,
        "longest time that a call waits for its message before it gets DEADLINE_EXCEEDED",
    )
    stream_idle_seconds: float = setting(
        300.0,
        positive_seconds,
        "longest time that a stream waits for its next message before it gets DEADLINE_EXCEEDED",
    )
    answer_seconds: float = setting(
        60.0,
        positive_seconds,
        "longest time that a caller may take to receive a reply before the call is cut off; the "
        "reply stays in memory meanwhile",
    )
