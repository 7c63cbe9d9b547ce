"""Outcomes joined with the prediction log: what is joined, counted and written."""

import gzip
import json
import os
from math import log
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

import join_outcomes
from training.data.dataset import load_dataset
from training.data.inference import infer
from training.errors import SignalError, TrainingError
from training.outcomes import log_files
from training.outcomes.outcome_file import read_outcomes
from training.retraining.outcomes import read_live_metric


def line(
    request_id: str,
    p_yes: float,
    *,
    labels: tuple[str, str] = ("no", "yes"),
    **members: object,
) -> str:
    """Return a line of the log, at a time that its number gives."""
    row = {
        "request_id": request_id,
        "row": 0,
        "time": f"2026-11-28T10:00:{len(request_id):02}.000000Z",
        "model": "loans",
        "model_version": "1",
        "features": {"age": 40.5, "city": None if p_yes > 0.85 else "Oslo"},
        "probabilities": {labels[0]: 1 - p_yes, labels[1]: p_yes},
        "label": labels[p_yes > 0.5],
    }
    return json.dumps(row | members)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files: a retry, a batch of two rows, two versions, and a torn end."""
    log = tmp_path / "log"
    log.mkdir()
    first = [line("a", 0.1), line("a", 0.9), line("b", 0.8), line("c", 0.75)]
    (log / "predictions-1.jsonl").write_text("\n".join(first) + "\n")
    second = [line("d", 0.25, model_version="2")]
    second.append(line("d", 0.5, row=1, model_version="2"))
    torn = "\n".join((*second, line("e", 0.5)[:30]))
    (log / "predictions-2.jsonl.part").write_text(torn)
    return log


def run(folder: Path, outcomes: str, *options: str) -> int:
    """Run the program on outcomes in CSV."""
    path = folder.parent / "outcomes.csv"
    path.write_text(outcomes)
    out = str(folder.parent / "out")
    return join_outcomes.main([str(folder), str(path), "--out", out, *options])


def test_metrics_and_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = "request_id,row,paid\na,0,yes\nb,0,yes\nb,0,no\nd,1,no\nz,0,no\nc,0,\n"

    assert run(folder, outcomes, "--key", "request_id,row") == 0

    printed = capsys.readouterr().out
    for said in (
        "log: 6 lines, 5 rows",
        "1 last lines without an end",
        "1 lines were answers to a retry",
        "1 outcomes have no label, identifier or row yet",
        "1 outcomes were replaced",
        "1 outcomes have an identifier that the log does not have",
        "joined: 3 rows; without an outcome: 2",
    ):
        assert said in printed
    path = folder.parent / "out" / "live_metrics.parquet"
    rows = pq.read_table(path).to_pylist()
    # The retry's answer counts, 0.9; the correction of b counts, "no".
    of = {"model": "loans", "version": "1", "n_rows": 2}
    of |= {"n_without_outcome": 1, "n_unknown_label": 0}
    loss = pytest.approx(-(log(0.9) + log(0.2)) / 2)
    assert rows[:3] == [
        of | {"metric": metric, "value": value}
        for metric, value in (("accuracy", 0.5), ("log_loss", loss), ("roc_auc", 1.0))
    ]
    assert [row["value"] for row in rows[3:]] == [1.0, -log(0.5), None]
    assert read_live_metric(str(path), "loans", "2", "accuracy") == (1.0, 1.0)
    total = f"select sum(n_rows) from '{path}' where metric = 'accuracy'"
    assert duckdb.sql(total).fetchall() == [(3,)]


def test_table_has_the_columns_that_training_takes(folder: Path) -> None:
    assert run(folder, "id,paid\na,yes\nb,no\nc,yes\n", "--key", "id") == 0

    path = folder.parent / "out" / "retrain.parquet"
    frame = pd.read_parquet(path)

    assert list(frame) == ["age", "city", "paid"]
    assert frame["paid"].tolist() == ["yes", "no", "yes"]
    assert frame["city"].isna().tolist() == [True, False, False]
    assert [feature.name for feature in infer(frame[["age", "city"]], {}).features]


def test_outcome_without_a_row_is_not_given_to_a_batch(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "request_id,paid\nd,no\nb,maybe\n") == 0

    printed = capsys.readouterr().out
    assert "1 outcomes name no row" in printed
    assert "1 with a label that the model does not have" in printed
    assert "labels that the model does not have: 'maybe'" in printed


@pytest.mark.parametrize(
    ("outcomes", "options", "words"),
    [
        ("request_id,x,y\na,1,2\n", (), "name the label's with --target"),
        ("id,paid\na,yes\n", (), "has no column 'request_id'"),
        ("request_id,row,paid\na,one,yes\n", ("--key", "request_id,row"), "'one'"),
        ("request_id,row,paid\na,0.5,yes\n", ("--key", "request_id,row"), "'0.5'"),
        ("request_id,row,paid\na,-1,yes\n", ("--key", "request_id,row"), "'-1'"),
        ("request_id,age\na,yes\n", (), "is a feature too"),
        (
            "request_id,paid\n7,yes\n",
            (),
            "is 'a' row 0, and that of the outcomes is '7'",
        ),
        ("request_id,paid\n", (), "that of the outcomes is none"),
        ("request_id,paid\nd,yes\n", (), "add the column of the row to --key"),
        ("request_id,paid\na,yes\n", ("--key", "a,b,c"), "one column or two"),
        ("request_id,paid\na,yes\n", ("--key", "request_id,"), "one column or two"),
        ("request_id,paid\na,y\n", ("--target", "request_id"), "a column of --key too"),
    ],
)
def test_unusable_outcomes_are_refused(
    folder: Path,
    outcomes: str,
    options: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(folder, outcomes, *options) == 1
    assert words in capsys.readouterr().err


def test_damaged_log_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "predictions-0.jsonl").write_text("{\n" + line("a", 0.5) + "\n")

    assert run(folder, "request_id,paid\na,yes\n") == 1

    assert "predictions-0.jsonl, line 1 is no JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (line("x", 0.5, probabilities={"no": "high"}), "a probability outside [0, 1]"),
        (line("x", 0.5, probabilities={"no": float("nan")}), "is no JSON"),
        (line("x", 0.5, features={"a": [1]}), "neither number nor text"),
        (line("x", 0.5, features={"\ud800": 1}), "is no JSON"),
        (line("x", 0.5, model=None), "has no 'model'"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_hostile_lines_are_refused_in_words(
    folder: Path, damaged: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "predictions-0.jsonl").write_text(damaged + "\n")

    assert run(folder, "request_id,paid\na,yes\n") == 1

    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_long_line_and_a_pipe_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "MAX_LINE_BYTES", 2**20)
    long = folder / "predictions-0.jsonl"
    long.write_text("x" * 2**21)
    with pytest.raises(TrainingError, match="has a line above 1 MiB"):
        log_files.read_log(folder)
    long.unlink()

    os.mkfifo(long)
    with pytest.raises(TrainingError, match="is no file"):
        log_files.read_log(folder)


def test_compressed_files_of_the_log_are_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "predictions-1.jsonl"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    (folder / "predictions-1.jsonl.gz").write_bytes(packed)

    assert run(folder, "request_id,paid\na,yes\n") == 0
    (folder / "predictions-1.jsonl.gz").write_bytes(packed[:-9])
    assert run(folder, "request_id,paid\na,yes\n") == 1

    printed = capsys.readouterr()
    assert "log: 6 lines, 5 rows" in printed.out
    assert "predictions-1.jsonl.gz cannot be read after line" in printed.err


def test_rows_of_two_models_are_not_mixed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A caller may send one identifier to both.
    other = line("a", 0.25, model="churn")
    (folder / "predictions-3.jsonl").write_text(other + "\n")
    outcomes = "request_id,paid\na,yes\n"

    assert run(folder, outcomes) == 1
    assert run(folder, outcomes, "--model_name", "wine") == 1
    assert run(folder, outcomes, "--model_name", "churn") == 0

    printed = capsys.readouterr()
    first, second = printed.err.splitlines()
    assert "rows of 2 models, 'churn', 'loans'; choose with --model_name" in first
    assert "no row of the model 'wine'" in second
    assert "6 lines are of other models" in printed.out
    assert "churn version 1: 1 rows, accuracy 0, log_loss 1.38629" in printed.out
    path = str(folder.parent / "out" / "live_metrics.parquet")
    with pytest.raises(SignalError, match="0 rows of the metric"):
        read_live_metric(path, "loans", "1", "accuracy")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfrequest_id;paid;amount\r\n007;1;1,5\r\n08;0;2,5\r\n",
        "request_id\tpaid\tamount\n007\t1\t1,5\n08\t0\t2,5\n".encode("utf-16"),
        b'request_id,paid,amount\n" 007","1.0","1,5"\n08,0.0,"2,5"\n',
        b"request_id,paid,amount\n007,true,1.5\n08,FALSE,2.5\n",
        gzip.compress(b"request_id,paid,amount\n007,1,1.5\n08,0,2.5\n", mtime=0),
    ],
)
def test_outcomes_are_read_as_tables_are(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_bytes(content)

    read = read_outcomes(path, ["request_id"], "paid", frozenset({"0", "1"}))

    assert read.labels == {("007", None): "1", ("08", None): "0"}


def test_outcomes_in_parquet_are_named_as_models_do(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.parquet"
    frame = pd.DataFrame({"id": [7.0, None, 8.0], "row": [0, 0, 2]})
    pd.DataFrame({**frame, "paid": [True, False, False]}).to_parquet(path)

    read = read_outcomes(path, ["id", "row"], None, frozenset({"0", "1"}))

    assert read.labels == {("7", 0): "1", ("8", 2): "0"}
    assert (read.target, read.n_missing) == ("paid", 1)


def test_labels_stay_as_a_model_knows_them(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    path.write_text("id,grade\na,NA\nb,01\nc,1.0\nd,1\ne,2.0\nf,\n")
    known = frozenset({"NA", "01", "1.0", "2"})

    read = read_outcomes(path, ["id"], "grade", known)

    assert list(read.labels.values()) == ["NA", "01", "1.0", "1", "2"]
    assert read.notes == (
        "column 'grade': 1 of 6 labels are written otherwise, such as '2.0' for '2'",
    )


def test_columns_that_versions_took_for_different_things_are_text(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = ({"a": 2.0, "b": 2.5, "c": True}, {"a": "x", "b": 10**30, "c": "true"})
    lines = [line(f"r{n}", 0.5, features=cells) for n, cells in enumerate(features)]
    lines.append(line("r2", 0.5, features={"a": "2", "d": 3}))
    (folder / "predictions-3.jsonl").write_text("\n".join(lines) + "\n")

    assert run(folder, "request_id,paid\nr0,yes\nr1,no\nr2,no\n") == 0

    table = pq.read_table(folder.parent / "out" / "retrain.parquet").to_pydict()
    assert table["a"] == ["2", "x", "2"]
    assert table["b"] == [2.5, 1e30, None]
    assert table["c"] == ["true", "true", None]
    assert (
        "3 features are gaps in rows whose version does not have them: 'b', 'c', "
        in (capsys.readouterr().out)
    )


def test_the_table_is_read_with_the_kinds_of_the_first_training(folder: Path) -> None:
    cells = {
        "number": (1.5, None, 2.0),
        "whole": (1, 2, None),
        "truth": (True, None, False),
        "code": ("1", "2", "NA"),  # the first training saw letters, too
        "mixed": ("1", "2", "x"),
        "answer": ("true", "false", None),
        "zeros": ("007", "010", None),
        "day": ("2026-01-02", None, "2026-02-03"),
        "empty": (None, None, None),
    }
    rows = [
        line(f"r{n}", 0.5, features={name: cells[name][n % 3] for name in cells})
        for n in range(30)
    ]
    (folder / "predictions-3.jsonl").write_text("\n".join(rows) + "\n")
    outcomes = "".join(f"r{n},{'yes' if n % 4 else 'no'}\n" for n in range(30))

    assert run(folder, "request_id,paid\n" + outcomes) == 0

    data = load_dataset(str(folder.parent / "out" / "retrain.parquet"), "paid")
    kinds = {feature.name: str(feature.kind) for feature in data.schema.features}
    assert kinds == dict.fromkeys(("number", "whole"), "numeric") | {
        "truth": "boolean",
        "day": "date",
        **dict.fromkeys(("code", "mixed", "answer", "zeros"), "categorical"),
    }
    by_name = {feature.name: feature for feature in data.schema.features}
    assert by_name["code"].categories == ("1", "2")
    assert set(data.dropped) == {"empty"}
