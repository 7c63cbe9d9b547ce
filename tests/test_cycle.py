"""The whole cycle with real programs: trained, served, trained again, promoted, rolled back."""

import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from prediction import PredictionClient
from training.data.rows import open_rows
from training.parameters import FlowParameters
from training.registry.history import read_history
from training.registry.tracking import register
from training.trained_model import train_model

from server_process import running
from stream_support import make_table
from support import ROOT, wait_for
from training_support import plan_here, search_here

pytestmark = pytest.mark.slow
GRIDS = "[logistic_regression]\nC = [1.0]\n[lightgbm]\nn_estimators = [10]\n"
FLOW = ["--config", "search", "grids.toml", "run"]


class Cycle:
    """A folder with a table and a registry, and the programs of the project in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.champion = folder / "model" / "champion"
        self.challenger = folder / "model" / "challenger"
        (folder / "grids.toml").write_text(GRIDS)

    def write(self, shift: float, seed: int) -> None:
        """Write the table, of a world that has shifted so far."""
        path = self.folder / "stream.csv"
        make_table(600, shift=shift, seed=seed).to_csv(path, index=False)

    def python(self, *arguments: str) -> str:
        """Run a program to its end; return what it prints."""
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            # Threads that wait for a core by spinning cost more than the work.
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def registry(self, *arguments: str) -> str:
        """Run a command of the registry on the model "stream"."""
        command, *rest = arguments
        program = str(ROOT / "flows" / "registry.py")
        return self.python(program, command, "--model_name", "stream", *rest)

    @contextmanager
    def following(self, alias: str, link: Path) -> Iterator[None]:
        """Run the program that follows an alias."""
        program = [sys.executable, "-m", "grpc_server.model_sync"]
        program += [f"models:/stream@{alias}", "--model-dir", str(link)]
        program += ["--interval-seconds", "0.3"]
        process = subprocess.Popen(program, cwd=self.folder, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


TABLE = ["--data", "stream.csv", "--target", "label", "--promotion", "never"]


def ask(port: int, rows: int, shift: float) -> None:
    """Send the server rows of a world that has shifted so far."""
    table = make_table(rows, shift=shift, seed=9)
    with PredictionClient(f"127.0.0.1:{port}") as client:
        client.predict_frame(table[["a", "b"]])


def read_text(page: str) -> str:
    with urllib.request.urlopen(page) as response:
        text: str = response.read().decode()
    return text


def count_rows(page: str) -> float:
    """Return how many rows the server has looked at."""
    found = re.findall(
        r"^prediction_drift_rows_total\{.*\} (\S+)$", read_text(page), re.M
    )
    return sum(map(float, found))


def train_first(folder: Path, client: MlflowClient) -> None:
    """Train and register the first version, in this process."""
    parameters = FlowParameters(data="stream.csv", target="label", promotion="never")
    plan = plan_here(folder, parameters, tomllib.loads(GRIDS))
    results = {family: search_here(plan, family) for family in plan.grids}
    train, holdout = (open_rows(ref, Path) for ref in (plan.train, plan.holdout))
    trained = train_model(plan, results, {}, train=train, holdout=holdout)
    register(trained, holdout, experiment="stream", model_name="stream")
    assert client.get_model_version("stream", "1").status == "READY"


@pytest.mark.timeout(600)
def test_a_model_goes_through_its_whole_cycle(store: MlflowClient) -> None:
    cycle = Cycle(Path.cwd())
    cycle.write(0.0, 1)
    train_first(cycle.folder, store)
    cycle.registry("promote", "1", "--reason", "the first")

    with cycle.following("champion", cycle.champion):
        wait_for(cycle.champion.exists, 60)
        flags = ["--model-dir", cycle.champion, "--shadow-dir", cycle.challenger]
        with running(*map(str, flags)) as server:
            page = f"http://127.0.0.1:{server.http_port}/metrics"

            def answers(version: str) -> bool:
                return (
                    re.search(
                        rf'^prediction_model_info\{{.*model_version="{version}".*1\.0$',
                        read_text(page),
                        re.M,
                    )
                    is not None
                )

            wait_for(lambda: answers("1"), 60)
            signal = ["--if", "drift", "--metrics", page]
            ask(server.port, 1500, 0.0)
            wait_for(lambda: count_rows(page) >= 1000, 30)
            told = cycle.registry("retrain", *signal)
            assert "stream is not trained again: PSI of " in told

            ask(server.port, 1500, 2.0)
            wait_for(lambda: count_rows(page) >= 2000, 30)
            cycle.write(2.0, 2)
            told = cycle.registry("retrain", *signal, "--", *FLOW, *TABLE)
            assert "stream: done, version 2" in told
            assert "within --pause-hours" in cycle.registry("retrain", *signal)

            with cycle.following("challenger", cycle.challenger):
                info = 'prediction_shadow_info{model_version="2"} 1.0'
                wait_for(lambda: info in read_text(page), 60)
            ask(server.port, 200, 2.0)
            wait_for(lambda: 'agreement="other"' in read_text(page), 30)
            told = cycle.registry("compare", "1", "2", "--shadow", page)
            # In the shifted world, each class is what the other was.
            assert "Version 2 as a shadow of version 1 on 1 server: 200 rows, " in told
            share = float(re.findall(r"(\S+)% with the same label", told)[0])
            assert share < 50

            cycle.registry("promote", "2", "--reason", "it knows the shifted world")
            wait_for(lambda: answers("2"), 30)
            cycle.registry("rollback", "--reason", "the world shifted back")
            wait_for(lambda: answers("1"), 30)

    decisions = read_history(store, "stream").decisions
    assert [decision.action for decision in decisions] == [
        "register",
        "promote",
        "retrain",
        "register",
        "promote",
        "rollback",
    ]
    why = store.get_model_version("stream", "2").tags["trained_because"]
    assert why == f"retrain 3: {decisions[2].why}"
    assert why.startswith("retrain 3: drift: PSI of a is ")
