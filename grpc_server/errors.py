"""Domain errors, independent of gRPC and HTTP.

DomainError
 ├─ CallError                 one call fails; the caller gets a status (`rpc.statuses`)
 │   ├─ InvalidInstance       the request does not fit the model's input schema
 │   ├─ BatchTooLarge         the batch has more rows than the server accepts
 │   ├─ ModelUnavailable      no model is loaded
 │   ├─ DeadlineExceeded      the caller's deadline passed before the prediction began
 │   ├─ CallCancelled         the caller hung up before the prediction began
 │   ├─ Overloaded            more calls are in flight than the server admits
 │   ├─ MalformedMessage      the bytes are not a message of the method's type
 │   ├─ MessageMissing        the caller sent no message
 │   ├─ MessageOverdue        the message did not arrive in time
 │   ├─ MessageRefused        grpcio refused the message and ended the call
 │   ├─ UnknownMethod         the server has no such method
 │   │   └─ NotSupported      the server has not this part of the Open Inference Protocol
 │   ├─ UnknownService        a health check names a service that the server does not have
 │   │   └─ UnknownModel      the server does not have this model, or this version of it
 │   ├─ Unauthenticated       the call has no credentials, or wrong ones
 │   ├─ TooManyAttempts       the connection has sent too many wrong tokens
 │   ├─ NotAllowed            the caller may not make the call
 │   ├─ ShareExhausted        the caller has its share of calls open
 │   └─ ServerStops           a watch ends because the server stops
 └─ StartupError           the process cannot do its work; the message says what to change
     ├─ TableError         a table cannot be scored
     ├─ SettingsError      a flag or an environment variable is unknown or has no valid value
     ├─ FollowedFileError  a file that is read again when it changes cannot be used
     │   ├─ CertificateError  a file of TLS
     │   └─ CallersError      a file of callers
     ├─ RegistryError      the registry cannot provide the model
     ├─ GrpcioUnusable     this grpcio lacks private parts that the server needs
     └─ ArtifactError      the model's file cannot be served
         ├─ ArtifactMissing   there is no such file
         ├─ ArtifactCorrupt   the file is truncated, altered, or of a kind this server cannot read
         ├─ ArtifactUntried   the trial ended early, took too long or ran out of memory
         ├─ ArtifactUnverified  no trusted key has signed the files
         ├─ OtherModel        the file is of another model than the settings name
         └─ GoldenMismatch    the model does not predict what its trainer's libraries predicted
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ParamSpec

_P = ParamSpec("_P")

# Most violations that an error lists; fewer if they do not fit into the headers of the reply.
MAX_VIOLATIONS = 12


class DomainError(Exception):
    """Any error that this server foresees."""


class CallError(DomainError):
    """A call fails, and its caller learns why.

    Parameters
    ----------
    message : str
        What happened and what is allowed, for people.
    **values : object
        The values in the message by name, for programs. `metadata` holds them as strings.
    """

    def __init__(  # noqa: B042  never pickled
        self, message: str, **values: object
    ) -> None:
        super().__init__(message)
        self.metadata = {name: str(value) for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that does not fit.

    Parameters
    ----------
    field : str
        Path of the field in the request, such as ``features[3]`` or ``record["mean radius"]``.
        In a batch, the path ends with the row: ``columns["mean radius"].doubles.values[17]``.
    description : str
        The value that was sent, and what is allowed.
    """

    field: str
    description: str


class InvalidInstance(CallError):
    """The request does not fit the model's input schema.

    Parameters
    ----------
    violations : iterable of Violation
        One or more, in the order of the schema; the first `MAX_VIOLATIONS` are kept.
    n_more : int
        Number of further violations that are not in `violations`.
    """

    def __init__(  # noqa: B042  never pickled
        self, violations: Iterable[Violation], n_more: int = 0
    ) -> None:
        found = tuple(violations)
        self.violations = found[:MAX_VIOLATIONS]
        self.n_more = n_more + len(found) - len(self.violations)
        super().__init__(self._describe(), n_violations=n_more + len(found))

    def within(self, path: str) -> "InvalidInstance":
        """Return a copy of the error whose fields are below `path`."""
        moved = [Violation(f"{path}.{v.field}", v.description) for v in self.violations]
        return InvalidInstance(moved, self.n_more)

    def _describe(self) -> str:
        first, more = self.violations[0], len(self.violations) - 1 + self.n_more
        suffix = f" (and {more} more)" if more else ""
        return f"{first.field}: {first.description}{suffix}"


class Violations:
    """Collects violations, of which there may be millions: keeps the first, counts all."""

    def __init__(self) -> None:
        self._made: list[Violation] = []
        self._n_more = 0

    def add(
        self, make: Callable[_P, Violation], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        """Add the violation that `make` returns for its arguments; beyond the limit, count it."""
        if len(self._made) < MAX_VIOLATIONS:
            self._made.append(make(*args, **kwargs))
        else:
            self._n_more += 1

    def count(self, n_more: int) -> None:
        """Count further violations that are not described."""
        self._n_more += n_more

    def check(self) -> None:
        """Raise the violations, if any.

        Raises
        ------
        InvalidInstance
            If there is a violation.
        """
        if self._made:
            raise InvalidInstance(self._made, self._n_more)


class BatchTooLarge(CallError):
    """The batch has more rows than the server accepts.

    Parameters
    ----------
    what : str
        What was sent, such as "7 rows".
    max_rows : int
        Most rows of one call.
    **values : object
        Further values by name, such as `n_rows`.
    """

    def __init__(  # noqa: B042  never pickled
        self, what: str, max_rows: int, **values: object
    ) -> None:
        flag = "--max-batch-rows"
        super().__init__(
            f"{what} came; at most {max_rows} are allowed per call; send fewer, or raise the "
            f"server's flag {flag}",
            max_rows=max_rows,
            flag=flag,
            **values,
        )


class ModelUnavailable(CallError):
    """No model is loaded."""


class DeadlineExceeded(CallError):
    """The caller's deadline passed before the prediction began."""


class CallCancelled(CallError):
    """The caller hung up before the prediction began."""


class Overloaded(CallError):
    """More calls are in flight than the server admits."""


class MalformedMessage(CallError):
    """The bytes are not a message of the method's type."""


class MessageMissing(CallError):
    """The caller sent no message, but the method takes one."""


class MessageOverdue(CallError):
    """The message, or the next one of a stream, did not arrive in time."""


class MessageRefused(CallError):
    """grpcio refused the message and ended the call; only the metrics see this error."""


class UnknownMethod(CallError):
    """The server has no such method."""


class NotSupported(UnknownMethod):
    """The server has not this part of the Open Inference Protocol."""


class UnknownService(CallError):
    """A health check names a service that the server does not have."""


class UnknownModel(UnknownService):
    """The server does not have this model, or this version of it."""


class ServerStops(CallError):
    """A watch ends because the server stops."""


class Unauthenticated(CallError):
    """The call has no credentials, or wrong ones; no message repeats them."""


class TooManyAttempts(CallError):
    """The connection has sent too many wrong tokens."""


class NotAllowed(CallError):
    """The caller may not make the call."""


class ShareExhausted(CallError):
    """The caller has its share of calls open."""


class StartupError(DomainError):
    """The process cannot do its work."""


class SettingsError(StartupError):
    """A flag or an environment variable is unknown or has no valid value."""


class TableError(StartupError):
    """A table cannot be scored; the message names the file, and what to do about it."""


class FollowedFileError(StartupError):
    """A file that is read again when it changes cannot be used.

    Parameters
    ----------
    message : str
        What is wrong and what to change, for people.
    may_pass : bool
        Whether the file may become usable without a change of it.
    """

    def __init__(  # noqa: B042  never pickled
        self, message: str, *, may_pass: bool = False
    ) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class CertificateError(FollowedFileError):
    """A file of TLS cannot be used."""


class CallersError(FollowedFileError):
    """A file of callers cannot be used."""


class GrpcioUnusable(StartupError):
    """This grpcio lacks private parts that the server needs."""


class RegistryError(StartupError):
    """The registry cannot provide the model."""


class ArtifactError(StartupError):
    """The model's file cannot be served."""


class ArtifactMissing(ArtifactError):
    """There is no such file."""


class ArtifactCorrupt(ArtifactError):
    """The file is truncated, altered, or of a kind that this server cannot read."""


class GoldenMismatch(ArtifactError):
    """The model does not predict what its trainer's libraries predicted."""


class ArtifactUnverified(ArtifactError):
    """No trusted key has signed the files, or they differ from what it signed."""


class ArtifactUntried(ArtifactError):
    """The trial ended early, took too long or ran out of memory; another one may succeed."""


class OtherModel(ArtifactError):
    """The file is of another model than the settings name."""
