"""A bare grpcio server that answers Predict with a constant: python -m benchmarks.echo KIND PORT.

The least that the framework asks for, of the kinds sync and aio; queue is less: grpcio's completion
queue alone, which no public interface gives.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in the stubs

from prediction.v1.prediction_service_pb2 import PredictRequest, PredictResponse

SERVICE = "prediction.v1.PredictionService"
RESPONSE = PredictResponse(
    model="Logistic Regression",
    prediction=1,
    label="1",
    probabilities=[0.25, 0.75],
    model_version="sha256:0123456789ab",
)


def make_handler(behavior: Callable[..., Any]) -> grpc.GenericRpcHandler:
    """Return the service with one method."""
    method = grpc.unary_unary_rpc_method_handler(
        behavior, PredictRequest.FromString, PredictResponse.SerializeToString
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Predict": method})


def serve_sync(address: str) -> None:
    """Answer from a pool of two threads, the size that is best for it."""
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((make_handler(lambda request, context: RESPONSE),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


def serve_queue(address: str) -> None:
    """Answer the queue's events, with nothing around it."""
    queue = cygrpc.CompletionQueue()
    server = cygrpc.Server([("grpc.so_reuseport", 0)], False)
    server.register_completion_queue(queue)
    server.add_http2_port(address.encode())
    server.start()
    for _ in range(128):
        server.request_call(queue, queue, server)
    while True:
        event = queue.poll()
        if event.tag is server:
            server.request_call(queue, queue, server)
            receive = cygrpc.ReceiveMessageOperation(0)
            event.call.start_server_batch((receive,), event.call)
        elif event.tag is not None:
            message = event.batch_operations[0].message()
            if message is None:
                continue  # its caller is gone
            PredictRequest.FromString(message)
            answer = RESPONSE.SerializeToString()
            event.tag.start_server_batch(
                (
                    cygrpc.SendInitialMetadataOperation(None, 0),
                    cygrpc.SendMessageOperation(answer, 0),
                    cygrpc.SendStatusFromServerOperation(None, 0, b"", 0),
                    cygrpc.ReceiveCloseOnServerOperation(0),
                ),
                None,
            )


async def serve_aio(address: str) -> None:
    """Answer from an event loop."""

    async def behavior(request: PredictRequest, context: Any) -> PredictResponse:
        return RESPONSE

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((make_handler(behavior),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    kind, listen_on = sys.argv[1], f"127.0.0.1:{sys.argv[2]}"
    if kind == "aio":
        asyncio.run(serve_aio(listen_on))
    elif kind == "queue":
        serve_queue(listen_on)
    else:
        serve_sync(listen_on)
