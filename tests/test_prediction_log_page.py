"""The page of the prediction log: its commands run, in their order, with what they write."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

import join_outcomes
from prediction import PredictionClient
from prediction.v1.prediction_service_pb2 import BatchPredictRequest
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from server_process import running
from support import ROOT, running_server
from wire import channel_to

PAGE = (ROOT / "docs" / "prediction-log.md").read_text()
SERVE, JOIN = (
    shlex.split(command) for command in re.findall(r"```sh\n(.*?)\n```", PAGE, re.S)
)
BATCH = BatchPredictRequest(values=[1.0, 3.0, 2.0, 0.5, -1.0, 0.0])


@pytest.mark.slow
def test_commands_of_the_page(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SERVE[:3] == ["python", "-m", "grpc_server"]
    folder = tmp_path / SERVE[-1]
    arguments = [str(model_dir) if a.startswith(".model") else a for a in SERVE[3:-1]]
    with running(*arguments, str(folder), "--drain-seconds", "0") as process:
        with PredictionClient(f"127.0.0.1:{process.port}") as client:
            client.wait_until_ready(60)
        with channel_to(process) as channel:
            PredictionServiceStub(channel).BatchPredict(
                BATCH, metadata=(("x-request-id", "order-7"),), timeout=10
            )
        process.signal(15)
        assert process.wait() == 0
    monkeypatch.chdir(tmp_path)
    Path("outcomes.csv").write_text("request_id,row,paid\norder-7,0,1\norder-7,2,0\n")
    assert JOIN[:2] == ["python", "flows/join_outcomes.py"]

    assert join_outcomes.main(JOIN[2:]) == 0

    table = pd.read_parquet("joined/retrain.parquet")
    assert table.to_dict("list") == {
        "f0": [1.0, -1.0],
        "f1": [3.0, 0.0],
        "paid": ["1", "0"],
    }
    metrics = pd.read_parquet("joined/live_metrics.parquet")
    assert set(metrics["metric"]) == {"accuracy", "log_loss", "roc_auc"}
    assert set(metrics["n_rows"]) == {2} and set(metrics["n_without_outcome"]) == {1}


def test_the_keys_of_a_frame_are_joined_as_the_page_does(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)\n```", PAGE, re.S)
    orders = pd.DataFrame(
        {"order": ["007", "8", "9"], "f0": [1.0, 2.0, -1.0], "f1": [3.0, 0.5, 0.0]},
        index=[5, 3, 1],
    )
    paid = pd.DataFrame({"order": ["9", "007"], "paid": [0, 1]})
    monkeypatch.chdir(tmp_path)
    with (
        running_server(model_dir, prediction_log=tmp_path / "predictions") as server,
        PredictionClient(f"127.0.0.1:{server.port}") as client,
    ):
        exec(code, {"client": client, "orders": orders, "paid": paid})

    assert join_outcomes.main(JOIN[2:]) == 0

    table = pd.read_parquet("joined/retrain.parquet")
    assert table.to_dict("list") == {
        "f0": [1.0, -1.0],
        "f1": [3.0, 0.0],
        "paid": ["1", "0"],
    }
