"""Kinds of columns: inferred or set by the user; other columns are left out with a reason."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from training.data.dataset import Dataset, LoadOptions, load_dataset
from training.data.encoding import MAX_DENSE_INDICATORS, expand, to_matrix, to_table
from training.data.inference import (
    MAX_CATEGORIES,
    MAX_SHARED_CATEGORIES,
    N_KEPT_CATEGORIES,
    infer,
)
from training.data.schema import Feature, Kind, Schema
from training.data.schema_file import Override, format_schema, parse_overrides
from training.errors import DataError

N_ROWS = 120
NONE: Mapping[str, Override] = {}


def load(
    folder: Path, overrides: Mapping[str, Override] = NONE, **columns: Any
) -> Dataset:
    """Write columns to a CSV file, beside a number and the label, and load it."""
    table = {
        "x": np.arange(N_ROWS) ** 2 / 2,
        **columns,
        "target": [0, 1] * (N_ROWS // 2),
    }
    path = folder / "table.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    return load_dataset(str(path), "target", LoadOptions(overrides))


def repeat(*cells: Any) -> list[Any]:
    """Return a column that repeats cells."""
    return [cells[row % len(cells)] for row in range(N_ROWS)]


FEATURES = {
    "text": (
        repeat("b", "a", "c"),
        Feature("c", Kind.CATEGORICAL, False, ("a", "b", "c")),
    ),
    "text with gaps": (
        repeat("b", None, "a"),
        Feature("c", Kind.CATEGORICAL, True, ("a", "b")),
    ),
    "yes and no": (
        repeat("yes", "no"),
        Feature("c", Kind.CATEGORICAL, False, ("no", "yes")),
    ),
    "zip codes": (
        repeat("01234", "10115"),
        Feature("c", Kind.CATEGORICAL, False, ("01234", "10115")),
    ),
    "zip codes with gaps": (
        repeat("01234", None),
        Feature("c", Kind.CATEGORICAL, True, ("01234",)),
    ),
    "truth values": (repeat(True, False), Feature("c", Kind.BOOLEAN)),
    "truth values with gaps": (
        repeat(True, None, False),
        Feature("c", Kind.BOOLEAN, True),
    ),
    "whole numbers": (repeat(3, 1, 2), Feature("c", Kind.NUMERIC)),
    "0 and 1": (repeat(0, 1), Feature("c", Kind.NUMERIC)),
    "numbers with gaps": (repeat(0.5, None), Feature("c", Kind.NUMERIC, True)),
    "one number and gaps": (repeat(5, None), Feature("c", Kind.NUMERIC, True)),
    "years": (repeat(1999, 2024), Feature("c", Kind.NUMERIC)),
    "eight digits": (repeat(20241399, 20240131), Feature("c", Kind.NUMERIC)),
}


@pytest.mark.parametrize(("cells", "expected"), FEATURES.values(), ids=FEATURES)
def test_a_column_is_read_as_what_it_is(
    cells: list[Any], expected: Feature, tmp_path: Path
) -> None:
    dataset = load(tmp_path, c=cells)

    assert dataset.schema.features[1] == expected
    assert not dataset.dropped and not dataset.notes


def shuffle(numbers: range) -> list[int]:
    return [int(n) for n in np.random.default_rng(0).permutation(numbers)]


DROPPED = {
    "identifier": ([f"name {row}" for row in range(N_ROWS)], "it is an identifier"),
    "identifier with gaps": (
        [f"name {row}" if row else None for row in range(N_ROWS)],
        "it is an identifier",
    ),
    "constant": (repeat("same"), "every row has same"),
    "empty": (repeat(None), "it has no value"),
    "row numbers": (range(N_ROWS), "it numbers the rows"),
    "row numbers from 1": (range(1, N_ROWS + 1), "it numbers the rows"),
    "shuffled row numbers": (
        shuffle(range(N_ROWS)),
        "it numbers the rows: 120 different whole numbers from 0 to 119",
    ),
    "row numbers of a sample": (
        shuffle(range(0, 2 * N_ROWS, 2)),
        "it numbers the rows",
    ),
    "row numbers after a gap": (
        [*range(60), *range(61, N_ROWS + 1)],
        "it numbers the rows: 120 different whole numbers from 0 to 120",
    ),
    "row numbers of joined tables": (
        [*range(115), *range(5)],
        "it numbers the rows: 115",
    ),
    "categories of one row": (
        pd.Categorical([f"name {row}" for row in range(N_ROWS)]),
        "it is an identifier: no two rows have the same",
    ),
    "row numbers as doubles": (
        [None, *map(float, shuffle(range(1, N_ROWS)))],
        "it numbers the rows: 119 different whole numbers from 1 to 119",
    ),
}


@pytest.mark.parametrize(("cells", "reason"), DROPPED.values(), ids=DROPPED)
def test_a_column_that_teaches_nothing_is_left_out(
    cells: Any, reason: str, tmp_path: Path
) -> None:
    dataset = load(tmp_path, c=cells)

    assert dataset.schema.feature_names == ("x",)
    assert dataset.dropped["c"].startswith(reason)


def test_row_numbers_are_recognised_though_rows_have_no_label(tmp_path: Path) -> None:
    """A missing label leaves a gap in the numbers of the rows that are left."""
    table = {"row": range(N_ROWS), "x": repeat(0.5, 1.5), "y": repeat("no", "yes")}
    table["y"] = ["", *table["y"][1:]]
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)

    dataset = load_dataset(str(tmp_path / "t.csv"), "y")

    assert dataset.dropped["row"].startswith("it numbers the rows")


IDENTIFIERS = shuffle(range(10_000_000, 10_000_000 + 5000 * N_ROWS, 5000))


@pytest.mark.parametrize(
    "name", ["id", "customer_id", "Order ID", "CustomerId", "row", "Unnamed: 0"]
)
def test_a_name_tells_an_identifier_from_a_feature(name: str) -> None:
    frame = pd.DataFrame({name: IDENTIFIERS, "x": repeat(0.5, 1.5)})

    inferred = infer(frame, NONE)

    assert inferred.dropped[name].startswith("it is an identifier: its name says so")


@pytest.mark.parametrize("name", ["paid", "grid", "monkey", "c"])
def test_whole_numbers_that_are_all_different_are_used_and_noted(name: str) -> None:
    frame = pd.DataFrame({name: IDENTIFIERS})

    inferred = infer(frame, NONE)

    assert [feature.name for feature in inferred.features] == [name]
    assert inferred.notes[0].startswith(
        f"column {name!r} has another whole number in each"
    )


def test_row_numbers_that_begin_anew_are_used_and_noted() -> None:
    frame = pd.DataFrame({"row": [*range(60), *range(60)], "x": repeat(0.5, 1.5)})

    inferred = infer(frame, NONE)

    assert inferred.notes[0].startswith("column 'row' counts up from row to row, and")
    assert len(inferred.notes) == 1


def test_the_schema_file_makes_a_feature_of_row_numbers() -> None:
    frame = pd.DataFrame({"rank": shuffle(range(N_ROWS))})

    inferred = infer(frame, {"rank": Override("numeric")})

    assert (inferred.features, inferred.notes) == ((Feature("rank"),), ())


@pytest.mark.parametrize("n_rows", [99, 100])
def test_few_rows_say_nothing_about_their_numbers(n_rows: int) -> None:
    frame = pd.DataFrame({"c": range(n_rows), "x": np.arange(n_rows) / 2})

    assert ("c" in infer(frame, NONE).dropped) == (n_rows == 100)


def test_a_matrix_holds_numbers_truth_values_and_positions_of_categories(
    tmp_path: Path,
) -> None:
    dataset = load(
        tmp_path, c=repeat("b", None, "a"), t=repeat(True, False, None), n=repeat(2, 7)
    )

    assert dataset.schema.feature_names == ("x", "n", "t", "c")
    assert dataset.schema.n_numeric == 3
    assert np.array_equal(
        dataset.X[:3],
        np.array([[0, 2, 1, 1], [0.5, 7, 0, np.nan], [2, 2, np.nan, 0]]),
        equal_nan=True,
    )


def test_of_many_categories_those_of_one_row_count_as_missing(tmp_path: Path) -> None:
    cells = [f"shop {row}" for row in range(N_ROWS - 10)] + ["shop 109"] * 10

    dataset = load(tmp_path, {"c": Override("categorical")}, c=cells)
    feature = dataset.schema.features[1]

    assert len(feature.categories) == N_KEPT_CATEGORIES
    assert "shop 109" in feature.categories and not feature.nullable
    assert np.isnan(dataset.X[:, 1]).sum() == 10
    assert dataset.notes == (
        "column 'c' has 110 categories; the 10 rarest, in 10 rows, count as missing",
    )


def test_the_logged_schema_file_is_short_whatever_the_categories() -> None:
    feature = Feature("c", Kind.CATEGORICAL, categories=("a" * 10**5, "b" * 10**5))

    text = format_schema([feature], {})

    assert len(text) < 300 and '"aaaa' in text and '"bbbb' in text


def test_dates_take_no_share_of_the_categories() -> None:
    words = pd.Series([f"w{n}" for n in range(MAX_CATEGORIES)] * 2)
    n_columns = MAX_SHARED_CATEGORIES // MAX_CATEGORIES
    frame = pd.DataFrame({f"c{n}": words for n in range(n_columns)})
    frame["day"] = ["2024-01-31", "2024-02-01"] * MAX_CATEGORIES

    features = infer(frame, {"day": Override("date", format="%Y-%m-%d")}).features

    assert [len(f.categories) for f in features] == [0] + [MAX_CATEGORIES] * n_columns


@pytest.mark.parametrize(
    ("n_columns", "n_kept"),
    [(1, MAX_CATEGORIES), (50, MAX_SHARED_CATEGORIES // 50), (500, N_KEPT_CATEGORIES)],
)
def test_columns_share_the_categories_that_a_reply_can_list(
    n_columns: int, n_kept: int
) -> None:
    cells = pd.Series([f"shop {number}" for number in range(1100)] * 2)
    frame = pd.DataFrame({f"c{number}": cells for number in range(n_columns)})

    inferred = infer(frame, {}, may_use_means=False)

    assert {len(feature.categories) for feature in inferred.features} == {n_kept}
    assert f"the {1100 - n_kept} rarest, in {2 * (1100 - n_kept)} rows" in (
        inferred.notes[0]
    )


def test_the_schema_file_overrides_what_cells_suggest(tmp_path: Path) -> None:
    overrides = parse_overrides(
        {
            "code": {"kind": "categorical", "unknown": "refuse"},
            "flag": {"kind": "boolean"},
            "day": {"kind": "numeric"},
            "x": {"kind": "drop"},
            "city": {"unknown": "refuse"},
        }
    )

    dataset = load(
        tmp_path,
        overrides,
        code=repeat(7, 3, None),
        flag=repeat(0, 1),
        day=repeat(20240131, 20230228),
        city=repeat("Oslo", "Rome"),
    )

    assert dataset.schema.features == (
        Feature("day"),
        Feature("flag", Kind.BOOLEAN),
        Feature("code", Kind.CATEGORICAL, True, (3, 7), refuse_unknown=True),
        Feature("city", Kind.CATEGORICAL, False, ("Oslo", "Rome"), refuse_unknown=True),
    )
    assert dataset.dropped == {"x": "the schema file says so"}


BAD_OVERRIDES: Mapping[str, tuple[Any, Mapping[str, Any], str]] = {
    "no such column": ([], {"z": {"kind": "drop"}}, "the table has no column 'z'"),
    "kind": (
        [],
        {"c": {"kind": "day"}},
        "kind of 'c' is 'day'; it has to be numeric, ",
    ),
    "policy": (
        [],
        {"c": {"unknown": "x"}},
        "unknown of 'c' is 'x'; it has to be missing or",
    ),
    "key": (
        [],
        {"c": {"type": "x"}},
        "'c' has the key 'type'; it takes kind, unknown, decimal, log, gaps or format",
    ),
    "no table": ([], {"c": "drop"}, "'c' is 'drop'; it has to be a table"),
    "log": (
        [],
        {"c": {"log": "all"}},
        "log of 'c' is 'all'; it has to be drop or hash",
    ),
    "log of a dropped column": (
        [],
        {"c": {"kind": "drop", "log": "hash"}},
        "'c' is dropped, so the server never gets it",
    ),
    "numeric policy": (
        [],
        {"c": {"kind": "numeric", "unknown": "refuse"}},
        "only columns of categories take unknown",
    ),
    "inferred numeric policy": (
        [1, 2],
        {"c": {"unknown": "refuse"}},
        "'c' is not categorical",
    ),
    "numbers": (
        ["1", "x", "y"],
        {"c": {"kind": "numeric"}},
        "column 'c' has a cell that is not a number: row 2: 'x', row 3: 'y', row 5: 'x'",
    ),
    "truth": (
        [1, 2],
        {"c": {"kind": "boolean"}},
        "is neither true nor false: row 2: '2'",
    ),
    "fractions": (
        [1, 2.5],
        {"c": {"kind": "categorical"}},
        "is not a whole number, as a category has to be: row 2: '2.5'",
    ),
}


@pytest.mark.parametrize(
    ("cells", "config", "message"), BAD_OVERRIDES.values(), ids=BAD_OVERRIDES
)
def test_a_schema_file_that_does_not_fit_is_named(
    cells: list[Any], config: Mapping[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, parse_overrides(config), c=repeat(*(cells or ["a", "b"])))

    assert message in str(caught.value)


def test_many_bad_cells_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 10: 'a' and 110 more"):
        load(tmp_path, {"c": Override("boolean")}, c=["a"] * 12 + ["x"] * 108)


def test_refusing_unknown_categories_leaves_no_room_for_rare_ones() -> None:
    cells = pd.Series([f"shop {row}" for row in range(MAX_CATEGORIES + 1)] + ["shop 0"])
    overrides = {"c": Override("categorical", unknown="refuse")}

    with pytest.raises(
        DataError, match="allows 1000, since none of them can be left out"
    ):
        infer(pd.DataFrame({"c": cells}), overrides)

    fewer = pd.DataFrame({"c": [*cells[:MAX_CATEGORIES], "shop 0"]})
    (feature,) = infer(fewer, overrides).features
    assert len(feature.categories) == MAX_CATEGORIES


def test_a_column_of_pandas_type_category_is_categorical() -> None:
    codes = pd.Categorical(repeat(20, 10, None))
    texts = pd.Categorical(repeat("a", "b"), categories=["b", "a", "never"])
    features = infer(pd.DataFrame({"i": codes, "s": texts}), NONE).features

    assert features == (
        Feature("i", Kind.CATEGORICAL, True, (10, 20)),
        Feature("s", Kind.CATEGORICAL, False, ("a", "b")),
    )


def test_cells_that_are_lists_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": repeat([1], [2]), "target": repeat(0, 1)})
    frame.to_parquet(tmp_path / "table.parquet")

    with pytest.raises(DataError, match="column 'a' has a cell that is neither"):
        load_dataset(str(tmp_path / "table.parquet"), "target")


names = st.text(st.characters(codec="utf-8"), min_size=1)
cells = {
    Kind.NUMERIC: st.floats(allow_nan=False, allow_infinity=False),
    Kind.BOOLEAN: st.booleans(),
    Kind.CATEGORICAL: st.sampled_from(["a", "b", "c", "d"]),
}


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Tables with columns of all kinds, some with gaps."""
    columns = {}
    for name in draw(st.lists(names, min_size=1, max_size=5, unique=True)):
        kind = draw(st.sampled_from(list(cells)))
        column = st.lists(cells[kind] | st.none(), min_size=8, max_size=8)
        columns[name] = pd.Series(draw(column), dtype=object).infer_objects()
    return pd.DataFrame(columns)


@given(tables())
def test_a_table_comes_back_from_its_matrix_and_its_schema_from_its_file(
    frame: pd.DataFrame,
) -> None:
    try:
        inferred = infer(frame, NONE)
    except DataError:
        return  # nothing is left to learn from
    schema = Schema(inferred.features, (0, 1))
    X = to_matrix(frame, schema.features)

    table = to_table(X, schema)
    again = infer(table, NONE)
    text = format_schema(schema.features, inferred.dropped)

    assert np.array_equal(to_matrix(table, schema.features), X, equal_nan=True)
    assert again.features == schema.features
    assert (
        infer(frame, parse_overrides(tomllib.loads(text))).features == schema.features
    )


foreign_texts = st.text(st.characters(codec="utf-8"))


@given(
    st.dictionaries(foreign_texts, foreign_texts),
    st.dictionaries(foreign_texts, st.lists(foreign_texts, min_size=1)),
)
@example({"note": 'every row has line one\nkind = "drop"\n[age]'}, {"age": ["\x7f"]})
def test_no_name_and_no_cell_changes_what_a_schema_file_says(
    dropped: dict[str, str], categories: dict[str, list[str]]
) -> None:
    kept = {name: cells for name, cells in categories.items() if name not in dropped}
    features = [
        Feature(name, Kind.CATEGORICAL, True, tuple(cells))
        for name, cells in kept.items()
    ]

    text = format_schema(features, dropped)

    assert parse_overrides(tomllib.loads(text)) == {
        **{name: Override("categorical", "missing") for name in kept},
        **{name: Override("drop") for name in dropped},
    }


@pytest.mark.parametrize("n_categories", [3, MAX_DENSE_INDICATORS + 1])
def test_categories_become_columns_of_0_and_1(n_categories: int) -> None:
    rng = np.random.default_rng(0)
    feature = Feature("c", Kind.CATEGORICAL, True, tuple(range(n_categories)))
    schema = Schema((Feature("x"), feature), (0, 1))
    codes = rng.integers(-1, n_categories, 50).astype(float)
    codes[codes < 0] = np.nan
    X = np.column_stack([rng.normal(size=50), codes])

    expanded = expand(X, schema)
    is_sparse = not isinstance(expanded, np.ndarray)
    dense = np.asarray(csr_matrix(expanded).toarray())

    assert is_sparse == (n_categories > MAX_DENSE_INDICATORS)
    assert np.array_equal(dense[:, 0], X[:, 0])
    assert np.array_equal(dense[:, 1:], codes[:, None] == np.arange(n_categories))
