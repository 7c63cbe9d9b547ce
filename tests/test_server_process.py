"""The server as its users start it: `python -m grpc_server` in a process of its own."""

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
import pytest

from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction.v1.prediction_service_pb2 import PredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from server_process import COMMAND, FREE_PORTS, running
from support import ROOT, write_artifact, write_version

DEAD_REGISTRY = "http://127.0.0.1:9"


def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a server that ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


@pytest.fixture
def model_dir(logistic_artifact: ModelArtifact, tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "a model", logistic_artifact)


def predict(channel: grpc.Channel) -> str:
    request = PredictRequest(features=[1.0, 3.0])
    return PredictionServiceStub(channel).Predict(request, timeout=10).label


@pytest.mark.parametrize(
    ("number", "drains"),
    [(signal.SIGTERM, True), (signal.SIGINT, False)],
    ids=["TERM", "INT"],
)
def test_a_signal_ends_the_server_well(
    number: int, drains: bool, model_dir: Path
) -> None:
    seconds = "0.2" if drains else "3600"
    with running("--model-dir", str(model_dir), "--drain-seconds", seconds) as process:
        process.wait_for("serving")
        process.signal(number)

        assert process.wait_for("draining")["seconds"] == float(seconds)
        process.wait_for("stopped")
        assert process.wait() == 0


def test_while_draining_new_calls_are_answered(model_dir: Path) -> None:
    with running("--model-dir", str(model_dir), "--drain-seconds", "3600") as process:
        process.wait_for("serving")
        process.signal(signal.SIGTERM)
        process.wait_for("draining")

        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            assert predict(channel) == "1"

        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_stop_under_load_loses_no_call(model_dir: Path, lane: str) -> None:
    """Callers that stop when the server is not ready see no failure."""
    failures: list[grpc.RpcError] = []
    draining = threading.Event()

    def call_until_draining(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            while not draining.is_set():
                try:
                    predict(channel)
                except grpc.RpcError as error:
                    failures.append(error)
                    return

    arguments = ["--model-dir", str(model_dir), "--drain-seconds", "1"]
    with running(*arguments, "--lane", lane) as process:
        process.wait_for("serving")
        threads = [
            threading.Thread(target=call_until_draining, args=(process.port,))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        process.signal(signal.SIGTERM)
        process.wait_for("draining")
        draining.set()
        for thread in threads:
            thread.join()
        code = process.wait()

    assert (code, failures) == (0, [])


def test_the_serving_process_imports_no_training_library(model_dir: Path) -> None:
    """Start-up time and memory depend on it."""
    program = (
        "import pathlib, sys, grpc_server.__main__; from grpc_server.model import load_model; "
        f"load_model(pathlib.Path({str(model_dir)!r})); "
        "heavy = {'lightgbm', 'metaflow', 'mlflow', 'numpy', 'pandas', 'scipy', 'sklearn'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )

    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout == "[]\n"


def test_settings_are_printed_with_their_origins() -> None:
    result = run("--port", "1234", "--print-settings")

    assert result.returncode == 0
    assert ["port", "1234", "--port"] in [
        line.split() for line in result.stdout.splitlines()
    ]


def test_the_help_names_every_setting() -> None:
    result = run("--help")

    assert result.returncode == 0
    assert "--drain-seconds" in result.stdout and "PREDICTION_PORT" in result.stdout


def error_of(result: "subprocess.CompletedProcess[str]") -> str:
    """Return the only line that the program printed at its end."""
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_missing_model_ends_the_start_with_one_line(tmp_path: Path) -> None:
    error = error_of(run(*FREE_PORTS, "--model-dir", str(tmp_path)))

    assert (
        error == f"error: no model at {tmp_path}/model.binpb: No such file or directory"
    )


def test_a_truncated_model_ends_the_start_with_one_line(model_dir: Path) -> None:
    path = model_dir / "model.binpb"
    path.write_bytes(path.read_bytes()[:-9])

    assert "only partly written" in error_of(
        run(*FREE_PORTS, "--model-dir", str(model_dir))
    )


def test_a_port_in_use_ends_the_start_with_one_line(model_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        error = error_of(
            run(*FREE_PORTS, "--port", port, "--model-dir", str(model_dir))
        )

    assert error.startswith(
        f"error: cannot listen on 127.0.0.1:{port}: Address already in use"
    )


def test_a_server_told_to_wait_is_ready_once_a_model_appears(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    write_artifact(tmp_path / "versions" / "1", logistic_artifact)

    with running("--model-dir", str(link), "--wait-for-model") as process:
        process.wait_for("waiting for a model")
        link.symlink_to("versions/1")
        process.wait_for("serving")
        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
            assert predict(channel) == "1"


@pytest.mark.slow
def test_an_empty_registry_ends_the_start_with_one_line(tmp_path: Path) -> None:
    arguments = [*FREE_PORTS, "--model-uri", "models:/iris@champion"]
    arguments += ["--model-dir", str(tmp_path / "current")]

    error = error_of(
        run(
            *arguments,
            env={"PATH": "", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/none.db"},
        )
    )

    assert "there is no registry at sqlite:///" in error


@pytest.mark.slow
def test_a_dead_registry_leaves_the_last_good_model_in_service(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    (tmp_path / "current").symlink_to(write_version(tmp_path, logistic_artifact, "1"))
    arguments = ["--model-uri", "models:/iris@champion"]
    arguments += ["--model-dir", str(tmp_path / "current")]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", DEAD_REGISTRY)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with running(*arguments) as process:
            process.wait_for("serving")
            warning = process.wait_for("registry failed")
            with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
                assert predict(channel) == "1"

    assert DEAD_REGISTRY in warning["reason"]


@pytest.mark.slow
def test_a_dead_registry_does_not_bring_another_model_into_service(
    logistic_artifact: ModelArtifact, tmp_path: Path
) -> None:
    link = tmp_path / "current"
    link.symlink_to(write_version(tmp_path, logistic_artifact, "1"))
    environ = {"MLFLOW_TRACKING_URI": DEAD_REGISTRY, "PATH": ""}
    environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    arguments = ["--model-uri", "models:/wine@champion", "--model-dir", str(link)]

    error = error_of(run(*FREE_PORTS, *arguments, env=environ))

    assert DEAD_REGISTRY in error


def test_a_server_needs_to_know_its_model() -> None:
    error = error_of(run(*FREE_PORTS))

    assert "no model is named; give --model-dir FOLDER or --model-uri" in error
