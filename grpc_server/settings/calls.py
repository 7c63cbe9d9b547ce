"""Which calls are answered, by which threads, and what limits them."""

from dataclasses import dataclass

from grpc_server.settings.setting import setting
from grpc_server.settings.values import boolean, integer, positive_seconds

LANES = ("fast", "pool")


def _lane(text: str) -> str:
    if text not in LANES:
        raise ValueError("one of " + ", ".join(LANES))
    return text


@dataclass(frozen=True, init=False, repr=False, eq=False)
class CapacitySettings:
    """Threads, processes and their line."""

    lane: str = setting(
        "fast",
        _lane,
        "threads that answer Predict: fast is the thread that receives calls; pool is the worker "
        "threads, for models that take milliseconds",
    )
    max_calls_in_flight: int = setting(
        512,
        integer(1, 100_000),
        "most calls that wait or run in a lane; more get RESOURCE_EXHAUSTED; health checks are not "
        "limited",
    )
    workers: int = setting(4, integer(1, 64), "worker threads; 2 to 4 are best")
    processes: int = setting(
        1,
        integer(1, 64),
        "processes that share the port, each with its own copy of the model; a connection stays "
        "with one process",
    )


def _model_name(text: str) -> str:
    if not 0 < len(text) <= 256 or not text.isprintable() or text != text.strip():
        raise ValueError("a name of 1 to 256 printable characters")
    return text


@dataclass(frozen=True, init=False, repr=False, eq=False)
class ServiceSettings:
    """Services that can be switched off."""

    drift_features: int = setting(
        30,
        integer(0, 500),
        "features whose drift is counted bin by bin, the most important first; the others get one "
        "index each; 0 counts nothing",
    )
    describe: bool = setting(
        True, boolean, "answer GetModel, which names the model's features and classes"
    )
    open_inference: bool = setting(
        True,
        boolean,
        "serve the Open Inference Protocol v2, which clients of KServe and Triton speak: "
        "inference.GRPCInferenceService, and /v2 on the HTTP port",
    )
    model_name: str = setting(
        "",
        _model_name,
        "name of the model in calls of the Open Inference Protocol; by default that of "
        "--model-uri's registered model, or model without one",
    )
    page: bool = setting(
        True,
        boolean,
        "show a page with the model and a form on the HTTP port, and answer predictions in JSON "
        "there",
    )
    reflection: bool = setting(
        True, boolean, "serve gRPC reflection, which grpcurl needs"
    )


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
