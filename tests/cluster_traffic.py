"""Runs in a pod of the cluster: calls the service without a pause until it is told to stop.

Some threads keep one channel each, as clients do; one makes a new channel for each call. Nothing
is tried again but what gRPC itself sends elsewhere because a server has not begun it, so that each
call that is lost is seen. Prints what became of the calls as one line of JSON.
"""

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

STOP = Path("/tmp/stop")
# Channels that are never idle meet the moment in which a server closes. One channel with pauses
# meets it in one of five restarts.
KEPT_CHANNELS = 8


@contextmanager
def connect() -> Iterator[PredictionServiceStub]:
    """Return a stub on a connection of its own, like that of another process."""
    # From the variables of the Service, so that the cluster needs no DNS.
    host = os.environ["PREDICTION_SERVER_SERVICE_HOST"]
    port = os.environ["PREDICTION_SERVER_SERVICE_PORT_GRPC"]
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"{host}:{port}", options) as channel:
        yield PredictionServiceStub(channel)


def call(stub: PredictionServiceStub, request: PredictRequest) -> str:
    """Make one call; return its probabilities, or why it failed."""
    try:
        reply = stub.Predict(request, timeout=10)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return json.dumps(list(reply.probabilities))


def call_on_one_channel(request: PredictRequest, outcomes: Counter[str]) -> None:
    """Call until the stop, always on the same channel."""
    with connect() as stub:
        while not STOP.exists():
            outcomes[call(stub, request)] += 1


def call_on_new_channels(request: PredictRequest, outcomes: Counter[str]) -> None:
    """Call until the stop, on a new channel each time."""
    while not STOP.exists():
        with connect() as stub:
            outcomes[call(stub, request)] += 1


def main(features: list[float]) -> None:
    """Call until the file STOP exists, and print the outcomes."""
    request = PredictRequest(features=features)
    kept = [Counter[str]() for _ in range(KEPT_CHANNELS)]
    new = Counter[str]()
    threads = [
        threading.Thread(target=call_on_one_channel, args=(request, outcomes))
        for outcomes in kept
    ]
    threads.append(threading.Thread(target=call_on_new_channels, args=(request, new)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"kept": sum(kept, Counter()), "new": new}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
