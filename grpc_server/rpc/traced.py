"""Calls that are traced.

A method that may be traced has a twin, whose calls note when each step ends. A call goes to one of
the two when it begins, so that calls that are not traced pay for that choice alone.
"""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import Any

from grpc_server.rpc.calls import Call, Method, StreamCall, UnaryCall
from grpc_server.rpc.observed import ObservedStreamCall, ObservedUnaryCall
from grpc_server.tracing.context import TraceContext
from grpc_server.tracing.spans import Attribute, Span, Trace
from grpc_server.tracing.start import Tracing

# Steps of one call that become spans; a stream may have any number.
_MAX_STEPS = 64
# Statuses for which OpenTelemetry's conventions blame the server.
_SERVER_ERRORS = frozenset(
    (
        "UNKNOWN",
        "DEADLINE_EXCEEDED",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
    )
)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """What a traced call noted.

    Parameters
    ----------
    context : TraceContext
        The call's place in a trace.
    path : str
        Path of the method.
    code : str
        Name of the status code that the caller saw.
    facts : dict of str to str, int, float or bool
        Attributes of this project.
    peer : str
        The client's address and port, as gRPC writes it.
    begin, end : float
        Times of the call, in seconds of the clock of `perf_counter`.
    steps : list of (str, float, float)
        Name, begin and end of each step.
    clock_ns : int
        Time since the epoch at which that clock was 0.
    """

    context: TraceContext
    path: str
    code: str
    facts: dict[str, Attribute]
    peer: str
    begin: float
    end: float
    steps: list[tuple[str, float, float]]
    clock_ns: int

    def to_trace(self) -> Trace:
        """Return the trace."""
        name = self.path.removeprefix("/")
        attributes = {
            "rpc.system.name": "grpc",
            "rpc.method": name,
            "rpc.response.status_code": self.code,
            **_describe_peer(self.peer),
            **self.facts,
        }
        if self.code != "OK":
            attributes["error.type"] = self.code
        error = self.code if self.code in _SERVER_ERRORS else ""
        children = tuple(self._span(*step) for step in self.steps)
        begin, end = self._at(self.begin), self._at(self.end)
        root = Span(name, begin, end, attributes, error, children)
        context = self.context
        return Trace(context.trace_id, context.parent_id, context.state, True, root)

    def _span(self, name: str, begin: float, end: float) -> Span:
        return Span(name, self._at(begin), self._at(end))

    def _at(self, seconds: float) -> int:
        return self.clock_ns + round(seconds * 1e9)


class _TracedCall(Call):
    """A call that notes its steps."""

    context: TraceContext
    _twin: "_Twin"
    _steps: list[tuple[str, float, float]]
    _decoded_at = 0.0
    _replying_since = 0.0
    _model_version = ""
    _n_steps = 0

    def trace_id(self) -> str:
        return self.context.trace_id

    def note_decoded(self) -> None:
        self._decoded_at = perf_counter()

    def note_answer(self, answer: Any) -> None:
        """Note the model that has answered."""
        answer = getattr(answer, "chunk", answer)
        self._model_version = getattr(answer, "model_version", "")

    def compute(self) -> None:
        if self.message is None:  # the end of a stream
            super().compute()
            return
        begin, self._decoded_at = perf_counter(), 0.0
        super().compute()
        end = perf_counter()
        decoded_at = self._decoded_at or end
        self._note("line", self._message_at, begin)
        self._note("decode", begin, decoded_at)
        if self._decoded_at:
            self._note("compute", decoded_at, end)
        self._replying_since = end

    def on_sent(self) -> None:
        self._note_reply()
        super().on_sent()

    def on_over(self) -> None:
        self._note_reply()
        super().on_over()
        self._twin.finish(self)

    def to_record(self, path: str) -> CallRecord:
        """Return what the call noted, once it is over."""
        end, clock_ns = perf_counter(), time_ns()
        return CallRecord(
            self.context,
            path,
            self.seen_code(),
            self._describe(),
            self._twin.find_peer(self),
            self.arrival,
            end,
            self._steps,
            clock_ns - round(end * 1e9),
        )

    def _note(self, name: str, begin: float, end: float) -> None:
        self._n_steps += 1
        if self._n_steps <= _MAX_STEPS:
            self._steps.append((name, begin, end))

    def _note_reply(self) -> None:
        if self._replying_since:
            self._note("reply", self._replying_since, perf_counter())
            self._replying_since = 0.0

    def _describe(self) -> dict[str, Attribute]:
        facts: dict[str, Attribute] = {"prediction.request_id": self.request_id()}
        if self.caller is not None:
            facts["prediction.caller"] = self.caller.name
        if self._model_version:
            facts["prediction.model_version"] = self._model_version
        if self.n_rows:
            facts["prediction.rows"] = self.n_rows
        if self._n_steps > _MAX_STEPS:
            facts["prediction.steps_left_out"] = self._n_steps - _MAX_STEPS
        return facts


class _TracedUnaryCall(_TracedCall, UnaryCall):
    pass


class _TracedStreamCall(_TracedCall, StreamCall):
    pass


class _TracedObservedUnaryCall(_TracedCall, ObservedUnaryCall):
    pass


class _TracedObservedStreamCall(_TracedCall, ObservedStreamCall):
    pass


_TRACED: dict[type[Call], type[_TracedCall]] = {
    UnaryCall: _TracedUnaryCall,
    StreamCall: _TracedStreamCall,
    ObservedUnaryCall: _TracedObservedUnaryCall,
    ObservedStreamCall: _TracedObservedStreamCall,
}


class TracedMethod:
    """Gives each call that begins to a method, or to its twin that traces.

    Parameters
    ----------
    path : str
        Path of the method.
    method : Method
        The method, unary or a stream of chunks.
    tracing : Tracing
        Chooses the calls and takes their records.
    """

    def __init__(self, path: str, method: Method, tracing: Tracing) -> None:
        self._begin = method.begin
        self._decide = tracing.sampler.decide
        self._twin = _Twin(path, method, tracing)

    def begin(self, event: Any) -> Call:
        """Create the call that `event` announces."""
        context = self._decide(event.invocation_metadata)
        return (
            self._begin(event) if context is None else self._twin.begin(event, context)
        )


class _Twin:
    """Makes the traced calls of a method, and hands over what they noted."""

    def __init__(self, path: str, method: Method, tracing: Tracing) -> None:
        self._path = path
        self._put = tracing.exporter.put
        self.find_peer = tracing.find_peer
        self._exemplify = method.counter.exemplify
        self._method = twin = copy(method)
        twin.kind = _TRACED[method.kind]
        is_stream = issubclass(method.kind, StreamCall)
        wrap = _note_chunks if is_stream else _note_one
        twin.behavior = wrap(method.behavior)

    def begin(self, event: Any, context: TraceContext) -> Call:
        """Create a traced call."""
        call = self._method.begin(event)
        assert isinstance(call, _TracedCall)
        call.context, call._twin, call._steps = context, self, []
        return call

    def finish(self, call: _TracedCall) -> None:
        """Hand over what a call noted, once it is over."""
        self._exemplify(call.seconds, call.context.trace_id)
        self._put(call.to_record(self._path))


def _note_one(behavior: Callable[..., Any]) -> Callable[..., Any]:
    def behave(request: Any, call: _TracedCall) -> Any:
        call.note_decoded()
        answer = behavior(request, call)
        call.note_answer(answer)
        return answer

    return behave


def _note_chunks(behavior: Callable[..., Any]) -> Callable[..., Any]:
    def receive(requests: Iterator[Any], call: _TracedCall) -> Iterator[Any]:
        for request in requests:
            call.note_decoded()
            yield request

    def behave(requests: Iterator[Any], call: _TracedCall) -> Iterator[Any]:
        for answer in behavior(receive(requests, call), call):
            call.note_answer(answer)
            yield answer

    return behave


def _describe_peer(peer: str) -> dict[str, Attribute]:
    """Return address and port of a peer such as "ipv4:127.0.0.1:4711", by the conventions."""
    kind, _, address = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return {"network.transport": "unix"} if kind == "unix" else {}
    host, _, port = address.rpartition(":")
    found: dict[str, Attribute] = {
        "network.transport": "tcp",
        "client.address": host.strip("[]").replace("%5B", "").replace("%5D", ""),
    }
    if port.isascii() and port.isdigit():
        found["client.port"] = int(port)
    return found
