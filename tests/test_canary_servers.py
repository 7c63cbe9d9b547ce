"""Canaries in real servers: loaded from a folder, swapped under load, aborted in all processes."""

import functools
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np

from grpc_server.canary.split import find_place
from grpc_server.canary.start import make_watcher
from grpc_server.model import load_model
from grpc_server.model.watch import ModelWatcher
from grpc_server.server import PredictionServer
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import (
    CANARY_STATE_ABORTED,
    CANARY_STATE_SERVING,
    BatchPredictRequest,
    Canary,
    GetModelRequest,
    PredictRequest,
)
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from server_process import running
from support import (
    connect,
    read_page,
    running_server,
    settings_of,
    wait_for,
    write_version,
)

N_SWAPS = 200
SHARE = 0.3
ROW = [2.0, 2.0]


def point(link: Path, folder: Path) -> None:
    fresh = link.with_name("fresh")
    fresh.symlink_to(folder)
    fresh.replace(link)


def key(text: str) -> tuple[tuple[str, str | bytes], ...]:
    return (("prediction-key", text),)


def ask(stub: PredictionServiceStub) -> Canary:
    return stub.GetModel(GetModelRequest(), timeout=30).canary


def shift(artifact: ModelArtifact, number: int) -> ModelArtifact:
    """Return a copy whose answers differ a little, and whose examples still hold."""
    copy = ModelArtifact()
    copy.CopyFrom(artifact)
    # At the centre, where the example is, nothing changes.
    copy.logistic_regression.coefficients[0] += 0.01 * number
    return copy


def reverse(artifact: ModelArtifact) -> ModelArtifact:
    """Return a copy that decides otherwise away from the centre."""
    copy = ModelArtifact()
    copy.CopyFrom(artifact)
    copy.logistic_regression.coefficients[:] = [-9.0, 9.0]
    return copy


@contextmanager
def calling(
    port: int,
    failures: list[grpc.RpcError],
    note: Callable[[str, str, list[float]], None],
) -> Iterator[None]:
    """Call a server from three threads, with keys, in single calls and batches."""
    stop = threading.Event()

    def call(number: int) -> None:
        batch = BatchPredictRequest(values=ROW)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = PredictionServiceStub(channel)
            for turn in itertools.count():
                if stop.is_set():
                    return
                name = f"{number}-{turn % 50}"
                try:
                    if turn % 4:
                        one = stub.Predict(
                            PredictRequest(features=ROW), metadata=key(name), timeout=30
                        )
                        note(name, one.model_version, list(one.probabilities))
                    else:
                        many = stub.BatchPredict(batch, metadata=key(name), timeout=30)
                        note(name, many.model_version, list(many.probabilities))
                except grpc.RpcError as error:
                    failures.append(error)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def watch(server: PredictionServer, model: Path, canary: Path) -> list[ModelWatcher]:
    """Watch both links often, and load without a trial, which takes a second."""

    def skip_trial(folder: Path, give_up: object) -> dict[str, str]:
        return {"sha256": load_model(folder).source.sha256}

    assert server.canary is not None
    champions = ModelWatcher(
        model, None, server.serve, server.count_load_failure, 0.01, try_load=skip_trial
    )
    canaries = ModelWatcher(
        canary,
        None,
        server.canary.serve,
        server.canary.count_load_failure,
        0.01,
        try_load=skip_trial,
        on_missing=server.canary.drop,
    )
    champions.load_now()
    for watcher in (champions, canaries):
        watcher.start()
    return [champions, canaries]


def test_swaps_under_load_lose_no_call_and_mix_no_models(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    """Promotions, rollbacks and new canaries: each answer is exactly its version's."""
    folders = [
        write_version(tmp_path, shift(logistic_artifact, n), str(n))
        for n in range(1, 5)
    ]
    models = {folder.name: load_model(folder).estimator for folder in folders}
    # A batch adds the terms of a dot product in another order.
    expected = {
        version: [
            list(model.predict_probabilities(ROW)),
            model.predict_batch(np.array([ROW])).ravel().tolist(),
        ]
        for version, model in models.items()
    }
    champion, canary = tmp_path / "champion", tmp_path / "canary"
    point(champion, folders[0])
    point(canary, folders[1])
    failures: list[grpc.RpcError] = []
    wrong: list[tuple[str, str, list[float]]] = []
    seen: set[str] = set()

    def note(name: str, version: str, probabilities: list[float]) -> None:
        seen.add(version)
        if probabilities not in expected[version]:
            wrong.append((name, version, probabilities))

    logged = tmp_path / "log"
    logged.mkdir()
    with running_server(
        None,
        canary_dir=canary,
        canary_share=SHARE,
        canary_max_shift=1.0,
        shadow_dir=folders[3],
        prediction_log=logged,
    ) as server, connect(server) as stub:
        watchers = watch(server, champion, canary)
        with calling(server.port, failures, note):
            pairs = itertools.cycle(itertools.permutations(folders, 2))
            for first, second in itertools.islice(pairs, N_SWAPS):
                point(champion, first)
                point(canary, second)
                wait_for(functools.partial(_serves, stub, first.name, second.name))
        for watcher in watchers:
            watcher.stop()
        page = f"http://127.0.0.1:{server.http_port}/metrics"
        scored = 'agreement="same",model_version="4"'
        wait_for(lambda: scored in read_page(page))

    assert failures == []
    assert wrong == []
    assert seen == {"1", "2", "3", "4"}
    lines = [
        json.loads(line)
        for path in logged.iterdir()
        for line in path.read_text().splitlines()
    ]
    assert {line["model_version"] for line in lines} == seen
    for line in lines:
        answer = list(line["probabilities"].values())
        assert answer in expected[line["model_version"]]


def _serves(stub: PredictionServiceStub, champion: str, canary: str) -> bool:
    model = stub.GetModel(GetModelRequest(), timeout=30)
    shown = model.canary
    is_there = (model.model_version, shown.model_version) == (champion, canary)
    return is_there and shown.state == CANARY_STATE_SERVING


def test_a_damaged_canary_is_said_and_the_champion_answers(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    """The trial finds it in another process; a good file takes over, and may be taken away."""
    canary = tmp_path / "canary"
    folders = [
        write_version(tmp_path, shift(logistic_artifact, n), str(n)) for n in (1, 2, 3)
    ]
    (folders[1] / "model.binpb").write_bytes(b"not a model")
    point(canary, folders[1])
    settings = settings_of("fast", canary_dir=canary, canary_share=1.0)
    with running_server(
        folders[0], canary_dir=canary, canary_share=1.0
    ) as server, connect(server) as stub:
        watcher = make_watcher(settings, server.canary)
        assert watcher is not None
        watcher.start()
        wait_for(lambda: "sha256" in ask(stub).reason)
        assert stub.Predict(PredictRequest(features=ROW)).model_version == "1"

        point(canary, folders[2])
        wait_for(lambda: ask(stub).state == CANARY_STATE_SERVING)
        assert stub.Predict(PredictRequest(features=ROW)).model_version == "3"
        assert ask(stub).reason == ""

        canary.unlink()
        wait_for(lambda: ask(stub).state != CANARY_STATE_SERVING)
        assert stub.Predict(PredictRequest(features=ROW)).model_version == "1"
        watcher.stop()


def test_several_processes_share_keys_and_an_abort(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    """A canary that decides otherwise is aborted everywhere, though one process saw it."""
    champion = write_version(tmp_path, logistic_artifact, "1")
    canary = write_version(tmp_path, reverse(logistic_artifact), "2")
    arguments = ["--model-dir", str(champion), "--canary-dir", str(canary)]
    arguments += ["--canary-share", "0.4", "--processes", "2", "--drain-seconds", "0"]
    with running(*arguments) as process:
        process.wait_for("all processes are ready")
        for _ in range(2):
            process.wait_for("canary serves")
        channels = [
            grpc.insecure_channel(
                f"127.0.0.1:{process.port}", [("grpc.use_local_subchannel_pool", 1)]
            )
            for _ in range(8)
        ]
        stubs = [PredictionServiceStub(channel) for channel in channels]
        for number in range(24):
            name = f"user-{number}"
            answered = stubs[number % 8].Predict(
                PredictRequest(features=ROW), metadata=key(name), timeout=30
            )
            assert (answered.model_version == "2") == (find_place(name) < 0.4)

        # One connection only, so that one process alone sees the evidence.
        for _ in range(2000):
            stubs[0].Predict(PredictRequest(features=ROW), timeout=30)
            if ask(stubs[0]).state == CANARY_STATE_ABORTED:
                break
        reason = ask(stubs[0]).reason
        wait_for(lambda: all(ask(stub).state == CANARY_STATE_ABORTED for stub in stubs))

        assert "share of label" in reason
        assert {ask(stub).reason for stub in stubs} == {reason}
        answers = [
            stub.Predict(PredictRequest(features=ROW), timeout=30).model_version
            for stub in stubs * 5
        ]
        assert set(answers) == {"1"}
        for channel in channels:
            channel.close()
