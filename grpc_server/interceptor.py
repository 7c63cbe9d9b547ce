"""The edge of every call: counts it, and lets no error out but as a status of the table."""

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, NoReturn, TypeAlias

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from grpc_server.admission import BoundedPool, check_waited_for
from grpc_server.errors import DomainError, Overloaded
from grpc_server.metrics import Method, MethodMetrics, Metrics
from grpc_server.statuses import internal_status, to_status

_OVERLOADED = "too many calls are in flight; try again later"

_log = logging.getLogger(__name__)

_Behavior = Callable[[Any, grpc.ServicerContext], Any]
# Quoted: subscriptable for the type checker only.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class EdgeInterceptor(grpc.ServerInterceptor):
    """Wraps every method once; streams of other services (health's Watch, reflection) pass.

    Parameters
    ----------
    metrics : Metrics
        Where calls are counted.
    pool : BoundedPool
        The pool of the server, whose room decides whether a call of `bounded_service` is let in.
    streams : BoundedPool
        The pool of streams, each of which holds a thread for as long as it lasts.
    bounded_service : str
        Full name of the service that has bounds; others, such as health, always are answered, by
        a thread of their own.
    """

    def __init__(
        self,
        metrics: Metrics,
        pool: BoundedPool,
        streams: BoundedPool,
        bounded_service: str,
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._streams = streams
        self._bounded_service = bounded_service
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="aside")
        self._wrapped: dict[str, tuple[_Handler, _Handler]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "_Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Return the handler of the method with the edge around it, or None if there is none."""
        path = handler_call_details.method
        if path not in self._wrapped:
            handler = continuation(handler_call_details)
            if handler is None or not self._is_ours(path, handler):
                return handler
            self._wrapped[path] = self.wrap(path, handler)
        admitted, refused = self._wrapped[path]
        pool = self._pool if admitted.unary_unary else self._streams
        return admitted if pool.has_room else refused

    def _is_ours(self, path: str, handler: "_Handler") -> bool:
        is_bounded = Method.from_path(path).service == self._bounded_service
        return handler.unary_unary is not None or is_bounded

    def wrap(
        self, path: str, handler: "_Handler", metrics: MethodMetrics | None = None
    ) -> "tuple[_Handler, _Handler]":
        """Return the handlers of calls that are let in and of those beyond the bound."""
        if handler.unary_unary is None:
            return self._wrap_stream(path, handler)
        method = Method.from_path(path)
        if metrics is None:
            metrics = MethodMetrics(self._metrics, method)
        admitted = _with_edge(handler.unary_unary, metrics)
        if method.service != self._bounded_service:
            self._set_aside(admitted)
            return (both := _like(handler, admitted)), both
        refused = _refusing(metrics)
        self._set_aside(refused)
        return _like(handler, admitted), _like(handler, refused)

    def _wrap_stream(
        self, path: str, handler: "_Handler"
    ) -> "tuple[_Handler, _Handler]":
        assert handler.stream_stream is not None
        metrics = MethodMetrics(self._metrics, Method.from_path(path), "bidi_stream")
        admitted = _with_stream_edge(handler.stream_stream, metrics)
        _run_in(self._streams, admitted)
        refused = _with_stream_edge(_refuse, metrics)
        self._set_aside(refused)
        return _like(handler, admitted), _like(handler, refused)

    def _set_aside(self, behavior: _Behavior) -> None:
        """Run `behavior` apart from the calls that wait for the pool."""
        _run_in(self._aside, behavior)


def _run_in(pool: ThreadPoolExecutor, behavior: _Behavior) -> None:
    # The attribute is grpcio's own: it picks the pool of a method.
    behavior.experimental_thread_pool = pool  # type: ignore[attr-defined]


def _like(handler: "_Handler", behavior: _Behavior) -> "_Handler":
    if handler.unary_unary is None:
        return grpc.stream_stream_rpc_method_handler(
            behavior, handler.request_deserializer, handler.response_serializer
        )
    return grpc.unary_unary_rpc_method_handler(
        behavior, handler.request_deserializer, handler.response_serializer
    )


def _refuse(request: Any, context: grpc.ServicerContext) -> NoReturn:
    raise Overloaded(_OVERLOADED)


def _refusing(metrics: MethodMetrics) -> _Behavior:
    """Return what refuses calls with a status that is ready: in a storm they are many."""
    status = rpc_status.to_status(to_status(Overloaded(_OVERLOADED)))

    def refuse(request: Any, context: grpc.ServicerContext) -> NoReturn:
        metrics.count_started()
        metrics.record(status.code.name, 0.0)
        context.abort_with_status(status)

    return refuse


def _with_edge(behavior: _Behavior, metrics: MethodMetrics) -> _Behavior:
    def edge(request: Any, context: grpc.ServicerContext) -> Any:
        metrics.count_started()
        start = perf_counter()
        try:
            check_waited_for(context)
            return behavior(request, context)
        except DomainError as error:
            _abort(context, to_status(error))
        except Exception:
            if _code(context) is not None:
                raise  # the servicer's own abort
            status, error_id = internal_status()
            _log.exception("call failed", extra={"fields": {"error_id": error_id}})
            _abort(context, status)
        finally:
            code = _code(context)
            name = "OK" if code is None else code.name
            metrics.record(name, perf_counter() - start)

    return edge


def _with_stream_edge(behavior: _Behavior, metrics: MethodMetrics) -> _Behavior:
    def edge(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        metrics.count_started()
        start = perf_counter()
        ended = grpc.StatusCode.CANCELLED  # unless it comes to an end
        try:
            check_waited_for(context)
            yield from behavior(requests, context)
            # Chunks end, too, where the caller is gone.
            check_waited_for(context)
            ended = grpc.StatusCode.OK
        except DomainError as error:
            _abort(context, to_status(error))
        except Exception:
            if _code(context) is not None or not context.is_active():
                raise  # an abort, or what reading from a caller who hung up raises
            status, error_id = internal_status()
            _log.exception("stream failed", extra={"fields": {"error_id": error_id}})
            _abort(context, status)
        finally:
            metrics.record((_code(context) or ended).name, perf_counter() - start)

    return edge


def _code(context: grpc.ServicerContext) -> grpc.StatusCode | None:
    """Return the status that was set, None as long as there is none."""
    code: grpc.StatusCode | None = context.code()  # type: ignore[attr-defined]  # not in the stubs
    return code


def _abort(context: grpc.ServicerContext, status: Status) -> None:
    context.abort_with_status(rpc_status.to_status(status))
