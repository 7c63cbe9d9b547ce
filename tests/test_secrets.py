"""No password or key is printed, by us or in the words of a library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from prediction_common.secrets import find_secrets, redact

from server_process import COMMAND, FREE_PORTS
from support import ROOT

SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "text",
    [
        f"http://someone:{SECRET}@127.0.0.1:9/api",
        f"postgresql+psycopg://someone:{SECRET}@db/x?sslmode=require",
        f"http://someone:p@{SECRET}@host/path",
        f"cannot reach 'http://:{SECRET}@host', try again",
        f"host=db user=me password={SECRET} dbname=x",
        f"https://host/path?a=1&access_token={SECRET}&b=2",
        f"Authorization: token: Bearer {SECRET}",
        f'{{"MLFLOW_TRACKING_PASSWORD": "{SECRET}"}}',
        f"aws_secret_access_key = {SECRET}",
    ],
)
def test_secrets_are_removed_from_any_text(text: str) -> None:
    assert SECRET not in redact(text)
    assert "***" in redact(text)


def test_what_is_no_secret_stays() -> None:
    text = "the registry at http://host:5000/x: models:/m@champion not found, key 7"

    assert redact(text) == text


def test_secrets_of_the_environment_are_found_by_their_names() -> None:
    environ = {"MLFLOW_TRACKING_TOKEN": SECRET, "PASSWORD": "abc", "HOME": "/home/x"}

    assert find_secrets(environ) == (SECRET,)
    assert redact(f"odd words around {SECRET}.", [SECRET]) == "odd words around ***."


URIS = [
    pytest.param(f"http://someone:{SECRET}@127.0.0.1:9", id="http"),
    pytest.param(f"nonsense://someone:{SECRET}@127.0.0.1:9/db", id="unknown"),
]


@pytest.mark.slow
@pytest.mark.parametrize("uri", URIS)
def test_programs_print_no_password(
    uri: str, tmp_path: Path, logistic_artifact: ModelArtifact
) -> None:
    """model_sync, a server that has no model, and the settings."""
    environ = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    link = str(tmp_path / "link")
    model_sync = [sys.executable, "-m", "grpc_server.model_sync", "models:/m@champion"]
    server = [*COMMAND, *FREE_PORTS, "--model-uri", "models:/m@champion"]
    for command in (
        [*model_sync, "--model-dir", link],
        [*server, "--model-dir", link],
        [*server, "--print-settings"],
    ):
        result = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120
        )
        output = result.stdout + result.stderr

        assert SECRET not in output
        assert "Traceback" not in output
        assert result.returncode == (0 if "--print-settings" in command else 1)
