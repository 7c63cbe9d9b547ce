"""Drift from pages of metrics, by Python and by a real Prometheus."""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import roc_auc_score

from grpc_server.drift.monitor import DriftMonitor
from grpc_server.model import LoadedModel, load_model
from grpc_server.ports import reserve
from prediction.v1.prediction_service_pb2 import BatchPredictRequest
from prediction_common.stability import index_stability
from training.artifact.reference import describe_scores
from training.retraining.expected import measure_expected_roc_auc
from training.retraining.pages import parse_page
from training.retraining.served import INFO, Served, add_up, read_served, subtract
from training.retraining.signals import judge_drift

from drift_support import make_numbers, number_artifact, offer, page_of
from prometheus_support import RULES
from support import (
    ROOT,
    answers,
    connect,
    read_page,
    running_server,
    wait_for,
    write_version,
)

Values = dict[str, list[tuple[dict[str, str], float]]]

needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="Prometheus is not installed"
)


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return load_model(write_version(tmp_path, number_artifact(), "7"))


def watch(model: LoadedModel, **changes: Any) -> DriftMonitor:
    monitor = DriftMonitor(30, max_rows=100_000, **changes)
    monitor.watch(model)
    return monitor


def shifted(n_rows: int, seed: int) -> np.ndarray:
    """Return rows whose third number is larger than that of the reference."""
    X = make_numbers(n_rows, seed)
    X[:, 2] += 1.0
    return X


def look(monitor: DriftMonitor, model: LoadedModel) -> Served:
    """Return what the page of a server with this monitor tells."""
    version = model.source.version
    info = f'{INFO}{{registered_model="iris",model_version="{version}"}} 1\n'
    return read_served(parse_page("page", info + page_of(monitor)), "iris")


def test_two_servers_are_measured_as_one(model: LoadedModel) -> None:
    one, other, both = watch(model), watch(model), watch(model)
    offer(one, model, shifted(900, 1))
    offer(other, model, make_numbers(700, 2))
    for X in (shifted(900, 1), make_numbers(700, 2)):
        offer(both, model, X)
    found = judge_drift(add_up([look(one, model), look(other, model)]), 0.2)
    assert found == judge_drift(look(both, model), 0.2)
    assert found.is_due and "f2" in found.words
    assert found.figures["rows"] == 1_600


def test_two_pages_of_a_server_are_a_window(model: LoadedModel) -> None:
    monitor = watch(model)
    offer(monitor, model, make_numbers(5_000, 1))
    before = look(monitor, model)
    offer(monitor, model, shifted(999, 2))
    alone = watch(model)
    offer(alone, model, shifted(999, 2))
    after, window = look(monitor, model), look(alone, model)
    assert judge_drift(subtract(before, after), 0.2, 1) == judge_drift(window, 0.2, 1)
    assert not judge_drift(subtract(before, after), 0.2).is_due  # too few rows
    # A server that began anew counts from its start.
    assert subtract(before, window) == window


def expect_roc_auc(p: np.ndarray) -> float:
    """Return scikit-learn's: a row is p rows of the second class, and 1 - p of the first."""
    weight = np.concatenate([p, 1 - p])
    y = np.repeat([1, 0], len(p))
    return float(roc_auc_score(y, np.tile(p, 2), sample_weight=weight))


# Mean and deviation of the log odds; rows of training have a mean that is higher by the last.
@pytest.mark.parametrize(
    ("mean", "deviation", "moved"),
    [
        pytest.param(0.0, 0.3, 0.0, id="hardly told apart"),
        pytest.param(0.0, 8.0, 0.0, id="nearly sure"),
        pytest.param(-5.6, 1.5, 0.0, id="1 % positive"),
        pytest.param(-9.0, 3.0, 0.0, id="1 % positive, some sure"),
        pytest.param(6.5, 2.5, 0.0, id="2 % negative"),
        pytest.param(-1.0, 1.0, -1.0, id="more since training"),
        pytest.param(-4.0, 1.5, 1.0, id="fewer since training"),
    ],
)
def test_the_expected_roc_auc_is_that_of_scikit_learn(
    mean: float, deviation: float, moved: float, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)

    def draw(n_rows: int, mean: float) -> np.ndarray:
        return 1 / (1 + np.exp(-random.normal(mean, deviation, n_rows)))

    known, p = draw(2_000, mean + moved), np.sort(draw(20_000, mean))
    artifact = number_artifact()
    artifact.reference.scores.CopyFrom(
        describe_scores(np.column_stack([1 - known, known]), None)
    )
    model = load_model(write_version(tmp_path, artifact, "7"))
    servers = []
    # One server is asked about the rows with the lower scores.
    for part in np.split(p, [12_000]):
        monitor = watch(model)
        for value in part.tolist():
            monitor.offer(model, [0.0] * 6, [1 - value, value], int(value > 0.5))
        servers.append(look(monitor, model))

    found, n_rows = measure_expected_roc_auc(add_up(servers))

    assert n_rows == 20_000
    assert found == pytest.approx(expect_roc_auc(p), abs=1e-4)


def read_rules() -> str:
    """Return the rules that the page of drift shows."""
    text = (ROOT / "docs" / "drift.md").read_text()
    return text.partition("```yaml\n")[2].partition("```")[0]


@needs_prometheus
def test_promtool_accepts_the_rules_and_the_page(
    tmp_path: Path, model: LoadedModel
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(read_rules())
    subprocess.run(["promtool", "check", "rules", str(rules)], check=True)
    monitor = watch(model)
    offer(monitor, model, make_numbers(100))
    command = ["promtool", "check", "metrics"]
    subprocess.run(command, input=page_of(monitor), text=True, check=True)


@needs_prometheus
def test_prometheus_computes_what_the_formulas_give(
    tmp_path: Path, model: LoadedModel
) -> None:
    X = shifted(1_100, 3)
    with running_server(tmp_path / "versions" / "7") as server, connect(server) as stub:
        address = f"http://127.0.0.1:{server.http_port}/metrics"
        first = read_page(address)
        answer = stub.BatchPredict(BatchPredictRequest(values=X.ravel()))
        values, of_component = evaluate(tmp_path, first, read_page(address))
    probabilities = np.reshape(answer.probabilities, (-1, 2))
    p, predicted = probabilities[:, 1], probabilities[:, 1] > 0.5
    expected = {
        "accuracy": np.where(predicted, p, 1 - p).mean(),
        "precision": p[predicted].mean(),
        "recall": p[predicted].sum() / p.sum(),
    }
    expected["f1"] = 2 * p[predicted].sum() / (predicted.sum() + p.sum())
    for name, value in expected.items():
        (found,) = [
            v
            for labels, v in values[f"prediction:expected_{name}:6h"]
            if labels.get("class", "1") == "1"
        ]
        assert found == pytest.approx(value, rel=1e-9), name
    for rules in (values, of_component):
        # The bins of this reference were not made from this model's scores.
        ((_, found),) = rules["prediction:expected_roc_auc:6h"]
        assert found == pytest.approx(expect_roc_auc(p), abs=3e-4)
    assert model.reference is not None
    psi = {labels["feature"]: v for labels, v in values["prediction:feature_psi:6h"]}
    distance = {
        labels["feature"]: v for labels, v in values["prediction:feature_js:6h"]
    }
    for bins in model.reference.features:
        column = X[:, bins.position]
        numbers = np.searchsorted(bins.edges, column)
        numbers[np.isnan(column)] = len(bins.edges) + 1
        counts = np.bincount(numbers, minlength=len(bins.shares))
        name = bins.feature.name
        index = index_stability(counts.tolist(), bins.shares)
        assert psi[name] == pytest.approx(index, rel=1e-9)
        true = jensenshannon(counts, bins.shares, base=2)
        assert distance[name] == pytest.approx(true, rel=1e-6)
    ((_, score),) = values["prediction:score_psi:6h"]
    assert score > 0


def evaluate(folder: Path, first: str, second: str) -> list[Values]:
    """Return the values of each rule, by a real Prometheus that has seen both pages.

    First those of the rules on the page of drift, then those of k8s/components/monitoring.

    It sees the first page at the start of the window and the second at its end, so it has nothing
    to extrapolate.
    """
    end = int(time.time()) - 3_600
    history = folder / "history.txt"
    history.write_text(
        _write_samples(first, end - 6 * 3_600) + _write_samples(second, end) + "# EOF\n"
    )
    blocks = folder / "data"
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics"]
    subprocess.run([*command, str(history), str(blocks)], check=True)
    with querying(folder, blocks) as address:
        return [
            {
                name: query(address, expression, end)
                for name, expression in expand_rules(groups).items()
            }
            for groups in (yaml.safe_load(read_rules())["groups"], read_component())
        ]


def _write_samples(page: str, seconds: int) -> str:
    """Return the samples of drift as OpenMetrics has them, at a time."""
    lines = [line for line in page.splitlines() if line.startswith("prediction_")]
    return "".join(f"{line} {seconds}\n" for line in lines if "model_version" in line)


def read_component() -> list[Any]:
    """Return the groups of drift of the component for Kubernetes."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [group for group in groups if group["name"] == "prediction-drift"]


def expand_rules(groups: list[Any]) -> dict[str, str]:
    """Return each rule with what it is made of in place of the names of other rules."""
    rules: dict[str, str] = {}
    for group in groups:
        for rule in group["rules"]:
            expression = re.sub(
                r"prediction:\w+(:6h)?",
                lambda name: f"({rules[name.group()]})",
                rule["expr"],
            )
            rules[rule["record"]] = expression
    return rules


@contextmanager
def querying(folder: Path, blocks: Path) -> Iterator[str]:
    """Run Prometheus on some blocks; return the address of its queries."""
    (folder / "empty.yml").write_text("{}")
    with reserve("127.0.0.1", 0) as reserved:
        port = reserved.getsockname()[1]
    command = ["prometheus", f"--config.file={folder / 'empty.yml'}"]
    command += [f"--storage.tsdb.path={blocks}", "--storage.tsdb.retention.time=10y"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{address}/-/ready"))
        yield f"{address}/api/v1/query"
    finally:
        process.kill()
        process.wait()


def query(
    address: str, expression: str, seconds: int
) -> list[tuple[dict[str, str], float]]:
    """Return the labels and the value of each series of an expression."""
    body = urllib.parse.urlencode({"query": expression, "time": seconds}).encode()
    try:
        with urllib.request.urlopen(address, body) as response:
            result = json.load(response)["data"]["result"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{expression}: {error.read().decode()}") from None
    return [(one["metric"], float(one["value"][1])) for one in result]
