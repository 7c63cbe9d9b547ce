"""Which registered model a run writes to, and what a deployment on Argo gets."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from argo_launch import LaunchError, is_deployment, list_decorators, report_death
from branches import name_for_branch
from training.errors import RegistryError
from training.reasons import check_reason


@pytest.mark.parametrize(
    ("branch", "is_trial", "name"),
    [
        ("user.alice", False, "wine"),
        ("prod", True, "wine"),
        ("prod", False, "wine"),
        ("test.x", True, "wine-test.x"),
        ("prod.x", True, "wine-prod.x"),
        ("user.a@b:/c", True, "wine-user.a_b__c"),
    ],
)
def test_only_production_and_a_plain_run_have_the_name_alone(
    branch: str, is_trial: bool, name: str
) -> None:
    assert name_for_branch("wine", branch, is_trial=is_trial) == name


NOTHING = {"cron": "", "timezone": "UTC", "event": ""}


def test_a_deployment_reports_a_death_and_starts_as_the_file_says() -> None:
    hook = ("exit_hook", {"on_error": ["tell_what_died"]})
    cron = {"cron": "0 3 * * 1", "timezone": "Europe/Vienna"}

    assert list_decorators(NOTHING) == [hook]
    assert list_decorators(cron | {"event": "retrain"}) == [
        hook,
        ("schedule", cron),
        ("trigger", {"event": "retrain"}),
    ]


def test_an_event_sets_no_parameter() -> None:
    """Metaflow lets a shell of the pod run what a parameter says."""
    (arguments,) = [
        given
        for name, given in list_decorators(NOTHING | {"event": "retrain"})
        if name == "trigger"
    ]

    assert set(arguments) == {"event"}
    assert isinstance(arguments["event"], str)


@pytest.mark.parametrize(
    "launch",
    [
        {"cron": "daily"},
        {"cron": "0 3 * *"},
        {"cron": "0 3 * * $(id)"},
        {"cron": 5},
        {"timezone": "Vienna; rm"},
        {"event": "a b"},
        {"event": ["a"]},
        {"evnt": "retrain"},
    ],
)
def test_a_launch_that_is_none_is_refused(launch: dict[str, Any]) -> None:
    with pytest.raises(LaunchError, match="--config launch"):
        list_decorators(launch)


def test_a_local_run_is_no_deployment() -> None:
    assert not is_deployment(["run", "--data", "argo.csv"])
    assert is_deployment(["--with", "kubernetes", "argo-workflows", "create"])


class Run(list[Any]):
    """Steps with tasks, as Metaflow's client has them."""


def test_a_death_is_told_with_its_step_and_its_error() -> None:
    tasks = [
        SimpleNamespace(pathspec="TrainFlow/1/start/1", successful=True),
        SimpleNamespace(
            pathspec="TrainFlow/1/start/2", successful=False, exception="out of\x1b[2J"
        ),
    ]
    lines = list(report_death(Run([tasks]), {"METAFLOW_WORKFLOW_NAME": "w-1"}))

    assert lines == [
        "The run w-1 has failed.",
        "TrainFlow/1/start/2 died: out of\\u001b[2J",
    ]


def test_a_death_that_nobody_recorded_says_where_to_look() -> None:
    environ = {
        "METAFLOW_WORKFLOW_NAME": "w-1",
        "METAFLOW_WORKFLOW_NAMESPACE": "prediction",
    }

    assert (
        "kubectl --namespace prediction get workflow w-1"
        in list(report_death(None, environ))[-1]
    )


@pytest.mark.parametrize("reason", [" ", "two\nlines", "x" * 1001, "\x1b[2J"])
def test_a_reason_is_one_line_that_shows(reason: str) -> None:
    with pytest.raises(RegistryError, match="--reason"):
        check_reason(reason)


def test_the_shell_of_a_pod_would_run_a_parameter(tmp_path: Path) -> None:
    """The reason for both guards; if this fails, Metaflow has been mended and they may go."""
    import base64

    value = base64.b64encode(b'"$(touch ran)"').decode()
    program = [sys.executable, "-m", "metaflow.plugins.argo.set_parameters"]
    subprocess.run([*program, "file", f"reason,f,{value}"], cwd=tmp_path, check=True)

    subprocess.run(["sh", "-c", ". ./file"], cwd=tmp_path, check=True)

    assert (tmp_path / "ran").exists()
