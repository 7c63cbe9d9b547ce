"""A long time at full load, with bad calls among the good: memory and answers."""

import itertools
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from benchmarks.serve.load import GRPC_OPTIONS, Target, caller, is_right
from benchmarks.serve.models import Model
from benchmarks.serve.servers import serving

from prediction.v1.prediction_service_pb2 import BatchPredictRequest, PredictRequest

# What is not heeded of the samples: memory grows until every buffer has been used once.
_WARM_UP = 0.2
_SAMPLE_SECONDS = 1.0
_NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True)
class SoakResult:
    """One soak.

    Parameters
    ----------
    n_calls, n_checked, n_wrong : int
        Calls of the load, calls that were looked at beside it, and those that were wrong.
    resident_mib : list of float
        Memory, each second.
    slope, slope_error : float
        Growth of the memory in MiB per hour, and the half width of its 95 % interval.
    """

    n_calls: int
    n_checked: int
    n_wrong: int
    resident_mib: list[float]
    slope: float
    slope_error: float


def measure_soak(
    h2load: str, model: Model, work: Path, duration_seconds: int
) -> SoakResult:
    """Load a server with 64 calls in flight, and send it good and bad calls beside."""
    with serving("soak", model, work) as target:
        load = _start_load(h2load, target, duration_seconds)
        memory, outcomes = _watch(target, load)
        output = load.communicate()[0]
    n_calls, n_failed = (
        int(output.partition(word)[0].split()[-1]) for word in (" done", " failed")
    )
    slope, slope_error = fit_slope(memory[int(_WARM_UP * len(memory)) :])
    n_wrong = outcomes["wrong"] + n_failed
    return SoakResult(n_calls, outcomes.total(), n_wrong, memory, slope, slope_error)


def fit_slope(memory: list[float]) -> tuple[float, float]:
    """Return the slope in MiB per hour and the half width of its 95 % interval.

    Neighbours are alike, so the interval is that of means over a twentieth of the time, by least
    squares.
    """
    means = [part.mean() for part in np.array_split(np.array(memory), 20)]
    hours = np.arange(20) * len(memory) * _SAMPLE_SECONDS / 20 / 3600
    (slope, _), covariance = np.polyfit(hours, means, 1, cov=True)
    return float(slope), float(_NORMAL_95 * np.sqrt(covariance[0, 0]))


def _start_load(
    h2load: str, target: Target, duration_seconds: int
) -> "subprocess.Popen[str]":
    command = [h2load, "-c", "8", "-m", "8", "-D", str(duration_seconds)]
    command += ["-d", str(target.request.body)]
    command += GRPC_OPTIONS
    command.append(f"http://127.0.0.1:{target.port}{target.request.path}")
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _watch(
    target: Target, load: "subprocess.Popen[str]"
) -> tuple[list[float], Counter[str]]:
    """Send one call after the other until the load ends, and look at the memory meanwhile."""
    memory: list[float] = []
    outcomes: Counter[str] = Counter()
    next_sample = time.monotonic()
    bad = itertools.cycle(_bad_calls(target))
    with (
        caller(target) as ask,
        grpc.insecure_channel(f"127.0.0.1:{target.port}") as channel,
    ):
        while load.poll() is None:
            outcomes["right" if is_right(target.request, ask()) else "wrong"] += 1
            path, message, code = next(bad)
            outcomes[
                "right" if _ends_with(channel, path, message, code) else "wrong"
            ] += 1
            if time.monotonic() >= next_sample:
                memory.append(target.processes.resident_mib())
                next_sample += _SAMPLE_SECONDS
    return memory, outcomes


def _bad_calls(target: Target) -> list[tuple[str, bytes, grpc.StatusCode]]:
    path, invalid = target.request.path, grpc.StatusCode.INVALID_ARGUMENT
    named = PredictRequest()
    named.record["no such feature"] = 1.0
    batch = BatchPredictRequest(values=[1.0, 2.0, 3.0])
    return [
        (path, PredictRequest(features=[1.0]).SerializeToString(), invalid),
        (
            path,
            PredictRequest(features=[float("nan")] * 30).SerializeToString(),
            invalid,
        ),
        (path, named.SerializeToString(), invalid),
        (path.replace("/Predict", "/BatchPredict"), batch.SerializeToString(), invalid),
        (path, b"\xff\xff\xff", grpc.StatusCode.INTERNAL),
    ]


def _ends_with(
    channel: grpc.Channel, path: str, message: bytes, code: grpc.StatusCode
) -> bool:
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    try:
        method(message, timeout=10)
    except grpc.RpcError as error:
        return bool(error.code() == code)
    return False
