"""Exceptions of calls: how they read and pickle, not how they travel.

PredictionError                  any failed call; also a code that has no class of its own
 ├─ InvalidInstanceError         the instance does not fit the model; also a ValueError
 ├─ UnavailableError             no server could be reached, or it is shutting down
 │   └─ ModelUnavailableError    the server was reached, but has no model loaded
 ├─ OverloadedError              the server has too many calls in flight
 ├─ DeadlineExceededError        no answer came in time
 ├─ ModelChangedError            no single model answered for all rows of a frame
 └─ ServerError                  the server failed, or is not a prediction server
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

_MAX_SHOWN_VIOLATIONS = 10


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of an instance that does not fit.

    Attributes
    ----------
    field : str
        Path in the request, such as ``features[3]`` or ``record["mean radius"]``.
    description : str
        The value that was sent and what is allowed.
    """

    field: str
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class PredictionError(Exception):
    """A call that failed.

    Parameters
    ----------
    code : grpc.StatusCode
        Kind of failure.
    message : str
        What happened, in the words of the server, or of gRPC if no answer came.

    Attributes
    ----------
    reason : str
        Name of a value of ``prediction.v1.ErrorReason`` without ``ERROR_REASON_``, such as
        ``"BATCH_TOO_LARGE"``. Empty if the server sent none.
    metadata : mapping of str to str
        Values in the message by name, such as ``{"max_rows": "10000"}``. `ErrorReason` lists them.
    request_id : str
        The call's identifier in the server's logs; empty if the server sent none.

    Notes
    -----
    If a call failed, ``__cause__`` is its ``grpc.RpcError``.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.reason = ""
        self.metadata: Mapping[str, str] = {}
        self.request_id = ""

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}" if self.message else self.code.name


class InvalidInstanceError(PredictionError, ValueError):
    """The instance does not fit, as the server or the client itself found.

    Parameters
    ----------
    code : grpc.StatusCode
        INVALID_ARGUMENT.
    message : str
        What does not fit.
    violations : iterable of FieldViolation, default=()
        Each field that does not fit. Empty if the server named none.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        violations: Iterable[FieldViolation] = (),
    ) -> None:
        super().__init__(code, message)
        self.violations = tuple(violations)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.violations), self.__dict__

    def __str__(self) -> str:
        # The server's message may be one of the violations, which is then not repeated.
        untold = [str(v) for v in self.violations if str(v) not in self.message]
        shown = untold[:_MAX_SHOWN_VIOLATIONS]
        if len(untold) > len(shown):
            shown.append(f"{len(untold) - len(shown)} more")
        return "; ".join([super().__str__(), *shown])


class UnavailableError(PredictionError):
    """No server could be reached, or it is shutting down, at each of the attempts."""


class ModelUnavailableError(UnavailableError):
    """The server was reached, but has no model loaded, at each of the attempts."""


class OverloadedError(PredictionError):
    """The server has too many calls in flight. The client does not retry.

    Parameters
    ----------
    code : grpc.StatusCode
        RESOURCE_EXHAUSTED.
    message : str
        What is exhausted.
    retry_after_seconds : float or None, default=None
        Time after which to call again, [0, inf). None if the server did not say.
    """

    def __init__(  # noqa: B042  pickled by __reduce__
        self,
        code: grpc.StatusCode,
        message: str,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(code, message)
        self.retry_after_seconds = retry_after_seconds

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.code, self.message, self.retry_after_seconds)
        return type(self), arguments, self.__dict__


class DeadlineExceededError(PredictionError):
    """No answer came in time."""


class ModelChangedError(PredictionError):
    """The model changed while the client sent a frame, and again when it sent all rows anew."""


class ServerError(PredictionError):
    """The server failed, or answered UNIMPLEMENTED because it is not a prediction server."""
