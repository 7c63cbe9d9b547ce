"""Which threads and processes answer, and how many calls may wait for them."""

from dataclasses import dataclass

from grpc_server.settings.setting import setting
from grpc_server.settings.values import integer

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
