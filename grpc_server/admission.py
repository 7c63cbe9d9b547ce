"""Which calls are computed: none that nobody waits for."""

from typing import Protocol

from grpc_server.errors import CallCancelled, DeadlineExceeded


class WaitedFor(Protocol):
    """A call, as far as it can be given up."""

    def time_remaining(self) -> float:
        """Return the seconds until the deadline, infinite without one."""
        ...

    def is_active(self) -> bool:
        """Return False if the caller hung up."""
        ...


def check_waited_for(call: WaitedFor) -> None:
    """Refuse what nobody waits for any more, before it costs a prediction.

    Raises
    ------
    DeadlineExceeded
        If the deadline of the call passed.
    CallCancelled
        If its caller hung up.
    """
    if call.time_remaining() <= 0:
        raise DeadlineExceeded("the deadline passed before the call could be answered")
    if not call.is_active():
        raise CallCancelled("the call was cancelled before it could be answered")
