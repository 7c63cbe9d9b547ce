"""The page on canaries: its commands run, and its figures are those of the code."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from test_model_sync import register

from grpc_server.canary.judge import FALSE_ALARMS, LOOKS
from grpc_server.canary.split import find_place
from grpc_server.canary.status import State
from grpc_server.settings import Settings
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from server_process import running
from support import ROOT, wait_for

PAGE = (ROOT / "docs" / "canary.md").read_text()
SERVER, SYNC, DIGEST, DESCRIBE = re.findall(r"^```sh\n(.*?)\n```", PAGE, re.M | re.S)


def test_the_figures_are_those_of_the_code() -> None:
    settings = Settings()

    assert f"{LOOKS[-1]:,} calls of the canary" in PAGE
    assert f"at most {FALSE_ALARMS:g}, over" in PAGE
    assert f"`--canary-max-errors` | {settings.canary_max_errors:g} |" in PAGE
    assert f"`--canary-max-shift` | {settings.canary_max_shift:g} |" in PAGE
    assert all(f"`{state.value}`" in PAGE for state in State)


def test_the_digest_of_a_key_is_the_printed_one() -> None:
    output = subprocess.check_output(DIGEST, shell=True, text=True).split()[0]

    assert f"`{output}` is 0.53 of 2^64" in PAGE
    assert find_place("user-17") == pytest.approx(int(output, 16) / 2**64, abs=1e-15)


def run(command: str, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, *shlex.split(command)[1:], *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.mark.slow
def test_the_commands_serve_follow_and_describe_a_canary(
    store: MlflowClient,
    logistic_artifact: ModelArtifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new challenger takes over while the server runs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())

    def add(number: int, alias: str) -> None:
        logistic_artifact.provenance.metrics["number"] = number
        version = register(logistic_artifact, tmp_path)
        store.set_registered_model_alias("iris", alias, version)

    def name_of(command: str) -> str:
        return command.replace("models:/wine", "models:/iris")

    add(1, "champion")
    add(2, "challenger")
    champion, canary = tmp_path / "champion", tmp_path / "canary"
    arguments = shlex.split(name_of(SERVER))[3:]
    folders = ["--model-dir", str(champion), "--canary-dir", str(canary)]
    with running(*arguments, *folders, "--drain-seconds", "0") as process:

        def describe() -> dict[str, str]:
            target = f"localhost:{process.port}"
            output = run(DESCRIBE, "--target", target).communicate(timeout=60)[0]
            return dict(json.loads(output or "{}").get("canary") or {})

        def shows(version: str) -> bool:
            canary = describe()
            state, shown = canary.get("state"), canary.get("model_version")
            return (state, shown) == ("serving", version)

        wait_for(lambda: shows("2"), 60)
        add(3, "challenger")
        follow = name_of(SYNC).replace(".model/iris@challenger", str(canary))
        sync = run(follow, f"--model-dir={canary}", "--interval-seconds=0.5")
        try:
            wait_for(lambda: shows("3"), 60)
        finally:
            sync.terminate()
            sync.communicate(timeout=30)
