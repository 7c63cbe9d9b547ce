"""Tables of all kinds: values are read exactly, and unfit tables are refused with the place."""

import gzip
import io
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.sparse import csr_matrix
from sklearn.datasets import dump_svmlight_file, load_breast_cancer

from training.data.dataset import LoadOptions, load_dataset
from training.data.parquet_files import find_parquet_files, read_parquet_files
from training.data.schema import Feature, Kind
from training.data.schema_file import Override
from training.data.splitting import split_holdout
from training.errors import DataError

GOOD = "a,b,target\n1,2.5,0\n2,-1e-3,1\n3,7,0\n4,8,1\n"


def write(folder: Path, text: str, name: str = "table.csv") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_the_embedded_data_set_comes_from_scikit_learn() -> None:
    expected = load_breast_cancer()

    dataset = load_dataset("breast_cancer", "target")

    assert np.array_equal(dataset.X, expected.data)
    assert np.array_equal(dataset.y, expected.target)
    assert dataset.schema.feature_names == tuple(expected.feature_names)
    assert dataset.schema.class_labels == (0, 1)
    assert dataset.sha256 == load_dataset("breast_cancer", "target").sha256


def test_a_csv_table_is_read_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-200, 200, (50, 3))
    )
    frame.columns = ["x", "y z", "1"]
    frame["target"] = rng.integers(0, 2, 50)
    frame.to_csv(tmp_path / "table.csv", index=False)

    dataset = load_dataset(str(tmp_path / "table.csv"), "target")

    assert np.array_equal(dataset.X, frame.drop(columns="target").to_numpy())
    assert dataset.schema.feature_names == ("x", "y z", "1")


def test_csv_gz_csv_and_parquet_hold_the_same(tmp_path: Path) -> None:
    source = write(tmp_path, GOOD)
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    pd.read_csv(source).to_parquet(tmp_path / "table.parquet")

    datasets = [
        load_dataset(str(tmp_path / name), "target")
        for name in ("table.csv", "table.csv.gz", "table.parquet")
    ]

    for dataset in datasets:
        assert dataset.X.tolist() == [[1, 2.5], [2, -1e-3], [3, 7], [4, 8]]
        assert dataset.y.tolist() == [0, 1, 0, 1]
        assert dataset.schema == datasets[0].schema
    assert len({dataset.sha256 for dataset in datasets}) == 3


@pytest.mark.parametrize("name", ["table.svmlight", "table.svm", "table.libsvm.gz"])
def test_svmlight_stays_sparse(name: str, tmp_path: Path) -> None:
    X = np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 3]])
    path = tmp_path / name.removesuffix(".gz")
    dump_svmlight_file(X, [0, 1, 1], str(path))
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))

    dataset = load_dataset(str(tmp_path / name), "target")

    assert isinstance(dataset.X, csr_matrix)
    assert np.array_equal(dataset.X.toarray(), X)
    assert dataset.schema.feature_names == ("f0", "f1", "f2")
    assert dataset.schema.is_sparse


def test_an_empty_cell_is_missing_and_makes_the_column_nullable(tmp_path: Path) -> None:
    dataset = load_dataset(
        write(tmp_path, "a,b,target\n1,,0\n2,3,1\n3,4,0\n"), "target"
    )

    assert np.isnan(dataset.X[0, 1])
    assert dataset.schema.nullable == (False, True)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("7 -3 7", (-3, 7)),
        ("1.0 0.0 1.0", (0, 1)),
        ("True False True", (0, 1)),
        ("yes no yes", ("no", "yes")),
        ("b c a", ("a", "b", "c")),
        ("2024-01-02 2024-01-01 2024-01-02", ("2024-01-01", "2024-01-02")),
    ],
)
def test_labels_are_integers_or_text_in_order(
    labels: str, expected: tuple[object, ...], tmp_path: Path
) -> None:
    rows = "".join(f"{number},{label}\n" for number, label in enumerate(labels.split()))

    dataset = load_dataset(write(tmp_path, "a,target\n" + rows), "target")

    assert dataset.schema.class_labels == expected
    read = [str(dataset.schema.class_labels[code]) for code in dataset.y]
    as_written = [
        {"1.0": "1", "0.0": "0", "True": "1", "False": "0"}.get(x, x)
        for x in labels.split()
    ]
    assert read == as_written


BAD_TABLES = {
    "no target": (
        "a,b,c\n1,2,3\n",
        "no column 'target' for --target; its columns are 'a', 'b', 'c'",
    ),
    "column twice": ("a,a,target\n1,2,0\n2,3,1\n", "has the column 'a' more than once"),
    "nameless column": ("a,,target\n1,2,0\n2,3,1\n", "column 2 has no name"),
    "empty file": ("", "is empty"),
    "header only": ("a,target\n", "the label column has no row"),
    "only labels": ("target\n0\n1\n", "no column beside the label"),
    "ragged": ("a,target\n1,2,3,4\n1,2\n", "is not a CSV table"),
    "text": (
        "a,target\n1,0\nred,1\n3,0\n",
        "column 'a' has a cell that is not a number: row 2: 'red'",
    ),
    "two bad columns": (
        "a,b,target\n1,5,0\nred,6,1\n3,x,0\n",
        "column 'b' has a cell that is not a number: row 3: 'x'",
    ),
    "identifiers only": (
        "a,target\nx,0\ny,1\n",
        "no column is left to learn from. a: it is an identifier: no two rows",
    ),
    "infinite": (
        "a,target\n1,0\n-inf,1\n",
        "column 'a' has a cell that is not finite; leave such cells empty: row 2: '-inf'",
    ),
    "too many digits": (
        "a,target\n9007199254740993,0\n1,1\n",
        "column 'a' has a cell that has more digits than a double holds (2**53); drop the column "
        "if it is an identifier: row 1: '9007199254740993'",
    ),
    "constant": ("b,target\n5,0\n5,1\n", "learn from. b: every row has 5"),
    "empty column": ("b,c,target\n,1,0\n,1,1\n", "learn from. b: it has no value; c: "),
    "one class": ("a,target\n1,0\n2,0\n", "only the class 0; two classes or more"),
    "continuous label": ("a,target\n1,0.5\n2,1\n", "the label of row 1 is 0.5"),
    "huge label": ("a,target\n1,3000000000\n2,1\n", "the label 3000000000 is outside"),
}


@pytest.mark.parametrize(("text", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_table_that_cannot_be_learned_from_is_named(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(write(tmp_path, text), "target")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "there is no file"),
        (
            "table.xlsx",
            b"x",
            "nor breast_cancer; save the table as CSV in UTF-8 or as Parquet",
        ),
        ("table.parquet", b"PAR1 no", "is not a Parquet table"),
        ("table.csv.gz", b"no gzip", "is not a CSV table"),
        ("table.csv", b"\xff\xfe\x00a,target\n", "is not a CSV table"),
        ("table.svmlight", b"a:b c\n", "is not an svmlight file"),
        (
            "table.svmlight",
            b"<html>,</html>",
            "svmlight file: it is an HTML page; down",
        ),
        ("table.svmlight", b"1 4294967296:1\n", "the limit is 1,048,576 columns. Hash"),
        ("table.parquet", b"version https://git-lfs", "Git LFS, not the table; fetch"),
        ("table.parquet", b"PAR1 cut", "is not a Parquet table: its end is missing"),
        ("table.parquet", b"\x1f\x8b", "Parquet table: it is compressed as a whole"),
        (f"{'x' * 300}.csv", None, "is no path: File name too long"),
        ("table.svmlight", b"1 1:nan\n0 1:2\n", "has a value that is not finite"),
    ],
)
def test_a_file_that_is_not_a_table_is_named(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(DataError) as caught:
        load_dataset(str(tmp_path / name), "target")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_told_from_a_wrong_path(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")

    with pytest.raises(DataError, match="pipe.csv is a pipe or a device"):
        load_dataset(str(tmp_path / "pipe.csv"), "target")
    with pytest.raises(DataError, match="--data is empty"):
        load_dataset("", "target")


def test_many_columns_are_listed_in_part(tmp_path: Path) -> None:
    header = ",".join(f"c{number}" for number in range(40))

    with pytest.raises(DataError, match="'c9' and 30 more"):
        load_dataset(write(tmp_path, f"{header}\n{'1,' * 39}1\n"), "target")


def test_dates_of_a_parquet_file_are_seconds(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    frame = pd.DataFrame(
        {"day": pd.date_range("2024-01-01", periods=2), "target": [0, 1]}
    )
    frame.to_parquet(path)

    assert load_dataset(str(path), "target").X.ravel().tolist() == [
        1_704_067_200.0,
        1_704_153_600.0,
    ]


def test_the_hold_out_has_each_class_in_its_share() -> None:
    dataset = load_dataset("breast_cancer", "target")

    split = split_holdout(dataset, 0.25, 5, 0)

    assert len(np.intersect1d(split.train, split.holdout)) == 0
    assert len(split.train) + len(split.holdout) == len(dataset.y)
    assert abs(dataset.y[split.holdout].mean() - dataset.y.mean()) < 0.01


def test_the_hold_out_is_drawn_by_its_seed() -> None:
    dataset = load_dataset("breast_cancer", "target")

    draws = [
        split_holdout(dataset, 0.2, 5, seed).holdout.tolist() for seed in (0, 0, 1)
    ]

    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("fraction", "folds", "message"),
    [
        (0.0, 2, "--test_fraction is 0"),
        (1.0, 2, "--test_fraction is 1"),
        (0.5, 1, "--folds is 1"),
        (0.25, 4, "class 1 has 4 rows, 3 of them to learn from and 1 in the hold-out"),
        (0.01, 2, "a hold-out of 0.01 cannot be drawn"),
        (0.1, 2, "class 1 has 4 rows, 4 of them to learn from and 0 in the hold-out"),
    ],
)
def test_too_few_rows_are_named(
    fraction: float, folds: int, message: str, tmp_path: Path
) -> None:
    rows = "".join(f"{number},{int(number < 4)}\n" for number in range(30))
    dataset = load_dataset(write(tmp_path, "a,target\n" + rows), "target")

    with pytest.raises(DataError) as caught:
        split_holdout(dataset, fraction, folds, 0)

    assert message in str(caught.value)


def test_a_label_beyond_every_integer_type_is_not_wrapped_around(
    tmp_path: Path,
) -> None:
    """Cast to int64, this one would be -1."""
    labels = np.array([0, 2**64 - 1] * 10, dtype=np.uint64)
    frame = pd.DataFrame({"a": np.arange(20), "target": labels})
    frame.to_parquet(tmp_path / "table.parquet")

    with pytest.raises(DataError, match="the label 18446744073709551615 is outside"):
        load_dataset(str(tmp_path / "table.parquet"), "target")


def test_a_huge_label_is_shown_as_it_is(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(20), "target": [0.0, 1e300] * 10})
    frame.to_parquet(tmp_path / "table.parquet")

    with pytest.raises(DataError, match=r"the label 1e\+300 is outside"):
        load_dataset(str(tmp_path / "table.parquet"), "target")


def test_durations_are_refused_since_their_unit_is_unknown(tmp_path: Path) -> None:
    durations = pd.to_timedelta(np.arange(20), unit="s")
    frame = pd.DataFrame({"a": durations, "target": [0, 1] * 10})
    frame.to_parquet(tmp_path / "table.parquet")

    with pytest.raises(DataError, match="column 'a' holds dates or durations"):
        load_dataset(str(tmp_path / "table.parquet"), "target")


def test_a_long_integer_in_a_column_with_gaps_is_named(tmp_path: Path) -> None:
    """A gap makes pandas read doubles, which lose the last digit."""
    lines = ["a,target", ",0", "1e300,1", *("9007199254740993,0", "5,1") * 5]
    (tmp_path / "table.csv").write_text("\n".join(lines))

    with pytest.raises(
        DataError, match="'a' has a cell that has more .* row 3: '9007199254740993'"
    ):
        load_dataset(str(tmp_path / "table.csv"), "target")


def test_large_numbers_that_are_not_integers_are_fine(tmp_path: Path) -> None:
    lines = ["a,target", ",0", "1e300,1", *("9007199254740992,0", "5.5,1") * 5]
    (tmp_path / "table.csv").write_text("\n".join(lines))

    X = load_dataset(str(tmp_path / "table.csv"), "target").X

    assert X[1:4].ravel().tolist() == [1e300, 2.0**53, 5.5]


def test_a_long_table_is_read_in_one_piece(tmp_path: Path) -> None:
    """In pieces, pandas would read the first 01 as the number 1 and the last as text."""
    lines = [
        "a,b,target",
        *(f"{i},{i % 7},01" for i in range(300_000)),
        "1,1,x",
        "2,2,x",
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines))

    labels = load_dataset(str(tmp_path / "table.csv"), "target").schema.class_labels

    assert labels == ("01", "x")


def test_a_class_of_one_row_is_named_by_its_label(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(21), "target": ["no", "yes"] * 10 + ["mid"]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    dataset = load_dataset(str(tmp_path / "table.csv"), "target")

    with pytest.raises(DataError, match="class 'mid' has 1 row"):
        split_holdout(dataset, 0.2, 5, 0)


TOO_LARGE = {
    "classes": (
        {"target": range(10_001)},
        "10,001 classes, such as '0', and the server",
    ),
    "label": ({"target": ["a" * 10_001, "b"]}, "'aaa.* has 10,001 characters"),
    "labels": (
        {"target": [f"{n:09999}" for n in range(400)]},
        "all classes have 3,999,",
    ),
    "name": ({"n" * 10_001: [1.5, 2.5]}, "a name of 10,001 characters, 'nnn"),
    "categories": (
        {"c": ["é" * 10**6, "ü" * 10**6]},
        "4,000,000 of them in column 'c'",
    ),
}


@pytest.mark.parametrize(("columns", "message"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_the_server_would_refuse_is_refused_before_the_search(
    columns: dict[str, Any], message: str, tmp_path: Path
) -> None:
    n_rows = 2 * max(map(len, columns.values()))
    cells = {
        name: [*values] * (n_rows // len(values)) for name, values in columns.items()
    }
    table = {"x": np.arange(n_rows) / 3, "target": ["a", "b"] * (n_rows // 2), **cells}
    pd.DataFrame(table).to_parquet(tmp_path / "table.parquet")

    with pytest.raises(DataError, match=message) as found:
        load_dataset(str(tmp_path / "table.parquet"), "target")
    assert len(str(found.value)) < 400


def write_parts(folder: Path, **changes: pd.DataFrame) -> Path:
    """Write a table in two Parquet files; `changes` replaces one of them, part_0 or part_1."""
    frame = pd.read_csv(io.StringIO(GOOD))
    parts = {"part_0": frame[:2], "part_1": frame[2:]} | changes
    for name, part in parts.items():
        (folder / "parts").mkdir(exist_ok=True)
        part.to_parquet(folder / "parts" / f"{name}.parquet")
    return folder / "parts"


def test_a_folder_of_parquet_files_is_one_table(tmp_path: Path) -> None:
    whole = load_dataset(write(tmp_path, GOOD), "target")
    folder = write_parts(tmp_path)
    # Writers of such folders leave these files.
    (folder / "_SUCCESS").touch()
    (folder / "_metadata.parquet").write_bytes(b"no table")

    dataset = load_dataset(str(folder), "target")
    before = dataset.sha256
    write_parts(tmp_path, part_1=pd.read_csv(io.StringIO(GOOD))[1:])

    assert np.array_equal(dataset.X, whole.X)
    assert np.array_equal(dataset.y, whole.y)
    assert dataset.schema == whole.schema
    assert load_dataset(str(folder), "target").sha256 != before


def test_columns_of_parts_are_matched_by_name(tmp_path: Path) -> None:
    frame = pd.read_csv(io.StringIO(GOOD))
    folder = write_parts(tmp_path, part_1=frame[2:][frame.columns[::-1]])

    dataset = load_dataset(str(folder), "target")

    assert dataset.X.tolist() == [[1, 2.5], [2, -1e-3], [3, 7], [4, 8]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda part: part.drop(columns="a"), "part_1.parquet has no column 'a'"),
        (lambda part: part.assign(z=1), "part_0.parquet has no column 'z'"),
        (
            lambda part: part.assign(a="text"),
            "part_1.parquet: column 'a' is text, but in part_0.parquet it is int64",
        ),
    ],
    ids=["missing", "more", "type"],
)
def test_parts_that_do_not_fit_are_named(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
) -> None:
    folder = write_parts(tmp_path, part_1=change(pd.read_csv(io.StringIO(GOOD))[2:]))

    with pytest.raises(DataError) as caught:
        load_dataset(str(folder), "target")

    assert message in str(caught.value)


PARTS: dict[str, tuple[pa.Array, pa.Array, list[object]]] = {
    "gap": (pa.array([1, 2]), pa.array([None, 4.0]), [1, 2, None, 4]),
    "all gaps": (pa.array([1, 2]), pa.nulls(2), [1, 2, None, None]),
    "widths": (pa.array([1, 2], pa.int32()), pa.array([2**40, 4]), [1, 2, 2**40, 4]),
    "text": (
        pa.array(["u", "v"]),
        pa.array(["u", None], pa.large_string()),
        ["u", "v", "u", None],
    ),
    "categories": (
        pa.array(["u", "v"]).dictionary_encode(),
        pa.array(["w", "u"]).dictionary_encode(),
        ["u", "v", "w", "u"],
    ),
    "category and text": (
        pa.array(["u", "v"]).dictionary_encode(),
        pa.array(["w", "u"]),
        ["u", "v", "w", "u"],
    ),
    "numbers of categories": (
        pa.array([7, 8]).dictionary_encode(),
        pa.array([9, 7]).dictionary_encode(),
        [7, 8, 9, 7],
    ),
}


@pytest.mark.parametrize(("first", "second", "cells"), PARTS.values(), ids=PARTS)
def test_parts_whose_writers_saw_other_rows_are_one_table(
    first: pa.Array, second: pa.Array, cells: list[object], tmp_path: Path
) -> None:
    for number, column in enumerate((first, second)):
        part = pa.table({"a": column, "target": ["x", "y"]})
        part.to_pandas().to_parquet(tmp_path / f"part_{number}.parquet")

    frame = read_parquet_files(sorted(tmp_path.glob("*.parquet")))

    assert [None if pd.isna(cell) else cell for cell in frame["a"]] == cells
    is_category = pa.types.is_dictionary(first.type)
    assert isinstance(frame["a"].dtype, pd.CategoricalDtype) == is_category


def test_parts_do_not_change_long_integers_in_silence(tmp_path: Path) -> None:
    for number, column in enumerate(([2**53 + 1, 2], [0.5, 1.5])):
        part = pd.DataFrame({"a": column, "target": ["x", "y"]})
        part.to_parquet(tmp_path / f"part_{number}.parquet")

    with pytest.raises(DataError, match="the parts do not make one table"):
        load_dataset(str(tmp_path), "target")


def test_long_integers_beside_gaps_are_named_in_parquet_too(tmp_path: Path) -> None:
    column = pa.array([2**53 + 1, None, 3, 4])
    table = pa.table({"a": column, "target": ["x", "y", "x", "y"]})
    parquet.write_table(table, tmp_path / "table.parquet")

    with pytest.raises(DataError, match="more digits .* row 1: '9007199254740993'"):
        load_dataset(str(tmp_path / "table.parquet"), "target")


def test_a_category_of_whole_numbers_stays_one_in_parquet(tmp_path: Path) -> None:
    column = pd.Categorical([10, 20, None, 10] * 3)
    frame = pd.DataFrame({"a": column, "target": ["x", "y", "y"] * 4})
    frame.to_parquet(tmp_path / "table.parquet")

    features = load_dataset(str(tmp_path / "table.parquet"), "target").schema.features

    assert features == (Feature("a", Kind.CATEGORICAL, True, (10, 20)),)


def test_a_label_of_pandas_type_category_keeps_its_classes(tmp_path: Path) -> None:
    for labels, expected in (([1, 0, None], (0, 1)), (["b ", "a", "NA"], ("a", "b"))):
        column = pd.Categorical(labels * 4)
        frame = pd.DataFrame({"a": np.arange(12) / 8, "target": column})
        frame.to_parquet(tmp_path / "table.parquet")

        dataset = load_dataset(str(tmp_path / "table.parquet"), "target")

        assert dataset.schema.class_labels == expected
        assert len(dataset.y) == 8


def test_decimals_are_numbers_and_stated_gaps_hold_in_parquet_too(
    tmp_path: Path,
) -> None:
    column = [Decimal("0.10"), Decimal("-999.00"), None, Decimal("2.50")]
    frame = pd.DataFrame({"a": column, "target": ["x", "y"] * 2})
    frame.to_parquet(tmp_path / "table.parquet")
    path = str(tmp_path / "table.parquet")

    X = load_dataset(path, "target").X
    options = LoadOptions({"a": Override(gaps=("-999",))})
    with_gaps = load_dataset(path, "target", options).X

    assert np.array_equal(X, np.array([[0.1], [-999], [np.nan], [2.5]]), equal_nan=True)
    assert np.isnan(with_gaps).ravel().tolist() == [False, True, True, False]


def test_a_category_of_dates_is_dates(tmp_path: Path) -> None:
    days = pd.Categorical(pd.to_datetime(["2024-01-31", "2024-02-01"] * 6))
    frame = pd.DataFrame({"a": days, "target": ["x", "y", "y"] * 4})
    frame.to_parquet(tmp_path / "table.parquet")
    path = str(tmp_path / "table.parquet")

    assert load_dataset(path, "target").schema.features[0].kind == Kind.DATE
    options = LoadOptions({"a": Override("categorical")})
    assert load_dataset(path, "target", options).schema.features[0].categories


def test_more_columns_than_the_server_takes_are_said(tmp_path: Path) -> None:
    path = tmp_path / "table.svmlight"
    path.write_text("1 1:1 200000:1\n0 2:1\n")

    assert load_dataset(str(path), "target").notes == (
        "200,000 columns; the server takes models of up to 100,000",
    )


def test_a_named_index_is_a_column_and_an_unnamed_one_is_none(tmp_path: Path) -> None:
    frame = pd.read_csv(io.StringIO(GOOD))
    frame.set_index("a").to_parquet(tmp_path / "named.parquet")
    frame.set_index(pd.Index([7, 3, 9, 1])).to_parquet(tmp_path / "unnamed.parquet")

    for name in ("named.parquet", "unnamed.parquet"):
        features = load_dataset(str(tmp_path / name), "target").schema.features
        assert sorted(feature.name for feature in features) == ["a", "b"]


def test_too_many_hashed_features_are_refused_before_memory_is_taken(
    tmp_path: Path,
) -> None:
    path = tmp_path / "table.svmlight"
    path.write_text(f"1 1:1 {2**31 - 2}:1\n0 2:1\n")

    with pytest.raises(DataError, match="the limit is 1,048,576 columns. Hash to"):
        load_dataset(str(path), "target")


def test_a_mark_in_a_sparse_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.svmlight"
    path.write_text("1 1:1.797e308\n0 2:1\n")

    with pytest.raises(DataError, match=r"beyond 1e\+300, such as 1.797e\+308"):
        load_dataset(str(path), "target")


@pytest.mark.parametrize("place", ["part_0.PARQUET", "run.parquet/part_0.parquet"])
def test_a_part_may_lie_in_a_folder_that_is_called_so(
    place: str, tmp_path: Path
) -> None:
    folder = write_parts(tmp_path)
    (folder / place).parent.mkdir(exist_ok=True)
    first = sorted(folder.glob("*.parquet"))[0]
    first.rename(folder / place)

    assert len(find_parquet_files(folder)) == 2
    assert folder / place in find_parquet_files(folder)


def test_folders_that_are_not_a_table_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a folder without .parquet files"):
        load_dataset(str(tmp_path), "target")

    write_parts(tmp_path).rename(tmp_path / "year=2020")
    with pytest.raises(DataError, match="holds the value of a column"):
        load_dataset(str(tmp_path), "target")
