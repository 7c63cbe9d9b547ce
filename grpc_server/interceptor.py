"""The edge of every unary call: counts it, and lets no error out but as a status of the table."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Any, TypeAlias

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from grpc_server.errors import DeadlineExceeded, DomainError
from grpc_server.metrics import Method, MethodMetrics, Metrics
from grpc_server.statuses import internal_status, to_status

_log = logging.getLogger(__name__)

_Behavior = Callable[[Any, grpc.ServicerContext], Any]
# Quoted: subscriptable for the type checker only.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class EdgeInterceptor(grpc.ServerInterceptor):
    """Wraps every unary method once; streams (health's Watch, reflection) pass as they are."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._wrapped: dict[str, _Handler] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "_Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "_Handler | None":
        """Return the handler of the method with the edge around it, or None if there is none."""
        path = handler_call_details.method
        if path not in self._wrapped:
            handler = continuation(handler_call_details)
            if handler is None or handler.unary_unary is None:
                return handler
            self._wrapped[path] = self._wrap(path, handler)
        return self._wrapped[path]

    def _wrap(self, path: str, handler: "_Handler") -> "_Handler":
        assert handler.unary_unary is not None
        metrics = MethodMetrics(self._metrics, Method.from_path(path))
        return grpc.unary_unary_rpc_method_handler(
            _with_edge(handler.unary_unary, metrics),
            handler.request_deserializer,
            handler.response_serializer,
        )


def _with_edge(behavior: _Behavior, metrics: MethodMetrics) -> _Behavior:
    def edge(request: Any, context: grpc.ServicerContext) -> Any:
        metrics.count_started()
        start = perf_counter()
        try:
            _check_deadline(context)
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
            code = _code(context) or grpc.StatusCode.OK
            metrics.record(code.name, perf_counter() - start)

    return edge


def _code(context: grpc.ServicerContext) -> grpc.StatusCode | None:
    """Return the status that was set, None as long as there is none."""
    code: grpc.StatusCode | None = context.code()  # type: ignore[attr-defined]  # not in the stubs
    return code


def _check_deadline(context: grpc.ServicerContext) -> None:
    """Refuse a call that nobody waits for any more, before it costs a prediction."""
    # None without a deadline, which the stubs do not know.
    remaining_seconds: float | None = context.time_remaining()
    if remaining_seconds is not None and remaining_seconds <= 0:
        raise DeadlineExceeded("the deadline passed before the call could be answered")


def _abort(context: grpc.ServicerContext, status: Status) -> None:
    context.abort_with_status(rpc_status.to_status(status))
