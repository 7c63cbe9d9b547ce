"""Keeps calls in flight until its standard input is closed: python call_storm.py PORT IN_FLIGHT.

Prints how many calls had which outcome, as one line of JSON.
"""

import json
import sys
import threading
from collections import Counter
from typing import Any

import grpc

from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub


class Storm:
    """Makes a new call whenever one is answered."""

    def __init__(self, stub: PredictionServiceStub) -> None:
        self._stub = stub
        self._request = PredictRequest(features=[1.0, 3.0])
        self._is_over = threading.Event()
        self._in_flight = threading.Semaphore(0)
        self.outcomes: Counter[str] = Counter()

    def call(self) -> None:
        """Make one call, and with its answer the next one."""
        future: Any = self._stub.Predict.future(self._request, timeout=60)
        future.add_done_callback(self._count)

    def finish(self, n_calls: int) -> None:
        """Make no new calls, and wait for those in flight."""
        self._is_over.set()
        for _ in range(n_calls):
            self._in_flight.acquire()

    def _count(self, future: Any) -> None:
        self.outcomes[future.code().name] += 1
        if self._is_over.is_set():
            self._in_flight.release()
        else:
            self.call()


def main(port: str, n_calls: int) -> None:
    """Call until standard input is closed."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        storm = Storm(PredictionServiceStub(channel))
        for _ in range(n_calls):
            storm.call()
        sys.stdin.read()
        storm.finish(n_calls)
    print(json.dumps(storm.outcomes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
