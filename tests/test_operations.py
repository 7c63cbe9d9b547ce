"""The runbook: each command prints what the page says, and running programs follow."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_support import NAME, add_version, make_run

import registry
from prediction.artifact import FILE_NAME
from training.registry import history as history_module
from training.registry.decisions import REGISTER
from training.registry.history import Clerk, carry_out, make_decision, read_history

from support import ROOT, artifact_without_estimator, wait_for

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "operations.md").read_text()
EXAMPLES = re.findall(r"^```sh\n(.*?)\n```\n\n```text\n(.*?)```", PAGE, re.M | re.S)
ALICE = Clerk("alice on trainer", lambda: datetime(2026, 11, 28, 8, 53, tzinfo=UTC))


@pytest.fixture
def wine(
    store: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MlflowClient:
    """The registry at the start of the page."""
    monkeypatch.setattr(history_module, "find_clerk", lambda: ALICE)
    for accuracy, log_loss in (("0.91", "0.25"), ("0.94", "0.2")):
        tags = {"holdout_accuracy": accuracy, "holdout_log_loss": log_loss}
        tags |= {"final_fit": "all", "data_sha256": "ab" * 32}
        add_version(store, tmp_path, tags, run_id=make_run(store))
    decision = make_decision(
        read_history(store, NAME),
        store.get_model_version(NAME, "1"),
        ALICE,
        action=REGISTER,
        alias="champion",
        why="no other version was champion",
    )
    carry_out(store, NAME, decision)
    store.set_registered_model_alias(NAME, "challenger", "2")
    return store


def test_each_command_of_the_page_prints_what_the_page_says(
    wine: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = re.findall(r"^python flows/registry.py .*$", PAGE, re.M)
    assert [command for command, _ in EXAMPLES] == commands
    assert {shlex.split(command)[2] for command in commands} == {
        "history",
        "compare",
        "promote",
        "rollback",
    }

    for command, expected in EXAMPLES:
        assert registry.main(shlex.split(command)[2:]) == 0
        assert capsys.readouterr().out == expected

    assert str(wine.get_registered_model(NAME).aliases["champion"]) == "2"


@contextmanager
def following(link: Path) -> Iterator[None]:
    """Run the program that follows the champion, as beside a server."""
    program = [
        sys.executable,
        "-m",
        "grpc_server.model_sync",
        f"models:/{NAME}@champion",
    ]
    program += ["--model-dir", str(link), "--interval-seconds", "0.2"]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def run_program(*arguments: str) -> str:
    program = [sys.executable, str(ROOT / "flows" / "registry.py"), *arguments]
    program += ["--model_name", NAME, "--reason", "by the runbook"]
    result = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_a_running_program_follows_a_promotion_and_a_rollback(
    store: MlflowClient, tmp_path: Path
) -> None:
    for number in (1, 2):
        artifact = artifact_without_estimator(number, 2)
        add_version(store, tmp_path, content=artifact.SerializeToString())
    store.set_registered_model_alias(NAME, "champion", "1")
    link = tmp_path / "model" / "current"

    def serves(number: int) -> bool:
        expected = artifact_without_estimator(number, 2).SerializeToString()
        path = link / FILE_NAME
        return path.exists() and path.read_bytes() == expected

    with following(link):
        wait_for(lambda: serves(1), 60)
        assert "the champion is version 2, was version 1" in run_program("promote", "2")
        wait_for(lambda: serves(2), 30)
        assert "the champion is version 1, was version 2" in run_program("rollback")
        wait_for(lambda: serves(1), 30)
