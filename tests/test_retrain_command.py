"""`python flows/registry.py retrain` against a real MLflow store and pages of real HTTP servers."""

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_support import NAME, add_version

import registry
import starting
from starting import NOT_FOR_ARGO, check_flow, start
from training.errors import RegistryError, SignalError
from training.registry.decisions import RETRAIN, Decision, read_tags
from training.registry.history import Clerk, read_history
from training.retraining.claims import (
    GAVE_WAY,
    Limits,
    claim,
    find_obstacle,
    finish,
)

from page_support import page_server
from stream_support import count_bins, make_table, sum_scores, write_page

pytestmark = pytest.mark.slow
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
BOB = Clerk("bob on trainer", lambda: NOW)
LIMITS = Limits(timedelta(hours=24), timedelta(hours=6))
LEARNED = make_table(3000)
Begin = Callable[[MlflowClient, Clerk], Decision | str]


@pytest.fixture
def wine(store: MlflowClient, tmp_path: Path) -> MlflowClient:
    """A registry with two versions; the first is champion."""
    for _ in range(2):
        tags = {"holdout_accuracy": "0.9", "holdout_roc_auc": "0.9"}
        add_version(store, tmp_path, tags)
    store.set_registered_model_alias(NAME, "champion", "1")
    return store


def page_of(shift: float, expected: dict[tuple[str, str], float] | None = None) -> str:
    asked = make_table(3000, shift=shift, seed=1)
    return write_page("1", *count_bins(LEARNED, asked), model=NAME, expected=expected)


def retrain(*arguments: str) -> int:
    return registry.main(["retrain", "--model_name", NAME, *arguments])


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (0.0, "wine is not trained again: PSI of "),
        (1.0, "wine would be trained again: drift: PSI of a is "),
    ],
)
def test_drift_of_what_a_server_was_asked_decides(
    shift: float,
    words: str,
    wine: MlflowClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with page_server(page_of(shift)) as url:
        code = retrain("--if", "drift", "--metrics", url, "--dry-run")

    assert code == 0
    assert capsys.readouterr().out.startswith(words)
    assert read_history(wine, NAME).decisions == ()


@pytest.mark.parametrize(("metric", "value"), [("accuracy", 0.8), ("roc_auc", 0.75)])
def test_an_expected_metric_that_fell_decides(
    metric: str,
    value: float,
    wine: MlflowClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = {("no", "no"): 1200.0, ("no", "yes"): 400.0, ("yes", "yes"): 400.0}
    # One bin whose scores have a deviation of sqrt(3) / 8, so a mean distance of 1 / 4.
    sums = sum_scores(2000, 1000, 2000 * (1 / 4 + 3 / 64), version="1")
    with page_server(page_of(0.0, cells) + sums) as url:
        arguments = ("--metrics", url, "--metric", metric)
        code = retrain("--if", "metric", *arguments, "--dry-run")

    assert code == 0
    assert f"expected {metric} is {value} after 0.9 on the hold-out, worse by" in (
        capsys.readouterr().out
    )


def test_a_young_version_is_left_alone(
    wine: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retrain("--if", "age") == 0

    assert capsys.readouterr().out == (
        "wine is not trained again: version 1 is 0.0 days old, not more than 30\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--if", "drift"], "--if drift needs --metrics"),
        (["--if", "metric"], "--if metric needs --outcomes"),
        (["--if", "age", "--metrics", "http://127.0.0.1:1/"], "--metrics http://127."),
        (["--if", "age", "--", "--branch", "x", "run"], "is no retraining"),
        (["--if", "age", "--", "run", "--model_name=b"], "--model_name comes from"),
        (["--if", "age", "--", "--data", "x"], "give the word run"),
        (["--if", "age", "--via", "argo", "--", "run"], "and no command"),
    ],
)
def test_what_cannot_be_decided_is_one_line_and_an_exit_code(
    arguments: list[str],
    message: str,
    wine: MlflowClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert retrain(*arguments) == 1

    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert "MLflow" not in error  # which answered, and is not to blame


def test_other_commands_take_nothing_for_the_flow(
    wine: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert registry.main(["history", "--model_name", NAME, "--", "run"]) == 1
    assert "takes nothing after --" in capsys.readouterr().err


def begin(client: MlflowClient, clerk: Clerk = BOB) -> Decision | str:
    figures = {"psi": 0.4}
    return claim(client, NAME, clerk, LIMITS, "drift", figures, lambda seconds: None)


def test_a_second_retraining_waits_for_the_first(wine: MlflowClient) -> None:
    first = begin(wine)
    second = begin(wine)

    assert isinstance(first, Decision) and first.action == RETRAIN
    assert second == (
        "retraining 1 (retrain, champion 1, by bob on trainer) runs since "
        "2026-11-28T12:00:00+00:00; if it was cut short, lower --longest-hours 24 for once"
    )
    assert read_history(wine, NAME).decisions == (first,)


def test_after_the_end_of_one_the_pause_holds(wine: MlflowClient) -> None:
    first = begin(wine)
    assert isinstance(first, Decision)
    finish(wine, NAME, first, "the flow failed with exit code 1")

    early = begin(wine)
    late = begin(wine, replace(BOB, now=lambda: NOW + timedelta(hours=7)))

    assert isinstance(early, str) and "within --pause-hours 6" in early
    assert isinstance(late, Decision)


def test_a_retraining_that_was_killed_does_not_block_for_ever(
    wine: MlflowClient,
) -> None:
    begin(wine)

    day = begin(wine, replace(BOB, now=lambda: NOW + timedelta(hours=23)))
    later = begin(wine, replace(BOB, now=lambda: NOW + timedelta(hours=25)))

    assert isinstance(day, str)
    assert isinstance(later, Decision)


def test_one_that_sees_another_at_the_second_look_gives_way(wine: MlflowClient) -> None:
    """The other is written between the two looks, as by a process beside this one."""

    class Late(MlflowClient):
        def __init__(self) -> None:
            super().__init__()
            self.other: Decision | str = ""

        def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
            if not self.other and key.startswith("decision."):
                self.other = begin(wine)
            super().set_registered_model_tag(name, key, value)

    client = Late()
    mine = begin(client)

    history = read_history(wine, NAME)
    assert isinstance(client.other, Decision)
    assert isinstance(mine, str) and "runs since" in mine
    assert list(history.outcomes.values()) == [GAVE_WAY]
    assert client.other in history.decisions


def test_of_many_at_once_one_runs(wine: MlflowClient) -> None:
    results: list[Decision | str] = []
    threads = [
        threading.Thread(target=lambda: results.append(begin(MlflowClient())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(results) == 4
    assert sum(isinstance(result, Decision) for result in results) <= 1


@pytest.mark.parametrize(
    "time", ["", "soon", "9999-01-01T00:00:00+00:00", "2026-11-28T12:00:00"]
)
def test_a_strangers_time_blocks_nothing(time: str) -> None:
    decision = Decision(1, "0" * 8, time, "x", RETRAIN, "retraining", "", "1", "w")
    history = replace(read_tags(NAME, {}, {}), decisions=(decision,))

    assert find_obstacle(history, NOW, LIMITS) == ""


def test_without_a_champion_nothing_is_replaced(wine: MlflowClient) -> None:
    wine.delete_registered_model_alias(NAME, "champion")

    with pytest.raises(RegistryError, match="no champion to replace"):
        begin(wine)


def test_the_history_tells_of_a_retraining(
    wine: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    first = begin(wine)
    assert isinstance(first, Decision)
    assert registry.main(["history", "--model_name", NAME]) == 0
    assert "runs, or was cut short" in capsys.readouterr().out

    finish(wine, NAME, first, "done, version 2")
    registry.main(["history", "--model_name", NAME])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(
        "1 (retrain, champion 1, by bob on trainer), claimed  done, version 2"
    )
    assert lines[1] == "    why: drift"
    assert registry.main(["promote", "2", "--model_name", NAME, "--reason", "r"]) == 0


def test_a_failed_flow_is_an_error_and_in_the_history(
    wine: MlflowClient, capfd: pytest.CaptureFixture[str]
) -> None:
    with page_server(page_of(1.0)) as url:
        code = retrain(
            "--if", "drift", "--metrics", url, "--", "run", "--folds", "none"
        )

    assert code == 1
    assert "wine: the flow failed with exit code 2" in capfd.readouterr().out
    (decision,) = read_history(wine, NAME).decisions
    assert decision.why.startswith("drift: PSI of a is ")
    assert decision.evidence["psi"] > decision.evidence["max_psi"]


def test_a_registry_that_is_gone_in_the_end_hides_no_end(
    wine: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run_meanwhile(*arguments: object) -> tuple[int, str]:
        connection = sqlite3.connect(str(wine.tracking_uri).removeprefix("sqlite:///"))
        connection.execute("DROP TABLE registered_model_tags")
        connection.close()
        return 0, "done"

    monkeypatch.setattr(starting, "start", run_meanwhile)

    assert retrain("--if", "age", "--max-age-days", "0") == 1

    error = capfd.readouterr().err
    assert error.startswith("error: wine: done, but decision 1 of the history does not")
    assert error.count("\n") == 1  # no traceback of MLflow's


def test_an_event_is_published_with_its_reason() -> None:
    bodies = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    try:
        environ = {"METAFLOW_ARGO_EVENTS_WEBHOOK_URL": url}
        assert start("event", [], "why", "retrain", environ)[0] == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert b'"name": "retrain"' in bodies[0] and b'"reason": "why"' in bodies[0]


@pytest.mark.parametrize(
    ("event", "url"), [("retrain", ""), ("a b", "http://h/"), ("x", "file:///a")]
)
def test_an_event_without_an_address_is_an_error(event: str, url: str) -> None:
    environ = {"METAFLOW_ARGO_EVENTS_WEBHOOK_URL": url}

    assert start("event", [], "why", event, environ)[0] == 1


def test_argo_gets_a_reason_that_no_shell_runs() -> None:
    reason = 'PSI of $(id)`id`"! is 0.4, above 0.2 (5,000 rows)'

    assert NOT_FOR_ARGO.sub("?", reason) == (
        "PSI of ?(id)?id??? is 0.4, above 0.2 (5,000 rows)"
    )
    command = check_flow("argo", NAME, ["--production"])
    assert command == ["--production", "argo-workflows", "trigger"]


def test_the_flow_is_run_with_the_name_of_the_model() -> None:
    assert check_flow("here", NAME, None) == ["run", "--model_name=wine"]
    with pytest.raises(SignalError):
        check_flow("here", NAME, ["--branch=x", "run"])
