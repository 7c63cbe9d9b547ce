"""The dashboards and rules of k8s/components/monitoring: what is generated and promised."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from grpc_server.metrics import ERROR_CODES, Method, MethodMetrics, Metrics

from monitoring.__main__ import list_files, main
from monitoring.boards import list_boards
from monitoring.prometheus import RUNBOOK, list_alerts
from monitoring.values import PAGE, TICKET
from support import ROOT

COMPONENT = ROOT / "k8s" / "components" / "monitoring"
BOARDS = {
    path.stem: json.loads(path.read_text())
    for path in (COMPONENT / "dashboards").iterdir()
}
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_what_is_committed_is_what_is_generated() -> None:
    committed = {
        str(path.relative_to(COMPONENT)): path.read_text()
        for path in COMPONENT.rglob("*")
        if path.is_file() and path.name != "kustomization.yaml"
    }

    assert committed == list_files(RUNBOOK)


def test_the_runbook_may_have_an_address(tmp_path: Path) -> None:
    assert main([str(tmp_path), "--runbook", "https://example.com/runbook"]) == 0

    rules = (tmp_path / "rules.yaml").read_text()
    assert "runbook_url: https://example.com/runbook#predictionnotready" in rules


def test_the_component_has_every_dashboard() -> None:
    kustomization = yaml.safe_load((COMPONENT / "kustomization.yaml").read_text())
    (generator,) = kustomization["configMapGenerator"]

    assert generator["files"] == [f"dashboards/{name}.json" for name in sorted(BOARDS)]
    assert generator["options"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
def test_a_dashboard_has_a_fixed_name_and_the_three_variables(
    board: dict[str, Any],
) -> None:
    variables = {v["name"]: v for v in board["templating"]["list"]}

    assert board["uid"] in BOARDS and len(board["uid"]) <= 40
    assert board["editable"] is True
    assert not board.keys() & {"__inputs", "id"}
    assert list(variables) == ["datasource", "namespace", "model"]
    assert all(variables[v]["allValue"] == ".*" for v in ("namespace", "model"))


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == SOURCE
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert 'namespace=~"$namespace"' in target["expr"]
        # Whatever looks back does so as far as the scrapes and the width of the panel ask for.
        windows = re.findall(r"\[(.*?)\]", target["expr"])
        assert all(window == "$__rate_interval" for window in windows)
        counted = re.search(r"_(total|count|sum|bucket)\{", target["expr"])
        if counted and "in flight" not in panel["title"]:
            assert windows


def test_panels_of_one_dashboard_have_names_of_their_own() -> None:
    for board in list_boards():
        titles = [panel.title for row in board.rows for panel in row.panels]
        assert len(set(titles)) == len(titles)


def find_entries() -> dict[str, str]:
    """Return the text of the runbook's entries by name."""
    page = (ROOT / "docs" / "operations.md").read_text()
    parts = re.split(r"^### (Prediction\w+)\n", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_alert_has_an_entry_in_the_runbook_and_no_entry_is_left_over() -> None:
    assert set(find_entries()) == {alert.name for alert in list_alerts()}


@pytest.mark.parametrize("name", sorted({alert.name for alert in list_alerts()}))
def test_an_entry_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    entry = find_entries()[name]

    assert re.findall(r"^- \*\*(.+?)\.\*\*", entry, re.MULTILINE) == [
        "Means",
        "Look",
        "Do",
    ]


@pytest.mark.parametrize("alert", list_alerts(), ids=lambda a: f"{a.name} {a.severity}")
def test_an_alert_says_how_urgent_it_is_and_what_happened(alert: Any) -> None:
    assert alert.severity in (PAGE, TICKET)
    assert alert.summary.endswith(".")
    assert "{{" in alert.summary


def test_the_resource_of_the_operator_has_the_same_rules() -> None:
    plain = yaml.safe_load((COMPONENT / "rules.yaml").read_text())
    resource = yaml.safe_load((COMPONENT / "prometheus-rule.yaml").read_text())

    assert resource["apiVersion"] == "monitoring.coreos.com/v1"
    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"] == plain


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs Debian's prometheus")
def test_prometheus_reads_the_rules() -> None:
    command = ["promtool", "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"]

    result = subprocess.run(command, cwd=COMPONENT, capture_output=True, text=True)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("code", ["OK", *ERROR_CODES])
def test_a_counter_of_errors_begins_at_0(code: str) -> None:
    """Prometheus sees no rate in a series that begins with its first errors."""
    registry = CollectorRegistry()
    method = Method("prediction.v1.PredictionService", "Predict")
    labels = {"grpc_type": "unary", "grpc_service": method.service}
    labels |= {"grpc_method": method.name, "grpc_code": code}

    MethodMetrics(Metrics(registry), method)

    assert registry.get_sample_value("grpc_server_handled_total", labels) == 0
