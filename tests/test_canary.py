"""A canary answers its share, callers never see its errors, and it aborts by itself."""

import random
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest
from prometheus_client import CollectorRegistry

from grpc_server.canary.compatibility import why_incompatible
from grpc_server.canary.judge import LOOKS, Answer, Bounds, ErrorJudge, Judge
from grpc_server.canary.keeper import CanaryKeeper
from grpc_server.canary.limits import bound_tail, find_limits
from grpc_server.canary.metrics import CanaryMetrics
from grpc_server.canary.split import Arm, Split, find_place
from grpc_server.canary.status import Abort, State, Status
from grpc_server.doubles import read_probabilities
from grpc_server.errors import SettingsError
from grpc_server.model import LoadedModel, load_model
from grpc_server.processes.control import read_abort, write_abort
from grpc_server.server import PredictionServer
from grpc_server.settings import Settings
from prediction import PredictionClient
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import (
    CANARY_STATE_ABORTED,
    CANARY_STATE_SERVING,
    BatchPredictRequest,
    Canary,
    GetModelRequest,
    PackedRows,
    PredictRequest,
    StreamPredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from support import connect, read_page, running_server, wait_for, write_version

BOUNDS = Bounds(max_errors=0.01, max_shift=0.1)
FIT = PredictRequest(features=[1.0, 3.0])
PACKED = BatchPredictRequest(
    packed_rows=PackedRows(values=struct.pack("<4d", 1.0, 3.0, 1.0, 3.0)),
    pack_probabilities=True,
)


def key(text: str) -> tuple[tuple[str, str | bytes], ...]:
    return (("prediction-key", text),)


def change(artifact: ModelArtifact, **intercept: float) -> ModelArtifact:
    """Return a copy with another intercept, and without golden examples."""
    copy = ModelArtifact()
    copy.CopyFrom(artifact)
    del copy.golden_examples[:]
    copy.logistic_regression.intercepts[0] = intercept.get("intercept", 9.0)
    probability = 1 / (1 + 2.718281828459045 ** -copy.logistic_regression.intercepts[0])
    copy.golden_examples.add(
        features=[1.0, 3.0],
        probabilities=[1 - probability, probability],
        label=str(int(probability > 0.5)),
    )
    return copy


@pytest.fixture
def champion(tmp_path: Path, logistic_artifact: ModelArtifact) -> LoadedModel:
    return load_model(write_version(tmp_path, logistic_artifact, "1"))


@pytest.fixture
def load(
    tmp_path: Path, logistic_artifact: ModelArtifact
) -> Callable[..., LoadedModel]:
    """Return a function that loads another version, after a change of its artifact."""

    def make(
        version: str = "2", edit: Callable[[ModelArtifact], Any] = lambda artifact: None
    ) -> LoadedModel:
        artifact = change(logistic_artifact)
        edit(artifact)
        return load_model(write_version(tmp_path, artifact, version))

    return make


@contextmanager
def canary_server(
    champion: LoadedModel, canary: LoadedModel | None, lane: str = "fast", **more: Any
) -> Iterator[PredictionServer]:
    settings = {"canary_dir": Path("canary"), "canary_share": 0.5, **more}
    with running_server(None, lane, **settings) as server:
        server.serve(champion)
        assert server.canary is not None
        if canary is not None:
            server.canary.serve(canary)
        yield server


def ask(stub: PredictionServiceStub) -> Canary:
    return stub.GetModel(GetModelRequest()).canary


def test_the_place_of_a_key_is_fixed() -> None:
    """Others may compute it: the number is worked out with another tool.

    printf user-17 | b2sum -l 64
    """
    digest = int("879ef91f755eb213", 16)

    assert find_place("user-17") == pytest.approx(digest / 2**64, abs=1e-15)


def test_keys_are_shared_out_evenly_and_a_larger_share_keeps_its_keys() -> None:
    places = [find_place(f"user-{number}") for number in range(20_000)]

    def canary_keys(share: float) -> set[int]:
        split = Split(share)
        return {n for n, p in enumerate(places) if split.find_arm(p) is Arm.CANARY}

    shares = [0.0, 0.01, 0.1, 0.5, 0.99, 1.0]
    groups = [canary_keys(share) for share in shares]
    for share, group in zip(shares, groups, strict=True):
        assert len(group) / len(places) == pytest.approx(share, abs=0.01)
    assert all(small <= large for small, large in zip(groups, groups[1:], strict=False))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 1.0])
def test_the_control_group_is_twice_the_canarys_or_the_rest(share: float) -> None:
    split = Split(share)
    arms = [split.find_arm((n + 0.5) / 1000) for n in range(1000)]

    assert arms.count(Arm.CANARY) == pytest.approx(1000 * share, abs=1)
    expected = min(1000 - 1000 * share, 2000 * share)
    assert arms.count(Arm.CONTROL) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("expected", [0.01, 0.3, 0.5, 0.95])
def test_limits_hold_as_often_as_they_say(expected: float) -> None:
    """Means of coins, of which the exact distribution is known."""
    scipy_stats = pytest.importorskip("scipy.stats")
    n, level = 64, 0.01
    coin = scipy_stats.binom(n, expected)
    outside_low = outside_high = 0.0
    for count in range(n + 1):
        low, high = find_limits(count / n, n, level)
        outside_low += coin.pmf(count) * (expected < low)
        outside_high += coin.pmf(count) * (expected > high)
        if count / n > expected:
            # The last digits are rounding.
            assert bound_tail(count / n, n, expected) * 1.000001 >= coin.sf(count - 1)

    assert outside_low <= level
    assert outside_high <= level


def answer(label: str, top: float) -> Answer:
    return Answer({label: 1.0}, top, False)


def draw(random_: random.Random, chance: float) -> Answer:
    is_one = random_.random() < chance
    return answer(str(int(is_one)), 0.5 + 0.5 * random_.random())


def run_judge(seed: int, canary_chance: float, n_calls: int) -> str:
    """Let a judge see calls of both arms; return its first reason."""
    random_ = random.Random(seed)
    judge = Judge(["0", "1"], BOUNDS)
    for _ in range(n_calls):
        judge.see_control(None, draw(random_, 0.3))
        judge.see_control(None, draw(random_, 0.3))
        reason = judge.see(None, draw(random_, canary_chance))
        if reason:
            return reason
    return ""


def test_an_equal_canary_is_not_aborted_in_many_windows() -> None:
    """40 canaries, 3 windows each; half of them are as far from the champion as they may be."""
    chances = [0.3, 0.4]
    reasons = [run_judge(s, chances[s % 2], 3 * LOOKS[-1]) for s in range(40)]

    assert reasons == [""] * 40


def test_a_shifted_canary_is_aborted_in_its_first_window() -> None:
    reasons = [run_judge(seed, 0.6, LOOKS[-1]) for seed in range(20)]

    assert all("its share of label '" in reason for reason in reasons)


def test_more_errors_than_allowed_abort_and_as_many_do_not() -> None:
    def run(chance: float, seed: int) -> str:
        random_, judge = random.Random(seed), ErrorJudge(0.01, 0.0005)
        reasons = (judge.see(random_.random() < chance) for _ in range(3 * LOOKS[-1]))
        return next((reason for reason in reasons if reason), "")

    assert [run(0.01, seed) for seed in range(50)] == [""] * 50
    assert all(run(0.05, seed) for seed in range(20))
    assert "32 of 32 calls" in run(1.0, 0)


def test_a_key_counts_once_in_a_window() -> None:
    """One busy caller says nothing about the canary, however many calls it sends."""
    judge = Judge(["0", "1"], BOUNDS)
    for _ in range(5 * LOOKS[-1]):
        judge.see_control(None, answer("0", 0.9))
        assert judge.see(0.25, answer("1", 0.9)) == ""


def _swap_names(artifact: ModelArtifact) -> None:
    features = artifact.input_schema.features
    features[0].name, features[1].name = features[1].name, features[0].name


def _rename_class(artifact: ModelArtifact) -> None:
    artifact.class_labels.integers.values[0] = -1


def _make_boolean(artifact: ModelArtifact) -> None:
    artifact.input_schema.features[0].boolean.SetInParent()
    example = artifact.golden_examples[0]
    del example.features[:]
    example.record.update({"f0": True, "f1": 3.0})


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (_swap_names, 'takes "f1", the champion "f0"'),
        (
            _rename_class,
            'classes are "-1", "1", in this order; the champion\'s are "0", "1"',
        ),
        (_make_boolean, 'takes "f0" as Boolean, the champion as Numeric'),
    ],
)
def test_a_canary_that_reads_calls_differently_does_not_serve(
    edit: Callable[[ModelArtifact], Any],
    words: str,
    champion: LoadedModel,
    load: Callable[..., LoadedModel],
) -> None:
    canary = load("2", edit)

    assert words in why_incompatible(canary, champion)
    keeper = CanaryKeeper(
        0.5, BOUNDS, CanaryMetrics(CollectorRegistry(), is_merged=False)
    )
    introduced: list[LoadedModel] = []
    keeper.introduce_to(introduced.append)
    keeper.serve(canary)
    keeper.serve_champion(champion)
    assert keeper.pair is None
    assert state_of(keeper) is State.INCOMPATIBLE
    assert words in keeper.status.reason
    assert not introduced


def test_a_canary_with_the_champions_version_does_not_serve(
    champion: LoadedModel, load: Callable[..., LoadedModel]
) -> None:
    """Answers, counts and logs tell models by their version."""
    keeper = make_keeper()
    introduced: list[LoadedModel] = []
    keeper.introduce_to(introduced.append)
    keeper.serve_champion(champion)
    keeper.serve(load(champion.source.version, _another))
    assert state_of(keeper) is State.INCOMPATIBLE
    assert "another model with the champion's version" in keeper.status.reason
    assert not introduced
    canary = load("2", _another)
    keeper.serve(canary)
    assert serves(keeper) and introduced == [canary]


def test_the_canary_answers_its_keys_and_keeps_them(
    champion: LoadedModel, load: Callable[..., LoadedModel], lane: str
) -> None:
    canary = load()
    with canary_server(champion, canary, lane) as server, connect(server) as stub:
        for number in range(60):
            name = f"user-{number}"
            expected = canary if find_place(name) < 0.5 else champion
            batch = BatchPredictRequest(values=[1.0, 3.0] * 2)
            chunks = iter([StreamPredictRequest(chunk=batch)] * 2)

            one = stub.Predict(FIT, metadata=key(name))
            many = stub.BatchPredict(batch, metadata=key(name))
            packed = stub.BatchPredict(PACKED, metadata=key(name))
            stream = list(stub.StreamPredict(chunks, metadata=key(name)))

            probabilities = expected.estimator.predict_probabilities([1.0, 3.0])
            assert one.model_version == expected.source.version
            assert packed.model_version == expected.source.version
            assert list(read_probabilities(packed)) == [*probabilities] * 2
            assert list(one.probabilities) == list(probabilities)
            assert many.model_version == expected.source.version
            assert {c.chunk.model_version for c in stream} == {expected.source.version}
        assert ask(stub).state == CANARY_STATE_SERVING


def test_calls_without_a_key_are_shared_out_by_chance(
    champion: LoadedModel, load: Callable[..., LoadedModel]
) -> None:
    with canary_server(champion, load()) as server, connect(server) as stub:
        versions = [stub.Predict(FIT).model_version for _ in range(100)]
        empty = [stub.Predict(FIT, metadata=key("")).model_version for _ in range(100)]

    assert 20 < versions.count("2") < 80
    assert 20 < empty.count("2") < 80


def test_a_frame_of_many_calls_is_answered_by_the_champion_alone(
    champion: LoadedModel, load: Callable[..., LoadedModel]
) -> None:
    """Its calls must have one model, and the client refuses a change of it."""
    frame = pd.DataFrame({"f0": [1.0] * 50, "f1": [3.0] * 50})
    with canary_server(champion, load()) as server:
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            answers = client.predict_frame(frame, rows_per_call=1)

    assert set(answers["model_version"]) == {"1"}


class Broken:
    """An estimator that raises, or does not sum to 1."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def predict_probabilities(self, row: Any) -> list[float]:
        if self._error is not None:
            raise self._error
        return [0.7, float("nan")]

    def predict_batch(self, X: Any) -> Any:
        if self._error is not None:
            raise self._error
        return X * float("nan")

    def explain(self, row: Any, position: int) -> Any:
        raise AssertionError("no call asks for an explanation")


@pytest.mark.parametrize(
    "error", [RuntimeError("boom"), MemoryError(), RecursionError(), None]
)
def test_callers_never_see_the_errors_of_a_canary(
    error: Exception | None,
    champion: LoadedModel,
    load: Callable[..., LoadedModel],
) -> None:
    """The champion answers, and a canary that fails is aborted with the numbers."""
    canary = replace(load(), estimator=Broken(error))
    batch = BatchPredictRequest(values=[1.0, 3.0] * 2)
    chunks = [StreamPredictRequest(chunk=batch)] * 3
    with canary_server(champion, canary, canary_share=1.0) as server:
        with connect(server) as stub:
            for _ in range(LOOKS[0]):
                assert stub.Predict(FIT).model_version == "1"
                assert stub.BatchPredict(batch).model_version == "1"
                answers = list(stub.StreamPredict(iter(chunks)))
                assert [a.chunk.model_version for a in answers] == ["1"] * 3
            wait_for(lambda: ask(stub).state == CANARY_STATE_ABORTED)
            shown = ask(stub)
            page = read_page(f"http://127.0.0.1:{server.http_port}/metrics")

    assert "32 of 32 calls that the champion could" in shown.reason
    assert shown.model_version == "2"
    assert 'prediction_canary_state{state="aborted"} 1.0' in page
    assert "prediction_canary_aborts_total 1.0" in page
    assert "prediction_canary_share 0.0" in page
    outcome = "misfit" if error is None else "failed"
    assert f'model_version="2",outcome="{outcome}"' in page
    handled = re.findall(r'handled_total\{grpc_code="INTERNAL".*\} (\S+)', page)
    assert set(handled) == {"0.0"}


def test_a_request_that_fits_the_champion_only_is_the_champions(
    champion: LoadedModel, load: Callable[..., LoadedModel]
) -> None:
    """A score that overflows, for one, or a category that only one of them knows."""

    def steepen(artifact: ModelArtifact) -> None:
        artifact.logistic_regression.coefficients[:] = [1e308, -1e308]

    canary = load("2", steepen)
    request = PredictRequest(features=[1e10, 1e10])
    with canary_server(champion, canary, canary_share=1.0) as server:
        with connect(server) as stub:
            assert stub.Predict(request).model_version == "1"
            assert stub.Predict(FIT).model_version == "2"
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(PredictRequest(features=[1.0]))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            # The caller's own mistake is not the canary's.
            wait_for(lambda: ask(stub).calls == 2)
            assert ask(stub).rows == 1


def make_keeper(
    announce: Callable[[Abort], None] = lambda abort: None,
) -> CanaryKeeper:
    metrics = CanaryMetrics(CollectorRegistry(), is_merged=False)
    return CanaryKeeper(0.5, BOUNDS, metrics, announce=announce)


def serves(keeper: CanaryKeeper) -> bool:
    return keeper.pair is not None


def state_of(keeper: CanaryKeeper) -> State:
    return keeper.status.state


def test_an_abort_holds_for_its_version_and_not_for_the_next(
    champion: LoadedModel, load: Callable[..., LoadedModel]
) -> None:
    keeper, second, third = make_keeper(), load("2"), load("3", _another)
    keeper.serve_champion(champion)
    keeper.serve(second)
    assert serves(keeper)

    keeper.abort(Abort(second.source.sha256, "too many errors"))

    assert not serves(keeper) and state_of(keeper) is State.ABORTED
    assert keeper.status.reason == "too many errors"
    keeper.serve(third)
    assert serves(keeper)
    keeper.serve(second)
    assert not serves(keeper) and state_of(keeper) is State.ABORTED


def _another(artifact: ModelArtifact) -> None:
    artifact.provenance.metrics["another"] = 0.5


def test_the_champions_own_version_is_no_canary(
    champion: LoadedModel, load: Callable[..., LoadedModel]
) -> None:
    keeper, second = make_keeper(), load("2")
    assert state_of(keeper) is State.WAITING
    keeper.serve_champion(champion)
    keeper.serve(second)

    keeper.serve_champion(second)

    assert not serves(keeper) and state_of(keeper) is State.SAME
    keeper.serve_champion(champion)
    assert serves(keeper)
    keeper.drop()
    assert not serves(keeper) and state_of(keeper) is State.WAITING


def test_the_series_of_old_versions_are_removed() -> None:
    registry = CollectorRegistry()
    metrics = CanaryMetrics(registry, is_merged=False)
    for number in range(500):
        metrics.count_calls(str(number), "answered", 1)
        metrics.show(Status(State.SERVING, str(number), 0.5))

    names = [
        sample.labels["model_version"]
        for metric in registry.collect()
        for sample in metric.samples
        if "model_version" in sample.labels
    ]
    assert len(names) < 50
    assert "499" in names and "0" not in names


def test_an_abort_passes_between_processes_and_broken_lines_do_not() -> None:
    abort = Abort("0" * 64, 'its share of label "ü" is 0.9')

    line = write_abort(abort)

    assert line.isascii() and "\n" not in line
    assert read_abort(line) == abort
    assert read_abort(line[:-3]) is None
    assert read_abort("abort [1]") is None
    assert read_abort("beat") is None


def test_the_canarys_folder_is_not_the_models() -> None:
    settings = Settings(model_dir=Path("a"), canary_dir=Path("a"))

    with pytest.raises(SettingsError, match="the canary's folder 'a' is the model's"):
        settings.canary_folder  # noqa: B018  raises


def test_without_a_canary_getmodel_has_none(server: PredictionServer) -> None:
    with connect(server) as stub:
        assert not stub.GetModel(GetModelRequest()).HasField("canary")
