"""`python flows/registry.py` against a real MLflow store."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from registry_support import NAME, add_version, make_run

import registry
from prediction.artifact import REGISTRY_PATH, SHA256_TAG
from training.registry import history as history_module
from training.registry.history import read_history

from sick_registry import SECRET
from sick_registry import registry as sick_registry
from support import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def versions(store: MlflowClient, tmp_path: Path) -> MlflowClient:
    """A registry of three versions; the first is champion, by hand."""
    for _ in range(3):
        add_version(store, tmp_path)
    store.set_registered_model_alias(NAME, "champion", "1")
    return store


def run(*arguments: str) -> int:
    command, *rest = arguments
    return registry.main([command, "--model_name", NAME, *rest])


def champion(client: MlflowClient) -> str:
    return str(client.get_registered_model(NAME).aliases.get("champion", ""))


def test_a_promotion_moves_the_alias_and_is_in_the_history(
    versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("promote", "2", "--reason", "better on new rows") == 0

    assert champion(versions) == "2"
    assert (
        "champion is version 2, was version 1. Decision 1 by" in capsys.readouterr().out
    )
    assert run("history") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"20\S+\+00:00  1 \(promote, champion 1 -> 2, by \S+ on \S+\), claimed  done",
        lines[0],
    )
    assert lines[1:] == [
        "    why: better on new rows",
        "    git c0ffee2, flow run TrainFlow/2",
        "Now: champion is version 2.",
    ]


def test_rollbacks_go_back_through_the_champions(versions: MlflowClient) -> None:
    """The second goes on, and not back to the version that was just rolled back."""
    for number in ("2", "3"):
        run("promote", number, "--reason", "newer")

    seen = []
    for _ in range(2):
        assert run("rollback", "--reason", "wrong answers") == 0
        seen.append(champion(versions))

    assert seen == ["2", "1"]
    assert run("rollback", "--reason", "further") == 1
    for number in ("2", "3"):
        tags = versions.get_model_version(NAME, number).tags
        assert tags["retired"].endswith("(claimed): wrong answers")


def test_a_rollback_returns_to_a_champion_that_was_set_by_hand(
    versions: MlflowClient,
) -> None:
    run("promote", "2", "--reason", "newer")
    versions.set_registered_model_alias(NAME, "champion", "3")

    run("rollback", "--reason", "set by mistake")

    assert champion(versions) == "2"


def test_a_retired_version_can_be_named_and_its_reason_is_told(
    versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run("promote", "2", "--reason", "newer")
    run("rollback", "--reason", "slow on Mondays")
    capsys.readouterr()

    assert run("rollback", "--to", "2", "--reason", "it was not the model") == 0

    assert champion(versions) == "2"
    assert (
        "Version 2 was retired by decision 2: slow on Mondays"
        in capsys.readouterr().out
    )


def test_a_rollback_without_a_history_takes_the_tag_of_older_programs(
    versions: MlflowClient,
) -> None:
    versions.set_registered_model_alias(NAME, "champion", "3")
    versions.set_model_version_tag(NAME, "3", "previous_champion", "2")

    assert run("rollback", "--reason", "wrong") == 0

    assert champion(versions) == "2"


def test_a_rollback_brings_back_a_champion_whose_alias_was_deleted(
    versions: MlflowClient,
) -> None:
    run("promote", "2", "--reason", "newer")
    versions.delete_registered_model_alias(NAME, "champion")

    run("rollback", "--reason", "the alias is gone")

    assert champion(versions) == "2"


def break_digest(client: MlflowClient) -> None:
    client.set_model_version_tag(NAME, "2", SHA256_TAG, "ab" * 32)


def drop_digest(client: MlflowClient) -> None:
    client.delete_model_version_tag(NAME, "2", SHA256_TAG)


def drop_artifact(client: MlflowClient) -> None:
    source = str(client.get_model_version(NAME, "2").source)
    Path(source.removeprefix("file://").replace("%20", " "), REGISTRY_PATH).unlink()


def delete_version(client: MlflowClient) -> None:
    client.delete_model_version(NAME, "2")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_digest, "version 2 has another extra_files/model.binpb than its tag"),
        (drop_digest, "version 2 has no tag artifact_sha256"),
        (drop_artifact, "version 2 has no extra_files/model.binpb that can be read ("),
        (delete_version, "wine has no version 2; choose one of 3, 1"),
    ],
)
@pytest.mark.parametrize("command", [("promote", "2"), ("rollback", "--to", "2")])
def test_a_version_that_no_server_could_serve_is_refused(
    spoil: Any,
    words: str,
    command: tuple[str, ...],
    versions: MlflowClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(versions)

    assert run(*command, "--reason", "x") == 1

    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
    assert champion(versions) == "1"
    assert read_history(versions, NAME).decisions == ()


def test_a_version_that_is_not_ready_is_refused(
    versions: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = MlflowClient.get_model_version

    def unready(client: MlflowClient, *arguments: Any) -> Any:
        version = original(client, *arguments)
        version._status = "FAILED_REGISTRATION"
        return version

    monkeypatch.setattr(MlflowClient, "get_model_version", unready)

    assert run("promote", "2", "--reason", "x") == 1
    assert "is FAILED_REGISTRATION, not READY" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("promote", "1", "--reason", "x"), "wine version 1 is the champion already"),
        (
            ("rollback", "--to", "1", "--reason", "x"),
            "version 1 is the champion already",
        ),
        (("rollback", "--reason", "x"), "knows no champion before version 1"),
        (
            ("promote", "9", "--reason", "x"),
            "wine has no version 9; choose one of 3, 2, 1",
        ),
        (("promote", "2", "--reason", " "), "--reason '' is not allowed"),
        (("promote", "2", "--reason", "a\x1b[2Jb"), r"--reason 'a\\u001b[2Jb' is not"),
        (("promote", "2", "--reason", "a" * 1001), "--reason has 1001 characters"),
        (("compare", "1", "9"), "wine has no version 9"),
    ],
)
def test_a_senseless_call_is_one_line_and_changes_nothing(
    arguments: tuple[str, ...],
    words: str,
    versions: MlflowClient,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = dict(versions.get_registered_model(NAME).tags)

    assert run(*arguments) == 1

    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and "\x1b" not in error
    assert champion(versions) == "1"
    assert versions.get_registered_model(NAME).tags == before


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1e3", "٣", "1.0", "9" * 30, "champion"]
)
def test_a_version_is_a_number(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run("promote", "--reason", "x", "--", text)

    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_registry_that_is_not_there_is_not_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/none.db")
    try:
        assert run("history") == 1
    finally:
        mlflow.set_tracking_uri("")

    assert "there is no registry at sqlite:///" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model_is_named(
    store: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("history") == 1
    assert "there is no registered model 'wine'" in capsys.readouterr().err


STEPS = ("set_registered_model_tag", "set_registered_model_alias")


# After the last write nothing is left to finish.
@pytest.mark.parametrize(
    ("step", "done"), [(1, False), (1, True), (2, False), (2, True), (3, False)]
)
@pytest.mark.parametrize(
    "command", [("promote", "2"), ("rollback", "--to", "2"), ("rollback",)]
)
def test_a_call_that_is_cut_short_is_finished_by_the_same_call(
    command: tuple[str, ...],
    step: int,
    done: bool,
    versions: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever write it is cut short at: the decision, the alias or the outcome."""
    run("promote", "2", "--reason", "first")
    run("promote", "3", "--reason", "second")
    call = (*command, "--reason", "third")
    with monkeypatch.context() as patch:
        interrupt(patch, step, done)
        assert run(*call) == 130

    assert run(*call) == 0

    assert champion(versions) == "2"
    history = read_history(versions, NAME)
    assert [one.to for one in history.decisions] == ["2", "3", "2"]
    assert set(history.outcomes.values()) == {"done"} and len(history.outcomes) == 3


def interrupt(patch: pytest.MonkeyPatch, step: int, done: bool) -> None:
    """Interrupt the nth write to the registered model, before or after it."""
    counter = iter(range(1, 100))

    def wrap(name: str) -> None:
        original = getattr(MlflowClient, name)

        def write(client: MlflowClient, *arguments: Any) -> None:
            is_it = next(counter) == step
            if not is_it or done:
                original(client, *arguments)
            if is_it:
                raise KeyboardInterrupt

        patch.setattr(MlflowClient, name, write)

    for name in STEPS:
        wrap(name)


def test_a_call_that_was_cut_short_is_reported_by_another(
    versions: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, 2, done=False)
        run("promote", "2", "--reason", "first")
    run("history")
    assert "cut short before the alias moved" in capsys.readouterr().out

    run("promote", "3", "--reason", "second")

    assert champion(versions) == "3"
    assert "Decision 1 (promote, champion 1 -> 2, by " in capsys.readouterr().out
    run("history")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("overtaken by 2") and lines[3].endswith("done")
    run("rollback", "--reason", "back")
    assert champion(versions) == "1"


@pytest.mark.parametrize("step", [1, 2, 3])
def test_of_two_promotions_at_once_the_later_stands(
    step: int,
    versions: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A whole other call runs before one of the writes of this call."""
    counter, names = iter(range(100)), iter(["aaaaaaaa", "bbbbbbbb"])

    monkeypatch.setattr(history_module, "token_hex", lambda n: next(names))

    def meddle(name: str) -> None:
        write = getattr(MlflowClient, name)

        def run_other(client: MlflowClient, *arguments: Any) -> None:
            if next(counter) == step - 1:
                assert run("promote", "3", "--reason", "other") == 0
            write(client, *arguments)

        monkeypatch.setattr(MlflowClient, name, run_other)

    for name in STEPS:
        meddle(name)

    code = run("promote", "2", "--reason", "this")

    history = read_history(versions, NAME)
    last = history.decisions[-1]
    assert champion(versions) == last.to == "3"
    assert history.outcomes[last.outcome_tag] == "done"
    if step < 3:
        assert code == 1
        assert "is overtaken by decision" in capsys.readouterr().err
        first = history.decisions[0]
        assert history.outcomes[first.outcome_tag] == f"overtaken by {last.number}"


HOSTILE = {
    "decision.000001.deadbeef": "no json",
    "decision.000002.deadbeef": "[" * 5000,
    "decision.000003.deadbeef": '{"number": 3}',
    "decision.000004.deadbeef": json.dumps({"number": 4, "why": ["x"] * 100}),
    "decision.999999999.deadbeef": "{}",
    "decision.\x1b": "x",
    "decision.000005.deadbeef": "x" * 90_000,
    "outcome.000001.deadbeef": "\x1b[2J",
    "foreign": "{}",
    "mlflow.note.content": "by somebody",
}


def test_foreign_tags_are_named_and_do_no_harm(
    versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for key, value in HOSTILE.items():
        try:
            versions.set_registered_model_tag(NAME, key, value)
        except Exception:  # MLflow itself refuses some
            continue

    assert run("promote", "2", "--reason", "newer") == 0
    assert run("history") == 0

    out = capsys.readouterr().out
    assert champion(versions) == "2"
    assert "decision.000002.deadbeef looks like a decision and cannot be read" in out
    assert "\x1b" not in out
    assert "1 (promote, champion 1 -> 2" in out


def test_a_forged_decision_is_shown_without_its_escape_sequences(
    versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run("promote", "2", "--reason", "newer")
    tag, text = next(
        (key, value)
        for key, value in versions.get_registered_model(NAME).tags.items()
        if key.startswith("decision.")
    )
    values = json.loads(text) | {
        "why": "a\x1b[2J\nb",
        "who": "\u202eroot",
        "time": "\r",
    }
    versions.set_registered_model_tag(NAME, tag, json.dumps(values))
    capsys.readouterr()

    assert run("history") == 0

    out = capsys.readouterr().out
    assert r"why: a\u001b[2J\nb" in out and r"\u202eroot" in out
    assert not {"\x1b", "\r", "\u202e"} & set(out)


def test_a_history_whose_last_number_was_taken_says_so(
    versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run("promote", "2", "--reason", "newer")
    text = next(
        value
        for key, value in versions.get_registered_model(NAME).tags.items()
        if key.startswith("decision.")
    )
    values = json.loads(text) | {"number": 999_999, "id": "deadbeef"}
    versions.set_registered_model_tag(
        NAME, "decision.999999.deadbeef", json.dumps(values)
    )

    assert run("promote", "3", "--reason", "x") == 1
    assert "remove the tag if a stranger wrote it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("params", "tags", "words"),
    [
        ({}, {}, "measured on the same rows, which neither has learned from"),
        ({"seed": "1"}, {}, "on different rows: --seed '0' and '1'."),
        (
            {},
            {"data_sha256": "cd" * 32},
            "different rows: table abababababab and cdcdcdcdcdcd",
        ),
    ],
    ids=["same", "seed", "table"],
)
def test_a_comparison_says_on_which_rows(
    params: dict[str, str],
    tags: dict[str, str],
    words: str,
    store: MlflowClient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = {"holdout_roc_auc": "0.75", "final_fit": "all", "data_sha256": "ab" * 32}
    add_version(store, tmp_path, metrics, run_id=make_run(store))
    metrics |= {"holdout_roc_auc": "0.875", "holdout_f1": "0.5", **tags}
    add_version(store, tmp_path, metrics, run_id=make_run(store, **params))

    assert run("compare", "1", "2") == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["metric", "version", "1", "version", "2", "difference"]
    assert lines[1].split() == ["holdout_f1", "-", "0.5", "-"]
    assert lines[2].split() == ["holdout_roc_auc", "0.75", "0.875", "+0.125"]
    assert words in lines[3]


def test_a_comparison_of_versions_without_twins_says_so(
    versions: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    versions.set_model_version_tag(NAME, "1", "holdout_x", "nan")
    run("promote", "2", "--reason", "newer")
    capsys.readouterr()

    assert run("compare", "1", "2") == 0

    out = capsys.readouterr().out
    assert "Version 1 has no scored twin" in out and "nan" not in out
    assert "Decision 1 (promote, champion 1 -> 2, by" in out and ": newer" in out


def run_at(uri: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command of the model "m" at another registry, without retries."""
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(uri)
    try:
        command, *rest = arguments
        return registry.main([command, "--model_name", "m", *rest])
    finally:
        mlflow.set_tracking_uri("")


@pytest.mark.parametrize(
    "fault",
    [
        "no JSON",
        "no version",
        "JSON of another kind",
        "redirects",
        "long words",
        "folder",
    ],
)
def test_a_sick_registry_is_one_line(
    fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with sick_registry(fault) as (_, uri):
        code = run_at(uri, monkeypatch, "promote", "1", "--reason", "x")

    error = capsys.readouterr().err
    assert code == 1
    assert error.startswith("error: ") and error.count("\n") == 1
    assert len(error) < 1000 and SECRET not in error


def test_a_registry_that_is_down_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_at("http://me:secret@127.0.0.1:9", monkeypatch, "history")

    error = capsys.readouterr().err
    assert code == 1
    assert (
        error.startswith("error: MLflow at http://***@127.0.0.1:9")
        and "secret" not in error
    )


@pytest.mark.parametrize("fault", ["drips", "file drips"])
def test_a_registry_that_answers_for_ever_is_given_up(
    fault: str, tmp_path: Path
) -> None:
    program = (
        "import registry; registry.GRACE_SECONDS = 1; "
        "registry.run(['promote', '1', '--model_name', 'm', '--reason', 'x'], 8)"
    )
    with sick_registry(fault) as (_, uri):
        result = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT / "flows",
            env={**os.environ, "MLFLOW_TRACKING_URI": uri, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert result.returncode != 0
    assert "Traceback" not in result.stderr
