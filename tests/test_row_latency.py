"""The time for one row: taken by the server's code, in a process of its own, on changing rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, cycle, pairwise, repeat
from pathlib import Path
from typing import Any

import pytest

from grpc_server.errors import GoldenMismatch
from grpc_server.model import load_model
from grpc_server.model.row_latency import (
    N_CALLS,
    N_WARM_UP,
    RowLatency,
    measure,
)
from grpc_server.trial_load import try_on_rows
from prediction.artifact import seal
from row_latency import measure_latency
from training.errors import ArtifactError

from support import lightgbm_artifact, write_artifact


class Listener:
    """An estimator that remembers the rows that it is asked about."""

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator
        self.rows: list[str] = []

    def predict_probabilities(self, row: Sequence[float]) -> Sequence[float]:
        self.rows.append(repr(row))  # NaN is not equal to itself
        answer: Sequence[float] = self._estimator.predict_probabilities(row)
        return answer


def ticks(durations: Iterator[int]) -> Iterator[int]:
    """Yield what a clock reads at the begin and at the end of calls that take so long."""
    now = 0
    yield now  # the begin of the whole
    for duration in durations:
        yield now
        now += duration
        yield now


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        # 98 calls of 100 take 2 µs.
        (cycle([2000] * 98 + [9000, 7000]), RowLatency(2.0, 7.0, N_CALLS)),
        # 0.4 s each: the third one ends too late.
        (repeat(400_000_000), RowLatency(4e5, 4e5, 3)),
    ],
    ids=["quick", "slow"],
)
def test_the_figures_are_those_of_the_calls_after_the_warm_up(
    durations: Iterator[int], expected: RowLatency, tmp_path: Path
) -> None:
    artifact, _, _ = lightgbm_artifact(2)
    model = load_model(write_artifact(tmp_path, artifact))
    listener: Any = Listener(model.estimator)
    warm_up = ticks(repeat(1, N_WARM_UP))
    clock = chain(warm_up, ticks(durations))

    latency = measure(
        replace(model, estimator=listener),
        artifact.golden_examples,
        clock=lambda: next(clock),
    )

    assert latency == expected
    assert len(listener.rows) == N_WARM_UP + expected.n_calls
    assert all(before != after for before, after in pairwise(listener.rows))
    assert len(set(listener.rows)) == len(artifact.golden_examples)


def test_a_process_of_its_own_loads_the_artifact_and_times_it() -> None:
    artifact, _, _ = lightgbm_artifact(3)

    latency = measure_latency(seal(artifact.SerializeToString()))

    assert 0 < latency.median_us <= latency.p99_us
    assert 1 <= latency.n_calls <= N_CALLS


def test_a_model_that_the_server_refuses_is_an_error_of_one_sentence(
    tmp_path: Path,
) -> None:
    artifact, _, _ = lightgbm_artifact(2)
    artifact.golden_examples[3].probabilities[:] = [0.5, 0.5]

    with pytest.raises(ArtifactError) as caught:
        measure_latency(seal(artifact.SerializeToString()))

    message = str(caught.value)
    assert "the time for one row cannot be measured" in message
    assert "golden example 3 gives" in message
    assert "\n" not in message
    with pytest.raises(GoldenMismatch):
        try_on_rows(write_artifact(tmp_path, artifact))
