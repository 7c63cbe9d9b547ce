"""Refuses calls of methods that the server does not have, and counts them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

import grpc
from grpc_status import rpc_status

from grpc_server.errors import UnknownMethod
from grpc_server.metrics import CallCounter, Method
from grpc_server.rpc.statuses import to_status

# One label for all unknown methods, because callers choose their names.
UNKNOWN = Method("unknown", "unknown")

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ServingThread(Executor):
    """Runs a task immediately, on the thread that submits it.

    Only calls of unknown methods arrive here. They are refused without waiting, so that many of
    them leave no queue behind.
    """

    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        """Run `fn`, and return its future, which is done."""
        future: Future[_T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class UnknownMethods(grpc.ServerInterceptor):
    """Gives calls without a registered handler a handler that refuses them.

    Parameters
    ----------
    counter : CallCounter
        Counts these calls.
    """

    def __init__(self, counter: CallCounter) -> None:
        self._counter = counter
        status = to_status(UnknownMethod("the server has no such method"))
        self._status = rpc_status.to_status(status)
        # A stream handler replies without reading a message first.
        self._handler: grpc.RpcMethodHandler[Any, Any]
        self._handler = grpc.stream_stream_rpc_method_handler(self._refuse)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return the handler that refuses."""
        return self._handler

    def _refuse(self, requests: object, context: grpc.ServicerContext) -> Iterator[Any]:
        self._counter.count_started()
        self._counter.record(self._status.code.name, 0.0, 0.0)
        context.abort_with_status(self._status)
