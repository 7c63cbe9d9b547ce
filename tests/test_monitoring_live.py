"""The dashboards and rules on real servers: a real Prometheus finds what each query asks for."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from grpc_server.model.sync_status import find_status_file
from prediction.v1 import prediction_service_pb2 as pb
from prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from monitoring.boards import list_boards
from monitoring.prometheus import list_alerts, list_groups
from monitoring.values import Alert, Panel, Recording, Row
from prometheus_support import Prometheus, scraping
from server_process import Process, running
from support import ROOT, lightgbm_artifact, wait_for, write_version

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("prometheus"), reason="needs Debian's prometheus"
    ),
]

PANELS = [p for board in list_boards() for row in board.rows for p in row.panels]
RECORDINGS = [
    rule
    for group in list_groups()
    for rule in group.rules
    if isinstance(rule, Recording)
]
VARIABLES = {"$__rate_interval": "30s", "$namespace": ".*", "$model": ".*"}


@dataclass(frozen=True, slots=True)
class Watched:
    """Servers after a short day, and the Prometheus that saw it."""

    prometheus: Prometheus
    servers: list[Process]


def point(link: Path, folder: Path) -> None:
    """Let the link lead to a version, in one step."""
    new = link.with_name("new")
    new.symlink_to(folder)
    new.replace(link)
    status = {"contact_time": time.time(), "wanted_version": folder.name, "reason": ""}
    find_status_file(link).write_text(json.dumps(status))


def call(server: Process, rows: list[list[float]]) -> int:
    """Call each method, once as it should be and once not; return how many calls failed."""
    row, values = pb.PredictRequest(features=rows[0]), sum(rows, [])
    batch = pb.BatchPredictRequest(values=values)
    chunk = pb.StreamPredictRequest(chunk=batch)
    n_failed = 0
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = PredictionServiceStub(channel)
        for ask in (
            lambda: stub.Predict(row),
            lambda: stub.BatchPredict(batch),
            lambda: list(stub.StreamPredict(iter([chunk]))),
            lambda: stub.GetModel(pb.GetModelRequest()),
            lambda: stub.Predict(pb.PredictRequest(features=rows[0][:1])),
        ):
            try:
                ask()
            except grpc.RpcError:
                n_failed += 1
    return n_failed


def has_version(prometheus: Prometheus, version: str) -> bool:
    query = f'count(prediction_model_info{{model_version="{version}"}} == 1)'
    return [sample["value"][1] for sample in prometheus.evaluate(query)] == ["2"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Two servers, one with two processes: no model and errors, a model, another model."""
    folder = tmp_path_factory.mktemp("monitoring")
    artifact, matrix, _ = lightgbm_artifact(2)
    rows = matrix[1:5].tolist()
    link = folder / "current"
    flags = ("--model-dir", str(link), "--wait-for-model")
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running(*flags)),
            stack.enter_context(running(*flags, "--processes", "2")),
        ]
        ports = [server.http_port for server in servers]
        prometheus = stack.enter_context(scraping(folder, ports))
        wait_for(lambda: len(prometheus.evaluate("up == 1")) == 2)
        for server in servers:
            assert call(server, rows) == 5
        for version in ("1", "2"):
            point(link, write_version(folder, artifact, version))
            wait_for(lambda: has_version(prometheus, version))  # noqa: B023
            for server in servers:
                # The page shows a model that one of the two processes has yet to load.
                wait_for(lambda: call(server, rows) == 1)  # noqa: B023
        wait_for(lambda: bool(prometheus.evaluate("slo:period_burn_rate:ratio")))
        yield Watched(prometheus, servers)


def fill_in(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


@pytest.mark.parametrize("panel", PANELS, ids=lambda p: p.title)
def test_no_panel_is_empty_but_those_that_say_what_they_need(
    panel: Panel, watched: Watched
) -> None:
    for query in panel.queries:
        found = watched.prometheus.evaluate(fill_in(query.expression))

        assert found or panel.needs
        for label in re.findall(r"{{(\w+)}}", query.legend):
            assert all(label in sample["metric"] for sample in found), label


def test_what_every_server_shows_needs_nothing_special() -> None:
    special = {row.title for b in list_boards() for row in b.rows if needs_all(row)}

    assert special == {
        "Canary",
        "Expected performance",
        "Prediction log",
        "Rows and scores",
        "Shadow",
        "Traces",
    }


def needs_all(row: Row) -> bool:
    """Tell whether a plain server leaves all panels of a row empty."""
    return all(panel.needs for panel in row.panels)


@pytest.mark.parametrize("rule", RECORDINGS, ids=lambda r: f"{r.name} {r.labels}")
def test_no_recording_is_empty_but_those_that_say_what_they_need(
    rule: Recording, watched: Watched
) -> None:
    assert watched.prometheus.evaluate(rule.expression) or rule.needs


def test_prometheus_evaluates_every_rule(watched: Watched) -> None:
    rules = [
        rule
        for group in watched.prometheus.ask("rules")["groups"]
        for rule in group["rules"]
    ]

    assert len(rules) == sum(len(group.rules) for group in list_groups())
    assert {rule["health"] for rule in rules} == {"ok"}


@pytest.mark.parametrize("alert", list_alerts(), ids=lambda a: f"{a.name} {a.severity}")
def test_the_metrics_of_an_alert_exist(alert: Alert, watched: Watched) -> None:
    names = set(watched.prometheus.ask("label/__name__/values"))
    asked_for = re.findall(
        r"\b(?:grpc_server|prediction)_\w+|\bslo:[\w:]+", alert.expression
    )

    assert asked_for or alert.needs
    assert alert.needs or set(asked_for) <= names


def test_the_errors_before_the_first_model_are_seen(watched: Watched) -> None:
    query = 'sum(increase(grpc_server_handled_total{grpc_code="UNAVAILABLE"}[2m]))'

    ((_, value),) = [s["value"] for s in watched.prometheus.evaluate(query)]

    assert float(value) > 0


def test_the_commands_of_the_runbook_answer(watched: Watched) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    _, runbook = page.split("## When an alert rings\n")
    (commands,) = re.findall(r"^```sh\n(.*?)^```", runbook, re.MULTILINE | re.DOTALL)

    outputs = []
    for command in commands.splitlines():
        program, *arguments = shlex.split(command)
        assert program == "python"
        arguments += ["--target", f"127.0.0.1:{watched.servers[0].port}"]
        outputs.append(subprocess.check_output([sys.executable, *arguments], text=True))

    assert json.loads(outputs[0])["model_version"] == "2"
    assert outputs[1].strip() == "SERVING"
