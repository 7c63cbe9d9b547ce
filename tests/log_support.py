"""Servers with a prediction log, and the lines that they wrote."""

import json
from pathlib import Path
from typing import Any

from grpc_server.server import PredictionServer

from wire import read_metrics, samples


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of all files, finished or not, in the order of their names."""
    return [
        json.loads(line)
        for path in sorted(folder.iterdir())
        for line in path.read_text("ascii").splitlines()
    ]


def count(server: Any, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have the labels."""
    return sum(
        sample.value
        for sample in samples(read_metrics(server), name)
        if labels.items() <= sample.labels.items()
    )


def observer_pid(server: PredictionServer) -> int | None:
    """Return the number of the process that writes the log."""
    return server._grpc._observers.channels[0].pid
