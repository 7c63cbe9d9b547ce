"""Runs in a pod of the cluster: calls the service without a pause until it is told to stop.

Every second call is on a channel of its own, the others on one that is kept. No call is tried
again by us, so that each that is lost is seen. Prints what became of them as one line of JSON.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import grpc

from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

STOP = Path("/tmp/stop")


def call(channel: grpc.Channel, request: PredictRequest) -> str:
    """Make one call; return its probabilities, or why it failed."""
    try:
        reply = PredictionServiceStub(channel).Predict(request, timeout=10)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return json.dumps(list(reply.probabilities))


def main(features: list[float]) -> None:
    """Call until the file STOP is there."""
    # Of the Service, so that a cluster without DNS will do.
    host = os.environ["PREDICTION_SERVER_SERVICE_HOST"]
    port = os.environ["PREDICTION_SERVER_SERVICE_PORT_GRPC"]
    # A connection of its own for each channel, as that of another process would be.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    request = PredictRequest(features=features)
    kept_outcomes: Counter[str] = Counter()
    new_outcomes: Counter[str] = Counter()
    with grpc.insecure_channel(f"{host}:{port}", options) as kept:
        while not STOP.exists():
            kept_outcomes[call(kept, request)] += 1
            with grpc.insecure_channel(f"{host}:{port}", options) as new:
                new_outcomes[call(new, request)] += 1
    print(json.dumps({"kept": kept_outcomes, "new": new_outcomes}), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
