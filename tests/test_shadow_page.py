"""The page on shadows: its commands run, and its metrics are those of the server."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from test_model_sync import register

from prediction import PredictionClient
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.errors import SignalError
from training.retraining.pages import Page, Sample
from training.retraining.shadows import tell_shadow

from server_process import running
from support import ROOT, read_page, wait_for

PAGE = (ROOT / "docs" / "shadow.md").read_text()
SERVE, COMPARE = re.findall(r"^```sh\n(.*?)\n```", PAGE, re.M | re.S)
INFO = Sample(
    "prediction_model_info", {"registered_model": "wine", "model_version": "1"}, 1.0
)

DROPPED = Sample("prediction_shadow_dropped_total", {"reason": "other"}, 0.0)


def page(*samples: tuple[str, dict[str, str], float]) -> Page:
    told = [Sample(f"prediction_shadow_{n}", labels, v) for n, labels, v in samples]
    return Page("http://server/metrics", (INFO, DROPPED, *told))


def rows(agreement: str, value: float) -> tuple[str, dict[str, str], float]:
    return ("rows_total", {"model_version": "2", "agreement": agreement}, value)


def test_servers_add_up() -> None:
    version = {"model_version": "2"}
    one = page(
        rows("same", 90),
        rows("other", 10),
        rows("misfit", 3),
        ("absolute_difference_sum", version, 5.0),
        ("absolute_difference_count", version, 100),
    )
    other = page(rows("same", 100), ("rows_total", {"model_version": "3"}, 7))
    assert tell_shadow([one, other], "wine", "2") == (
        "Version 2 as a shadow of version 1 on 2 servers: 203 rows, 95.00% with the same label, "
        "probabilities 0.0500 apart in the mean, 3 do not fit it"
    )


@pytest.mark.parametrize(
    ("model", "samples", "reason"),
    [
        ("wine", (), "no row was scored with version 2"),
        ("wine", (rows("same", -1.0),), "is -1, which cannot be"),
        ("churn", (rows("same", 1.0),), "is of the model 'wine', not of 'churn'"),
    ],
)
def test_pages_that_tell_nothing_are_refused(
    model: str, samples: tuple[tuple[str, dict[str, str], float], ...], reason: str
) -> None:
    with pytest.raises(SignalError, match=reason):
        tell_shadow([page(*samples)], model, "2")


def test_a_server_without_a_shadow_is_refused() -> None:
    plain = Page("http://other/metrics", (INFO,))
    with pytest.raises(SignalError, match="http://other/metrics: the server has no"):
        tell_shadow([page(rows("same", 90)), plain], "wine", "2")


@pytest.mark.slow
def test_the_commands_serve_and_compare(
    store: MlflowClient,
    logistic_artifact: ModelArtifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.get_tracking_uri())
    for number, alias in ((1, "champion"), (2, "challenger")):
        logistic_artifact.provenance.metrics["number"] = number
        version = register(logistic_artifact, tmp_path)
        store.set_registered_model_alias("iris", alias, version)
    flags = SERVE.replace("models:/wine", "models:/iris").split()[3:]
    folders = ["--model-dir", str(tmp_path / "a"), "--shadow-dir", str(tmp_path / "b")]
    with running(*flags, *folders) as server:
        address = f"http://127.0.0.1:{server.http_port}/metrics"
        info = 'prediction_shadow_info{model_version="2"} 1.0'
        wait_for(lambda: info in read_page(address), 60)
        with PredictionClient(f"127.0.0.1:{server.port}") as client:
            for _ in range(100):
                client.predict([1.0, 2.0])
            same = (
                'prediction_shadow_rows_total{agreement="same",model_version="2"} 100.0'
            )
            wait_for(lambda: same in read_page(address), 30)
            shadow = client.get_model().shadow
        command = COMPARE.replace("http://localhost:8080/metrics", address)
        words = shlex.split(command.replace("wine", "iris"))[1:]
        told = subprocess.check_output([sys.executable, *words], cwd=ROOT, text=True)
        shown = read_page(address)

    assert shadow is not None
    assert (shadow.model_version, shadow.rows, shadow.same_rows) == ("2", 100, 100)
    assert "Version 2 as a shadow of version 1 on 1 server: 100 rows, 100.00%" in told
    for name in re.findall(r"`(prediction_shadow_\w+)", PAGE):
        assert f"\n{name}" in shown, name
