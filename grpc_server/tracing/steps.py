"""Traces of work that is seldom done, step by step, such as the swap of a model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time_ns

from grpc_server.tracing.sampling import make_trace_id
from grpc_server.tracing.spans import Attribute, Record, Span, Trace


@dataclass(frozen=True, slots=True)
class _Done:
    trace: Trace

    def to_trace(self) -> Trace:
        return self.trace


@dataclass(slots=True)
class _Open:
    name: str
    begin_ns: int
    attributes: dict[str, Attribute]
    children: list[Span] = field(default_factory=list)


class StepRecorder:
    """Records steps within steps; each outermost one becomes a trace. For one thread at a time.

    Parameters
    ----------
    put : callable
        Takes the trace.
    """

    def __init__(self, put: Callable[[Record], None]) -> None:
        self._put = put
        self._open: list[_Open] = []

    @contextmanager
    def step(self, name: str, **attributes: Attribute) -> Iterator[None]:
        """Record what is done in this context; an error that leaves it is its error."""
        self._open.append(_Open(name, time_ns(), dict(attributes)))
        error: BaseException | None = None
        try:
            yield
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._end(error)

    def tell(self, **attributes: Attribute) -> None:
        """Add facts to the outermost step, if any is open."""
        if self._open:
            self._open[0].attributes.update(attributes)

    def _end(self, error: BaseException | None) -> None:
        ended = self._open.pop()
        if error is not None:
            ended.attributes["error.type"] = type(error).__name__
        span = Span(
            ended.name,
            ended.begin_ns,
            time_ns(),
            ended.attributes,
            "" if error is None else str(error) or type(error).__name__,
            tuple(ended.children),
        )
        if self._open:
            self._open[-1].children.append(span)
        else:
            self._put(_Done(Trace(make_trace_id(), "", "", False, span)))
