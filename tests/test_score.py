"""Offline scores equal the server's answers; runs that were cut short are completed."""

import json
import lzma
import re
import shlex
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_server.errors import TableError
from grpc_server.model import load_model
from grpc_server.model.kinds import Numeric
from grpc_server.model.schema import Feature
from grpc_server.registry.durable_files import lock_file
from grpc_server.score.answers import Answerer, AnswerOptions
from grpc_server.score.cells import TextRules, encode_typed
from grpc_server.score.manifest import tell_end
from grpc_server.score.options import parse_options
from grpc_server.score.program import make_job
from grpc_server.score.running import run_job
from grpc_server.score.tables import Chunk
from prediction import PredictionClient
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact
from training.data.csv_file import read_csv_file

from csv_forms import PACKERS, PLAIN, SAME, SAME_TRICKY, TRICKY, archive
from mixed_support import make_mixed_rows
from support import (
    ROOT,
    artifact_without_estimator,
    lightgbm_artifact,
    running_server,
    wait_for,
    write_artifact,
)
from training_support import make_rows, train_family


def score(model: Path, source: Path, output: Path, *flags: str) -> dict[str, Any]:
    """Score in this process, as the program does; return the manifest."""
    options = parse_options([str(model), str(source), str(output), *flags])
    said: list[str] = []

    def note(event: str, fields: Mapping[str, Any]) -> None:
        said.append(f"{event}: {fields}")

    return {**run_job(make_job(options, note), note), "said": said}


def read_scores(folder: Path) -> pa.Table:
    """Return all rows of an output, in order."""
    return pa.concat_tables(
        [pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))]
    )


def probabilities_of(scores: pa.Table) -> np.ndarray:
    """Return the probabilities, shape (n_rows, n_classes)."""
    names = [name for name in scores.column_names if name.startswith("probability_")]
    return np.column_stack([scores[name].to_numpy() for name in names])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of a model of six numbers, of which the first may be missing."""
    return write_artifact(tmp_path / "model", lightgbm_artifact(2)[0])


def make_numbers(n_rows: int, seed: int = 0) -> pa.Table:
    """Return rows of that model, with a key."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {"id": np.arange(n_rows)}
    columns |= {f"f{number}": rng.normal(size=n_rows) for number in range(6)}
    columns["f0"] = pa.array(columns["f0"], mask=np.arange(n_rows) % 7 == 0)
    return pa.table(columns)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("family", ["logistic_regression", "lightgbm"])
def test_every_kind_of_column_gets_the_servers_answers_to_the_bit(
    tmp_path: Path, family: str, n_classes: int
) -> None:
    frame, schema, train, holdout = make_mixed_rows(n_classes)
    trained = train_family(family, schema, train, holdout)
    artifact = ModelArtifact.FromString(trained.artifact)
    folder = write_artifact(tmp_path / "model", artifact)
    frame = frame[[feature.name for feature in schema.features]]
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=17)
    frame.to_csv(tmp_path / "rows.csv", index=False)

    with (
        running_server(folder, "fast") as server,
        PredictionClient(f"127.0.0.1:{server.port}") as client,
    ):
        answers = client.predict_frame(frame)
    for name in ("rows.parquet", "rows.csv"):
        output = tmp_path / f"of {name}"
        manifest = score(folder, tmp_path / name, output, "--part-rows", "23")
        scores = read_scores(output)

        expected = answers.filter(like="probability").to_numpy()
        assert np.array_equal(probabilities_of(scores), expected), name
        assert scores["label"].to_pylist() == answers["label"].astype(str).tolist()
        assert manifest["rows"] == manifest["rows_written"] == len(frame)


def test_rows_keep_their_keys_and_order_whatever_the_parts(
    model: Path, tmp_path: Path
) -> None:
    table = make_numbers(500)
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=99)
    estimator = load_model(model).estimator
    X = np.column_stack([table[f"f{n}"].to_numpy() for n in range(6)])

    for number, rows in enumerate(("1", "70", "100000")):
        output = tmp_path / f"out {number}"
        score(
            model,
            tmp_path / "rows.parquet",
            output,
            "--keep",
            "id",
            "--part-rows",
            rows,
        )
        scores = read_scores(output)

        assert scores["id"].to_pylist() == list(range(500))
        assert np.array_equal(probabilities_of(scores), estimator.predict_batch(X))
        assert set(scores["model_version"].to_pylist()) == {
            load_model(model).source.version
        }


def test_row_groups_are_scored_alone(model: Path, tmp_path: Path) -> None:
    pq.write_table(make_numbers(100), tmp_path / "rows.parquet", row_group_size=30)
    keep = ("--keep", "id", "--row-groups")

    score(model, tmp_path / "rows.parquet", tmp_path / "out", *keep, "1:3")

    assert read_scores(tmp_path / "out")["id"].to_pylist() == list(range(30, 90))
    with pytest.raises(TableError, match="has 4 row groups; 3:5 are not among them"):
        score(model, tmp_path / "rows.parquet", tmp_path / "other", *keep, "3:5")


@pytest.fixture
def bad_rows(tmp_path: Path) -> Path:
    """Return a table whose rows 3 and 5 the server would refuse."""
    table = make_numbers(10).to_pydict()
    table["f1"][3], table["f2"][3], table["f5"][5] = None, np.inf, np.nan
    pq.write_table(pa.table(table), tmp_path / "bad.parquet")
    return tmp_path / "bad.parquet"


def test_a_bad_row_stops_the_run_and_is_named(
    model: Path, tmp_path: Path, bad_rows: Path
) -> None:
    with pytest.raises(
        TableError,
        match="bad.parquet, row 3, column 'f1': a missing value is not allowed; it takes a finite "
        r"number \(and 1 more rows",
    ):
        score(model, bad_rows, tmp_path / "out")

    assert not list((tmp_path / "out").glob("part-*"))
    assert (
        score(model, bad_rows, tmp_path / "out", "--on-bad-row", "null")["bad_rows"]
        == 2
    )


def test_bad_rows_are_left_out_or_empty_and_listed(
    model: Path, tmp_path: Path, bad_rows: Path
) -> None:
    keep = ("--keep", "id", "--on-bad-row")
    skipped = score(model, bad_rows, tmp_path / "skip", *keep, "skip")
    emptied = score(model, bad_rows, tmp_path / "null", *keep, "null")

    assert (skipped["rows"], skipped["rows_written"], skipped["bad_rows"]) == (10, 8, 2)
    left = [0, 1, 2, 4, 6, 7, 8, 9]
    assert read_scores(tmp_path / "skip")["id"].to_pylist() == left
    assert emptied["rows_written"] == 10
    rows = read_scores(tmp_path / "null").to_pylist()
    assert [row["id"] for row in rows if row["label"] is None] == [3, 5]
    assert rows[3]["probability_0"] is rows[5]["probability_1"] is None
    assert [
        (cell["row"], cell["column"], cell["value"])
        for cell in emptied["first_bad_rows"]
    ] == [
        (3, "f1", "a missing value"),
        (3, "f2", "inf"),
        (5, "f5", "nan"),
    ]
    # The log names one, so that a wrong form of numbers shows at once.
    assert tell_end(emptied)["first_bad_cell"] == emptied["first_bad_rows"][0]


def test_contributions_are_the_servers(model: Path, tmp_path: Path) -> None:
    table = make_numbers(5)
    pq.write_table(table, tmp_path / "rows.parquet")
    X = np.column_stack([table[f"f{n}"].to_numpy() for n in range(6)])
    expected = [load_model(model).estimator.explain(row.tolist(), 1) for row in X]

    score(model, tmp_path / "rows.parquet", tmp_path / "out", "--explain-top-k", "2")

    for row, found in zip(
        read_scores(tmp_path / "out").to_pylist(), expected, strict=True
    ):
        assert (row["score"], row["base"]) == (found.score, found.base)
        values = sorted(found.contributions, key=abs, reverse=True)[:2]
        assert [each["value"] for each in row["contributions"]] == values


def test_a_table_that_does_not_fit_is_refused_before_a_row_is_scored(
    model: Path, tmp_path: Path
) -> None:
    table = make_numbers(10)
    table = table.drop_columns(["f1"]).set_column(2, "f2", pa.array(["x"] * 10))
    pq.write_table(table.append_column("more", table["id"]), tmp_path / "rows.parquet")

    with pytest.raises(TableError) as caught:
        score(model, tmp_path / "rows.parquet", tmp_path / "out", "--keep", "day")

    for words in (
        "rows.parquet does not fit the model",
        'the kept column "day" is missing',
        'column "f1" is missing; it takes a finite number',
        'column "f2" is string; it takes numbers',
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_columns_that_are_not_the_models_are_named(model: Path, tmp_path: Path) -> None:
    pq.write_table(make_numbers(3), tmp_path / "rows.parquet")

    said = score(model, tmp_path / "rows.parquet", tmp_path / "out")["said"]

    assert "1 columns are not the model's and are left out: id" in said[0]


def test_a_run_goes_on_with_the_parts_that_are_there(
    model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "rows.parquet"
    pq.write_table(make_numbers(100), source, row_group_size=30)
    flags = ("--keep", "id", "--part-rows", "7")
    score(model, source, tmp_path / "whole", *flags)
    score(model, source, tmp_path / "out", *flags)
    for name in (
        "_manifest.json",
        "part-00000-0000003.parquet",
        "part-00000-0000014.parquet",
    ):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / ".part-00000-0000003.parquet.tmp").write_bytes(b"PAR1half")
    kept = (tmp_path / "out" / "part-00000-0000004.parquet").stat().st_ino

    manifest = score(model, source, tmp_path / "out", *flags)

    assert manifest["rows"] == manifest["rows_written"] == 100
    assert read_scores(tmp_path / "out") == read_scores(tmp_path / "whole")
    assert (tmp_path / "out" / "part-00000-0000004.parquet").stat().st_ino == kept
    assert not list((tmp_path / "out").glob(".*.tmp"))


def test_old_parts_are_not_mixed_with_another_input_model_or_option(
    model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "rows.parquet"
    pq.write_table(make_numbers(20), source)
    score(model, source, tmp_path / "out")

    with pytest.raises(TableError, match=r"another run \(changed: keep\); score into"):
        score(model, source, tmp_path / "out", "--keep", "id")
    pq.write_table(make_numbers(20, seed=1), source)
    with pytest.raises(TableError, match="changed: input"):
        score(model, source, tmp_path / "out")
    pq.write_table(make_numbers(20), source)
    other = write_artifact(tmp_path / "other", lightgbm_artifact(3)[0])
    with pytest.raises(TableError, match="changed: model, input"):
        score(other, source, tmp_path / "out")


def test_a_part_that_was_altered_is_refused(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "rows.parquet"
    pq.write_table(make_numbers(20), source)
    score(model, source, tmp_path / "out")
    (part,) = (tmp_path / "out").glob("part-*")
    part.write_bytes(part.read_bytes()[:-20])

    with pytest.raises(TableError, match="is broken or no part of a score"):
        score(model, source, tmp_path / "out")


def hostile_files() -> Iterator[tuple[str, bytes, str]]:
    """Yield names of files, their content, and words of the error."""
    header = b"f0,f1,f2,f3,f4,f5\n"
    yield "empty.csv", b"", "no lines below a line with names"
    yield "blank.csv", b"\n\n", "no lines below a line with names"
    yield "empty.parquet", b"", "cannot be read as Parquet"
    yield "cut.parquet", b"PAR1" + bytes(100), "cannot be read as Parquet"
    yield "short.csv", header + b"1,2,3,4,5,6\n1,2\n", "cannot be read as CSV"
    yield "long.csv", header + b"1,2,3,4,5,6\n1,2,3,4,5,6,7\n", "--on-bad-row skip"
    yield "quote.csv", header + b'1,2,3,4,5,"6\n1,2,3,4,5,6\n', "nothing closes the quote"
    yield "latin.csv", header + b"1,2,3,4,5,K\xf6ln\n", 'the text "Köln" is not allowed'
    yield "none.csv", header + b"1,2,3,4,5,\x81\n", "neither UTF-8 nor UTF-16 nor cp1252"
    yield "page.csv", b"<html><body>Sign in", "it is an HTML page"
    yield "title.csv", b"Export\n" + header + b"1,2,3,4,5,6\n", "line 1 is 'Export', which"
    yield "twice.csv", b"f0,f0,f1,f2,f3,f4,f5\n" + b"1," * 6 + b"1\n", "occurs 2 times"
    yield "word.csv", header + b"1,2,3,4,5,one\n", 'the text "one" is not allowed'
    yield "python.csv", header + b"1,2,3,4,5,1_000\n", 'the text "1_000" is not allowed'
    yield "rows.json", b"{}", "of another kind"
    yield "torn.csv.gz", b"\x1f\x8b\x08\x00abc", "gzip data cannot be unpacked"
    yield "two.csv.zip", archive(
        a="x", b="y"
    ), "a zip archive of 2 files; unpack the one"
    table = header + b"1,2,3,4,5,6\n" * 200_000
    for name, pack in PACKERS.items():
        yield f"cut.csv{name}", pack(table)[:-100], "cannot be "


@pytest.mark.parametrize(("name", "content", "words"), list(hostile_files()))
def test_a_broken_file_is_one_sentence(
    model: Path, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(TableError, match=words) as caught:
        score(model, tmp_path / name, tmp_path / "out")

    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "separator", "flags"),
    [
        ("utf-8", ",", ()),
        ("utf-8-sig", ";", ()),
        ("utf-16", "\t", ()),
        ("utf-16-le", "|", ()),
        ("cp1252", ";", ("--encoding", "cp1252")),
    ],
)
def test_csv_files_are_read_whatever_their_layout(
    model: Path, tmp_path: Path, encoding: str, separator: str, flags: tuple[str, ...]
) -> None:
    frame = make_numbers(50).to_pandas()
    frame["née"] = "Köln"
    text = frame.to_csv(index=False, sep=separator, lineterminator="\r\n")
    (tmp_path / "rows.csv").write_bytes(text.encode(encoding))
    pq.write_table(make_numbers(50), tmp_path / "rows.parquet")

    manifest = score(
        model, tmp_path / "rows.csv", tmp_path / "a", "--keep", "née", *flags
    )
    score(model, tmp_path / "rows.parquet", tmp_path / "b")

    found, expected = read_scores(tmp_path / "a"), read_scores(tmp_path / "b")
    assert found["née"].to_pylist() == ["Köln"] * 50
    assert np.array_equal(probabilities_of(found), probabilities_of(expected))
    assert any("separator" in said for said in manifest["said"]) == (separator != ",")


def make_city_model(folder: Path, cities: Sequence[str]) -> Path:
    """Return the folder of a model of an age and a city."""
    artifact = artifact_without_estimator(2, 2)
    age, city = artifact.input_schema.features
    age.name, city.name = "age", "city"
    city.categorical.strings.values.extend(cities)
    artifact.logistic_regression.coefficients.append(0.3)
    artifact.logistic_regression.intercepts.append(0.0)
    weights = artifact.logistic_regression.category_weights.add()
    weights.values.extend(range(len(cities)))
    golden = artifact.golden_examples.add(probabilities=[0.5, 0.5], label="0")
    golden.record.update({"age": 0.0, "city": cities[0]})
    return write_artifact(folder, artifact)


FORMS = {name: (PLAIN, content) for name, content in SAME.items()}
FORMS |= {name: (TRICKY, content) for name, content in SAME_TRICKY.items()}


@pytest.mark.parametrize(("plain", "content"), FORMS.values(), ids=FORMS)
def test_a_file_that_training_reads_is_scored_with_the_same_cells(
    plain: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "plain.csv").write_text(plain)
    (tmp_path / "rows.txt").write_bytes(content)
    cells = read_csv_file(tmp_path / "rows.txt").cells
    model = make_city_model(tmp_path / "model", sorted({*cells["city"]}))

    score(model, tmp_path / "plain.csv", tmp_path / "a", "--keep", "city")
    score(model, tmp_path / "rows.txt", tmp_path / "b", "--keep", "city")

    expected, found = read_scores(tmp_path / "a"), read_scores(tmp_path / "b")
    assert found["city"].to_pylist() == cells["city"].tolist()
    assert found == expected
    assert len(set(found["probability_1"].to_pylist())) == 3


def make_bomb() -> bytes:
    """Return gzip of a megabyte that unpacks to a small row and one of 256 MiB."""
    start = b"f0,f1,f2,f3,f4,f5\n1,2,3,4,5,6\n"
    zeros = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = bytes(2**20).replace(b"\0", b"0")
    return zeros.compress(start) + b"".join(
        [zeros.compress(block) for _ in range(256)] + [zeros.flush()]
    )


def test_a_packed_file_is_never_unpacked_as_a_whole(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "bomb.csv.gz").write_bytes(make_bomb())
    tracemalloc.start()
    try:
        with pytest.raises(TableError, match="a row is longer than expected"):
            score(model, tmp_path / "bomb.csv.gz", tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 160 * 2**20


def test_a_packed_file_is_scored_on_from_where_a_run_stopped(
    model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "rows.csv.xz"
    text = make_numbers(100).to_pandas().to_csv(index=False)
    source.write_bytes(lzma.compress(text.encode()))
    flags = ("--keep", "id", "--part-rows", "7")
    score(model, source, tmp_path / "whole", *flags)
    score(model, source, tmp_path / "out", *flags)
    for name in ("_manifest.json", "part-00000-0000003.parquet"):
        (tmp_path / "out" / name).unlink()
    kept = (tmp_path / "out" / "part-00000-0000004.parquet").stat().st_ino

    score(model, source, tmp_path / "out", *flags)

    assert read_scores(tmp_path / "out") == read_scores(tmp_path / "whole")
    assert (tmp_path / "out" / "part-00000-0000004.parquet").stat().st_ino == kept


def test_a_ragged_line_is_left_out_and_counted(model: Path, tmp_path: Path) -> None:
    lines = [
        "id,f0,f1,f2,f3,f4,f5",
        "0,1,2,3,4,5,6",
        "1,1,2",
        "2,,2,3,4,5, NA ",
        "3,NA,2,3,4,5,6",
    ]
    (tmp_path / "rows.csv").write_text("\n".join(lines))

    manifest = score(
        model,
        tmp_path / "rows.csv",
        tmp_path / "out",
        "--keep",
        "id",
        "--on-bad-row",
        "skip",
    )

    assert read_scores(tmp_path / "out")["id"].to_pylist() == ["0", "3"]
    assert (manifest["rows"], manifest["bad_rows"]) == (4, 2)
    assert "3 cells came; the header has 7" in manifest["first_bad_rows"][0]["reason"]
    assert manifest["first_bad_rows"][1]["value"] == 'the text " NA "'


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_table_without_rows_has_an_empty_part(
    model: Path, tmp_path: Path, name: str
) -> None:
    pq.write_table(make_numbers(0), tmp_path / "rows.parquet")
    make_numbers(0).to_pandas().to_csv(tmp_path / "rows.csv", index=False)

    manifest = score(model, tmp_path / name, tmp_path / "out")

    assert manifest["rows"] == 0
    scores = read_scores(tmp_path / "out")
    assert scores.num_rows == 0 and "probability_1" in scores.column_names


def test_an_output_that_would_harm_is_refused(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    table = make_numbers(5)
    pq.write_table(table.append_column("label", table["id"]), folder / "rows.parquet")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("dear")

    with pytest.raises(TableError, match="is the input"):
        score(model, folder, tmp_path / "link")
    with pytest.raises(TableError, match="has other files, such as thesis.tex"):
        score(model, folder, tmp_path / "full")
    with pytest.raises(TableError, match="--output-prefix names the answers otherwise"):
        score(model, folder, tmp_path / "out", "--keep", "label")
    score(model, folder, folder / "out", "--keep", "label", "--output-prefix", "model_")
    assert read_scores(folder / "out").column_names[:2] == ["label", "model_label"]
    # Once more: the output within the input is not taken for input.
    score(model, folder, folder / "again")


def test_an_integer_beyond_doubles_is_named_as_it_came(
    model: Path, tmp_path: Path
) -> None:
    table = make_numbers(1).set_column(1, "f0", pa.array([2**53 + 1]))
    pq.write_table(table, tmp_path / "large.parquet")

    words = (
        "9007199254740993 is not allowed; it takes integers of -9007199254740992 to "
    )
    with pytest.raises(TableError, match=words):
        score(model, tmp_path / "large.parquet", tmp_path / "out")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([2**53, 2**53 + 1, None, 2**60]), [2.0**53, None, None, 2.0**60]),
        (pa.array([2**64 - 1, 2**63], pa.uint64()), [None, 2.0**63]),
        (pa.array([-(2**63), -(2**53) - 1]), [-(2.0**63), None]),
        (
            pa.array([0.1, np.nan, np.inf], pa.float32()),
            [float(np.float32(0.1)), None, None],
        ),
        (pa.array(["0.1", "12.50"]).cast(pa.decimal128(10, 2)), [0.1, 12.5]),
        (
            pa.array(["0.1", "12345678901234567890.1"]).cast(pa.decimal128(30, 1)),
            [0.1, None],
        ),
        (pa.array([7, 7, None]).dictionary_encode(), [7.0, 7.0, None]),
        (pa.nulls(2), [None, None]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_numbers_of_any_type_are_exact_or_refused(
    column: pa.Array, expected: list[float | None]
) -> None:
    numbers, wrong = encode_typed(Feature("x", False, Numeric()), column)

    found = [None if w else x for x, w in zip(numbers.tolist(), wrong, strict=True)]
    assert found == expected


@settings(max_examples=200)
@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-1e8, max_value=1e8
    )
)
def test_decimals_are_rounded_as_python_rounds(value: Any) -> None:
    column = pa.array([value], pa.decimal128(15, 6))

    numbers, wrong = encode_typed(Feature("x", False, Numeric()), column)

    assert numbers.tolist() == [float(value)] and not wrong.any()


def test_the_manifest_compares_the_rows_with_those_of_training(tmp_path: Path) -> None:
    schema, train, holdout = make_rows(2)
    trained = train_family("lightgbm", schema, train, holdout)
    artifact = ModelArtifact.FromString(trained.artifact)
    folder = write_artifact(tmp_path / "model", artifact)
    rows = np.vstack([train.X, holdout.X])
    for name, shift in (("same", 0.0), ("moved", 3.0)):
        columns = {n: rows[:, p] for p, n in enumerate(schema.feature_names)}
        columns["column 0"] = columns["column 0"] + shift
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")

    same = score(folder, tmp_path / "same.parquet", tmp_path / "out same")
    moved = score(folder, tmp_path / "moved.parquet", tmp_path / "out moved")

    assert sum(same["labels"].values()) == sum(same["scores"]["rows"]) == len(rows)
    assert same["stability"]["column column 0"] < 0.05
    assert moved["stability"]["column column 0"] > 0.25
    on_disk = json.loads((tmp_path / "out same" / "_manifest.json").read_text())
    assert on_disk["stability"] == same["stability"]


PAGE = (ROOT / "docs" / "scoring.md").read_text()


def find_blocks(language: str) -> list[str]:
    """Return the fenced blocks of a language in the page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_commands_of_the_page_work(model: Path, tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    pq.write_table(make_numbers(40), tmp_path / "rows.parquet")
    make_numbers(20).to_pandas().to_csv(tmp_path / "exports" / "a.csv", index=False)
    pq.write_table(make_numbers(20), tmp_path / "exports" / "b.parquet")

    for line in find_blocks("sh")[0].splitlines():
        program = [sys.executable, *shlex.split(line)[1:]]
        subprocess.run(program, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)

    assert pq.read_table(tmp_path / "scores")["id"].to_pylist() == list(range(40))
    explained = read_scores(tmp_path / "scores-of-exports")
    assert explained.num_rows == 40
    assert [len(row) for row in explained["contributions"].to_pylist()] == [3] * 40


def test_the_function_of_the_page_works(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {
        each.__name__: each
        for each in (load_model, Path, Answerer, AnswerOptions, TextRules, Chunk)
    }
    names["pa"] = pa
    exec(find_blocks("python")[0], names)
    table = make_numbers(30)

    scores = names["score"](table.to_batches()[0])

    X = np.column_stack([table[f"f{n}"].to_numpy() for n in range(6)])
    expected = load_model(model).estimator.predict_batch(X)
    assert np.array_equal(probabilities_of(scores), expected)


@pytest.mark.slow
def test_a_killed_program_and_a_full_disk_lose_nothing(
    model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "rows.parquet"
    pq.write_table(make_numbers(20_000), source)
    flags = ["--keep", "id", "--part-rows", "200"]
    score(model, source, tmp_path / "whole", *flags)
    program = [sys.executable, "-m", "grpc_server.score", str(model), str(source)]
    program += [str(tmp_path / "out"), *flags]

    with subprocess.Popen(program, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: len(list(tmp_path.glob("out/part-*"))) > 3)
        process.kill()
    assert not (tmp_path / "out" / "_manifest.json").exists()
    # A limit on the size of files stands for a disk that is full.
    limited = ["bash", "-c", 'ulimit -f 4; trap "" XFSZ; exec "$@"', "bash", *program]
    full = subprocess.run(limited, capture_output=True, text=True)
    done = subprocess.run(program, capture_output=True, text=True)

    assert full.returncode == 1 and "cannot be written" in full.stdout
    assert "Traceback" not in full.stderr
    assert done.returncode == 0, done.stdout
    assert read_scores(tmp_path / "out") == read_scores(tmp_path / "whole")


def test_two_programs_do_not_write_one_output(model: Path, tmp_path: Path) -> None:
    pq.write_table(make_numbers(5), tmp_path / "rows.parquet")
    (tmp_path / "out").mkdir()

    with (
        lock_file(tmp_path / "out" / "_lock"),
        pytest.raises(TableError, match="another program scores into"),
    ):
        score(model, tmp_path / "rows.parquet", tmp_path / "out")


def test_an_empty_line_of_a_single_column_is_a_row(tmp_path: Path) -> None:
    artifact = artifact_without_estimator(1, 2)
    artifact.input_schema.features[0].nullable = True
    artifact.logistic_regression.coefficients.append(1.0)
    artifact.logistic_regression.intercepts.append(0.0)
    artifact.logistic_regression.imputed_values.append(0.0)
    artifact.golden_examples.add(features=[0.0], probabilities=[0.5, 0.5], label="0")
    model = write_artifact(tmp_path / "model", artifact)
    (tmp_path / "rows.csv").write_text("f0\n1\n\n3\n")

    score(model, tmp_path / "rows.csv", tmp_path / "out")

    assert read_scores(tmp_path / "out")["probability_1"].to_pylist()[1] == 0.5


def test_kept_text_keeps_its_type_and_parts_are_small_where_cells_are_large(
    model: Path, tmp_path: Path
) -> None:
    texts = [f"{number}" + "y" * 2**20 for number in range(80)]
    table = make_numbers(80).append_column("text", pa.array(texts))
    pq.write_table(table, tmp_path / "rows.parquet")

    manifest = score(
        model, tmp_path / "rows.parquet", tmp_path / "out", "--keep", "text"
    )

    assert read_scores(tmp_path / "out")["text"].to_pylist() == texts
    assert read_scores(tmp_path / "out").schema.field("text").type == pa.string()
    assert max(part["rows"] for part in manifest["parts"]) <= 32


@pytest.mark.parametrize("encoding", ["nope", "rot13", "hex", "base64"])
def test_an_encoding_that_is_none_of_text_is_refused(
    model: Path, tmp_path: Path, encoding: str
) -> None:
    (tmp_path / "rows.csv").write_bytes(b"61626364")

    with pytest.raises(TableError, match="state its encoding, such as"):
        score(model, tmp_path / "rows.csv", tmp_path / "out", "--encoding", encoding)


def test_a_file_that_grows_meanwhile_is_not_half_scored(
    model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "rows.csv"
    make_numbers(200).to_pandas().to_csv(source, index=False)
    arguments = [str(model), str(source), str(tmp_path / "out"), "--part-rows", "50"]
    job = make_job(parse_options(arguments), lambda event, fields: None)
    with source.open("a") as file:
        file.write("1,1,2,3,4,5,6\n")

    with pytest.raises(TableError, match="changed while it was scored"):
        run_job(job, lambda event, fields: None)

    assert not (tmp_path / "out" / "_manifest.json").exists()
    with pytest.raises(TableError, match="changed: input"):
        score(model, source, tmp_path / "out", "--part-rows", "50")
