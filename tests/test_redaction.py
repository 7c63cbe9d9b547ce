"""What is printed holds no secret, whoever wrote it, and hiding secrets takes no time."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grpc_server.logs import JsonFormatter
from prediction_common.secrets import find_secrets, redact

from support import ROOT

SECRET = "hunter2hunter2"


def log_line(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Return the line of the log whose field is `text`."""
    record = logging.LogRecord("name", logging.INFO, "", 0, "event", None, None)
    record.fields = {"reason": text, "all": [{"text": text}]}
    return JsonFormatter({}, secrets).format(record)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"password": "{SECRET}"}}',
        f'{{\\"password\\": \\"{SECRET}\\"}}',
        f"password='{SECRET} {SECRET}' host=x",
        f'password=a"{SECRET}',
        f"Authorization: Basic {SECRET}=",
        f"authorization=bearer {SECRET}",
        f"GET /x?X-Amz-Signature={SECRET}&y=1",
        f"/go?to=http%3A%2F%2Fme%3A{SECRET}%40host%2Fx",
        f"postgresql://host/db?user=me&sslpassword={SECRET}",
    ],
)
def test_a_secret_is_hidden_in_text_and_in_the_log(text: str) -> None:
    assert SECRET not in redact(text)

    line = log_line(text)
    assert SECRET not in line
    assert json.loads(line)["all"] == [{"text": redact(text)}]


@pytest.mark.parametrize("secret", ['qu"ote', "back\\slash", "pässword", "p w/#'"])
def test_a_known_secret_is_hidden_whatever_it_is_made_of(secret: str) -> None:
    secrets = find_secrets({"MLFLOW_TRACKING_PASSWORD": secret})

    line = json.loads(log_line(f"odd words: {secret}.", secrets))

    assert line["reason"] == "odd words: ***."


def test_passwords_of_addresses_in_the_environment_are_known_in_every_spelling() -> (
    None
):
    secrets = find_secrets(
        {
            "MLFLOW_TRACKING_URI": "http://someone:hunt%2Fer%202@host",
            "BACKEND": "postgresql://host/db?user=me&password=word1",
        }
    )

    for spelling in ("hunt%2Fer%202", "hunt/er 2", "hunt%2Fer+2", "word1"):
        assert redact(f"x{spelling}x", secrets) == "x***x"


def test_words_that_are_no_secrets_stay() -> None:
    environ = {
        "TOKENIZERS_PARALLELISM": "false",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
        "TOKEN_SECONDS": "3600",
        "REPOSITORY": "ssh://git@host/x",
        # What a shell sets: else no path below the working folder could be read in a log.
        "PWD": "/srv/models",
        "OLDPWD": "/srv/tables",
    }

    assert find_secrets(environ) == ()
    assert find_secrets({"DB_PWD": "hunter22"}) == ("hunter22",)
    text = "the registry at http://host:5000/x: models:/m@champion not found, key 7"
    assert redact(text) == text


@pytest.mark.parametrize(
    "part",
    ["a-", "://", "token", "password ", "secret:", "' ", "%3a%2f%2f", "a:b@", "\\"],
)
def test_a_text_of_somebody_else_takes_no_time(part: str) -> None:
    """In time that grows with the square of the length, each of these would take hours."""
    begin = time.monotonic()

    redact(part * (1_000_000 // len(part)))

    assert time.monotonic() - begin < 30


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "uri", [f"http://someone:{SECRET}@127.0.0.1:9", f"no://{SECRET}@x"]
)
def test_a_follower_and_a_flow_print_no_password(uri: str, tmp_path: Path) -> None:
    """Nor do the libraries that they use, on either stream."""
    environ = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "USERNAME": "tester",
    }
    follower = subprocess.Popen(
        [sys.executable, "-m", "grpc_server.model_sync", "models:/m@champion"]
        + ["--model-dir", str(tmp_path / "link"), "--interval-seconds", "0.1"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    lines = [follower.stdout.readline() for _ in range(4)]
    follower.terminate()
    rest, errors = follower.communicate(timeout=60)
    flow = subprocess.run(
        [sys.executable, str(ROOT / "flows" / "train_flow.py"), "run"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
    )

    assert any("registry failed" in line and "***@" in line for line in lines)
    assert follower.returncode == 0 and errors == ""
    assert flow.returncode != 0
    assert "MLflow at" in flow.stdout + flow.stderr
    for text in (*lines, rest, flow.stdout, flow.stderr):
        assert SECRET not in text and "Traceback" not in text
    for path in tmp_path.rglob("*"):  # what Metaflow keeps: logs, cards, artifacts
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
