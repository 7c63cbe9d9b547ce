"""A bare grpcio server that answers Predict with a constant: python -m benchmarks.echo sync|aio.

The least that the framework asks for; it prints its port.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

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


def serve_sync() -> None:
    """Answer from a pool of two threads, the size that is best for it."""
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((make_handler(lambda request, context: RESPONSE),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


async def serve_aio() -> None:
    """Answer from an event loop."""

    async def behavior(request: PredictRequest, context: Any) -> PredictResponse:
        return RESPONSE

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((make_handler(behavior),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1] == "aio":
        asyncio.run(serve_aio())
    else:
        serve_sync()
