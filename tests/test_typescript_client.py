"""The client in TypeScript: generated, compiled, and called against the real server."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from tls_support import Authority

from grpc_server.server import PredictionServer
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from log_support import read_lines
from scripted_server import (
    PREDICTION,
    ScriptedServicer,
    scripted_server,
    status_of,
    unused_target,
)
from support import ROOT, copy_project, running_server, wait_for, write_artifact

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("npm"), reason="needs Node.js with npm"),
]
FOLDER = Path("clients/typescript")
TOKEN = "s3cret-of-billing"
RECORD = '{"age": 1, "income": 3}'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the client compiled, in a folder with a space in its name."""
    folder = copy_project(tmp_path_factory.mktemp("a copy"))
    (folder / ".venv").symlink_to(Path(sys.prefix))
    # The environment is the one that runs this test.
    command = ["make", "--assume-old=.venv/.installed", "typescript"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the server's certificate, its CA, and a token."""
    authority = Authority()
    authority.issue().write(tmp_path)
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    (tmp_path / "other.crt").write_bytes(Authority("other").certificate)
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "wrong").write_text("another\n")
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    (tmp_path / "tokens").write_text(f"billing sha256:{digest} predict\n")
    return tmp_path


@pytest.fixture
def model(logistic_artifact: ModelArtifact, tmp_path: Path) -> Path:
    """A folder with a model of the README's two features."""
    for feature, name in zip(
        logistic_artifact.input_schema.features, ["age", "income"], strict=True
    ):
        feature.name = name
    return write_artifact(tmp_path / "model", logistic_artifact)


@pytest.fixture
def tls_server(model: Path, folder: Path) -> Iterator[PredictionServer]:
    with running_server(
        model,
        tls_cert=folder / "tls.crt",
        tls_key=folder / "tls.key",
        tokens_file=folder / "tokens",
        prediction_log=folder / "log",
    ) as server:
        yield server


def predict(
    project: Path, *flags: str | Path, record: str = RECORD
) -> subprocess.CompletedProcess[str]:
    """Run the program, and return how it ended."""
    program = project / FOLDER / "dist" / "predict.js"
    command = ["node", program, "--record", record, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_commands_of_its_page_work(
    project: Path, model: Path, folder: Path, tls_server: PredictionServer
) -> None:
    page = (ROOT / FOLDER / "README.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    make, describe, plain, secure = block.replace("\\\n", " ").splitlines()
    for name in ("ca.crt", "token"):
        shutil.copy(folder / name, project)

    with running_server(model) as plain_server:
        answers = [
            json.loads(
                subprocess.check_output(
                    command.replace(":50051", f":{server.port}"),
                    shell=True,
                    cwd=project,
                    timeout=60,
                )
            )
            for command, server in (
                (describe, plain_server),
                (plain, plain_server),
                (secure, tls_server),
            )
        ]

    assert make == "make typescript"
    model_of_server, *predictions = answers
    assert [f["name"] for f in model_of_server["features"]] == ["age", "income"]
    assert [answer["label"] for answer in predictions] == ["0", "0"]
    wait_for(lambda: (folder / "log").exists() and bool(read_lines(folder / "log")))
    assert read_lines(folder / "log")[0]["request_id"] == "order-7"


def test_an_answer_is_the_servers(project: Path, model: Path) -> None:
    with running_server(model) as server:
        done = predict(project, "--target", f"localhost:{server.port}")

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["probabilities"] == [
        pytest.approx(0.3775406687981454),
        pytest.approx(0.6224593312018546),
    ]


def test_an_error_has_its_details(project: Path, model: Path) -> None:
    with running_server(model) as server:
        target = f"localhost:{server.port}"
        done = predict(project, "--target", target, record='{"age": "old", "b": 1}')

    assert done.returncode == 1
    assert "INVALID_ARGUMENT INVALID_INSTANCE: " in done.stderr
    assert '\n  record["age"]: ' in done.stderr
    assert '\n  record["b"]: ' in done.stderr


@pytest.mark.parametrize(
    ("ca", "token", "problem"),
    [
        ("ca.crt", None, "UNAUTHENTICATED UNAUTHENTICATED: the call has no token"),
        ("ca.crt", "wrong", "UNAUTHENTICATED UNAUTHENTICATED: "),
        ("other.crt", "token", "UNAVAILABLE"),
        (None, "token", "a token needs TLS"),
    ],
)
def test_who_does_not_get_in_is_told_why(
    project: Path,
    folder: Path,
    tls_server: PredictionServer,
    ca: str | None,
    token: str | None,
    problem: str,
) -> None:
    flags: list[str | Path] = ["--ca", folder / ca] if ca else []
    flags += ["--token-file", folder / token] if token else []

    done = predict(project, "--target", f"localhost:{tls_server.port}", *flags)

    assert done.returncode == (1 if ca else 2)
    assert problem in done.stderr
    assert TOKEN not in done.stderr


def test_a_deadline_is_sent_and_kept(project: Path) -> None:
    def hang(request: object, context: grpc.ServicerContext) -> Any:
        ended = threading.Event()
        if context.add_callback(ended.set):
            ended.wait(10)
        return PREDICTION

    servicer = ScriptedServicer(hang)
    with scripted_server(servicer) as target:
        done = predict(project, "--target", target, "--timeout-ms", "300")

    assert "DEADLINE_EXCEEDED" in done.stderr
    assert 0 < servicer.seconds_left[0] <= 0.3


def test_unavailable_is_tried_again_and_overload_is_not(project: Path) -> None:
    busy = status_of(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "busy",
        ErrorInfo(reason="OVERLOADED", domain="prediction.v1"),
        RetryInfo(retry_delay=Duration(nanos=250_000_000)),
    )
    servicer = ScriptedServicer(status_of(grpc.StatusCode.UNAVAILABLE), busy)
    with scripted_server(servicer) as target:
        done = predict(project, "--target", target)

    assert len(servicer.requests) == 2
    assert done.stderr == (
        "predict: error: RESOURCE_EXHAUSTED OVERLOADED: busy\n  try again in 250 ms\n"
    )


def test_details_that_cannot_be_read_do_not_hide_the_error(project: Path) -> None:
    def fail(request: object, context: grpc.ServicerContext) -> NoReturn:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff"),))
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "does not fit")

    with scripted_server(ScriptedServicer(fail)) as target:
        done = predict(project, "--target", target)

    assert done.stderr == "predict: error: INVALID_ARGUMENT : does not fit\n"


@pytest.mark.parametrize(
    ("flags", "record"),
    [
        ([], "[1, 3]"),
        (["--timeout-ms", "soon"], RECORD),
        (["--ca", "missing"], RECORD),
    ],
)
def test_wrong_commands_end_with_2(
    project: Path, flags: list[str | Path], record: str
) -> None:
    with unused_target() as target:
        done = predict(project, "--target", target, *flags, record=record)

    assert done.returncode == 2
    assert done.stderr.startswith("predict: error: ")
    assert done.stderr.count("\n") == 1
