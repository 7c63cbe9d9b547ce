"""Columns of dates in tables as people have them: foreign, broken, and changed a little."""

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet as pq

from date_columns.cells import read_seconds
from date_columns.forms import DateForm
from grpc_server.errors import ArtifactCorrupt
from grpc_server.model.schema import InputSchema
from prediction.artifact.v1 import model_artifact_pb2
from training.data.columns import read_columns
from training.data.dataset import Dataset, LoadOptions, load_dataset
from training.data.encoding import to_matrix
from training.data.inference import infer
from training.data.schema_file import Override, parse_overrides
from training.errors import DataError

PLAIN = ["2024-01-31", "2023-02-28", "2022-02-01", "2021-12-24"]
NUMBERS = [20240131, 20230228, 20220101]


def make_frame(cells: Any) -> pd.DataFrame:
    """Return a table with a column c of these cells, and a label."""
    labels = ["a", "b"] * len(cells)
    return pd.DataFrame(
        {"x": range(len(cells)), "c": cells, "target": labels[: len(cells)]}
    )


def load_csv(folder: Path, cells: Any, **settings: Any) -> Dataset:
    return load(folder / "table.csv", cells, settings)


def load_parquet(folder: Path, cells: Any, **settings: Any) -> Dataset:
    return load(folder / "table.parquet", cells, settings)


def load(path: Path, cells: Any, settings: Mapping[str, Any]) -> Dataset:
    frame = make_frame(cells)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    options = LoadOptions(parse_overrides({"c": settings} if settings else {}))
    return load_dataset(str(path), "target", options)


def write_cells(dataset: Dataset) -> list[str]:
    """Return the column c in ISO 8601."""
    position = dataset.schema.feature_names.index("c")
    feature = dataset.schema.features[position]
    form = DateForm(feature.kind, feature.format)
    return [
        "" if np.isnan(value) else form.write(value)
        for value in np.asarray(dataset.X[:, position]).tolist()
    ]


ODD_CELLS = [
    "2023-02-29",
    "0000-01-01",
    "10000-01-01",
    "2024-01-31T24:00:00",
    "2016-12-31T23:59:60",
    "2024-01-31\x00",
    "soon",
    "2" * 100_000,
]


@pytest.mark.parametrize("odd", ODD_CELLS, ids=lambda odd: repr(odd)[:30])
@pytest.mark.parametrize("row", [0, 7])
def test_a_cell_that_is_no_date_is_named_with_its_row_and_the_cures(
    odd: str, row: int, tmp_path: Path
) -> None:
    cells = PLAIN * 3
    cells.insert(row, odd)
    with pytest.raises(DataError, match="column 'c' looks like dates") as found:
        load_parquet(tmp_path, cells)

    message = str(found.value)
    cure = " (gaps = [" if len(odd) <= 40 else "; correct it"
    assert f"not in the form %Y-%m-%d: row {row + 1}: {odd[:40]!r}{cure}" in message
    assert 'kind = "categorical" or "drop"' in message and len(message) < 500
    gap = load_parquet(tmp_path, cells, gaps=[odd])
    assert write_cells(gap)[row] == "" and write_cells(gap).count("") == 1


@pytest.mark.parametrize("last", ["9999-12-31", "9999-12-31T23:59:59.999999"])
def test_the_last_date_of_all_is_a_date(last: str, tmp_path: Path) -> None:
    typed = pd.Series(np.array([last, *PLAIN], dtype="datetime64[us]"))
    dataset = load_csv(tmp_path, [last, *PLAIN])

    assert write_cells(dataset)[0].startswith(last[:19])
    assert np.array_equal(dataset.X, load_parquet(tmp_path, typed).X)


@pytest.mark.parametrize("years", [12_000, -500])
def test_a_date_of_parquet_that_text_cannot_hold_is_named(
    years: int, tmp_path: Path
) -> None:
    far = np.datetime64((years - 1970) * 366, "D").astype("datetime64[us]")
    column = pd.Series(np.array([far, *PLAIN], dtype="datetime64[us]"))

    with pytest.raises(DataError, match="column 'c' has a cell .*: row 1: '"):
        load_parquet(tmp_path, column)


def test_a_day_that_python_has_not_is_named(tmp_path: Path) -> None:
    days = pa.array([2**30, 0, 1, 2], pa.int32()).cast(pa.date32())
    table = pa.table({"c": days, "target": ["a", "b", "a", "b"]})
    pq.write_table(table, tmp_path / "table.parquet")

    with pytest.raises(DataError, match="column 'c' has a cell that cannot be read"):
        load_dataset(str(tmp_path / "table.parquet"), "target")


def test_dates_that_a_program_wrote_as_categories_are_dates(tmp_path: Path) -> None:
    cells = [f"{day:02d}.06.2013" for day in (1, 17, 30)] * 4
    category = pd.Series(pd.Categorical(cells))

    typed = load_parquet(tmp_path, category)

    text = load_csv(tmp_path, cells)
    assert typed.schema == text.schema and typed.schema.temporal
    assert typed.X.tolist() == text.X.tolist()
    kept = load_parquet(tmp_path, category, kind="categorical")
    assert kept.schema.features[-1].categories == tuple(cells[:3])


def test_stated_gaps_hold_in_parquet_too(tmp_path: Path) -> None:
    cells = [*PLAIN, "9999-12-31"] * 2
    column = pd.Series(np.array(cells, "datetime64[us]"))

    typed = load_parquet(tmp_path, column, gaps=["9999-12-31"])

    text = load_csv(tmp_path, cells, gaps=["9999-12-31"])
    assert write_cells(typed) == write_cells(text)
    assert write_cells(typed)[4] == "" and typed.schema.features[-1].nullable


def test_no_cure_is_told_that_would_not_work(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 5: 'xxx") as found:
        load_csv(tmp_path, [*PLAIN, "x" * 41])

    assert "gaps = [" not in str(found.value)


def test_days_that_equal_their_months_are_ambiguous(tmp_path: Path) -> None:
    cells = ["01/01/2020", "01/01/2021", "02/02/2021"] * 4

    with pytest.raises(DataError, match="both %d/%m/%Y and %m/%d/%Y read all cells"):
        load_csv(tmp_path, cells)
    stated = load_csv(tmp_path, cells, kind="date", format="%d/%m/%Y")
    assert write_cells(stated)[1][:10] == "2021-01-01"


@pytest.mark.parametrize("odd", [20230229, 0, 99999999])
@pytest.mark.parametrize("read", [load_csv, load_parquet])
def test_numbers_that_are_dates_but_for_one_are_no_numbers_in_silence(
    odd: int, read: Any, tmp_path: Path
) -> None:
    cells = [odd, *NUMBERS * 4]
    with pytest.raises(DataError) as found:
        read(tmp_path, cells)

    assert f"not in the form %Y%m%d: row 1: '{odd}'" in str(found.value)
    gap = read(tmp_path, cells, gaps=[str(odd)])
    assert write_cells(gap)[:2] == ["", "2024-01-31T00:00:00"]
    assert read(tmp_path, cells, kind="numeric").X[0, 1] == odd


@pytest.mark.parametrize("gap", ["", "NA", "-", "unknown"])
@pytest.mark.parametrize(
    "cells", [list(map(str, NUMBERS)), ["20240131.0", "20230228.0"], PLAIN]
)
def test_a_gap_changes_nothing_but_its_cell(
    gap: str, cells: list[str], tmp_path: Path
) -> None:
    full, dataset = cells * 6, [gap, *cells * 6]
    with_gap = load_csv(tmp_path, dataset)

    assert write_cells(with_gap) == ["", *write_cells(load_csv(tmp_path, full))]
    if gap:
        assert f"column 'c': gaps are written as {gap!r} in 1 cells" in with_gap.notes


@pytest.mark.parametrize(
    "cells",
    [[45322, 45323.5, 45400, 45001], [20240131, 20247799, 20229901, 20220050]],
    ids=["serial numbers of Excel", "few are dates by chance"],
)
def test_other_numbers_stay_numbers(cells: list[float], tmp_path: Path) -> None:
    dataset = load_csv(tmp_path, cells * 4)

    assert dataset.schema.features[-1].kind == "numeric"
    with pytest.raises(DataError, match="column 'c'"):
        load_csv(tmp_path, cells * 4, kind="date")


@pytest.mark.parametrize("cells", [["٢٠٢٤-٠١-٣١", "٢٠٢٣-٠٢-٢٨"], ["२०२४-०१-३१"]])
def test_digits_of_other_scripts_are_an_error_with_the_cure(
    cells: list[str], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no known form reads all cells; correct it"):
        load_parquet(tmp_path, [*cells * 6, None])


PARQUET = {
    "date32": ([dt.date(2024, 1, 31), dt.date(1969, 12, 31)], "%Y-%m-%d"),
    "ns": (
        np.array(["1969-12-31T23:59:59.123456789", "2024-01-31"], "datetime64[ns]"),
        "%Y-%m-%d",
    ),
    "us": (np.array(["1500-01-01T10:00", "2024-01-31"], "datetime64[us]"), "%Y-%m-%d"),
    "zone": (
        pd.to_datetime(["2024-06-01T10:00", "2024-01-31T11:00"]).tz_localize(
            "Europe/Berlin"
        ),
        "%Y-%m-%dT%H:%M:%S%z",
    ),
    "time64": ([dt.time(10, 30), dt.time(23, 59, 59, 999_999)], "%H:%M:%S"),
}


@pytest.mark.parametrize(("cells", "format_"), PARQUET.values(), ids=PARQUET)
def test_parquet_and_csv_hold_the_same_dates(
    cells: Any, format_: str, tmp_path: Path
) -> None:
    column = pd.Series(cells)
    column = column.loc[[0, 1] * 4].reset_index(drop=True)
    typed = load_parquet(tmp_path, column)
    text = load_csv(tmp_path, [cell.isoformat() for cell in column])

    assert typed.schema == text.schema
    assert typed.schema.features[-1].format == format_
    assert typed.X.tolist() == text.X.tolist()


@given(st.permutations(PLAIN * 3 + [None]))
@settings(max_examples=25)
def test_the_order_of_rows_changes_the_order_alone(cells: list[str | None]) -> None:
    def read(order: list[str | None]) -> tuple[Any, list[float]]:
        frame = pd.DataFrame({"c": pd.Series(order, dtype="str")})
        table, found, _ = read_columns(frame, {}, ())
        features = infer(table, found).features
        return features, np.asarray(to_matrix(table, features))[:, 0].tolist()

    features, seconds = read(cells)
    expected, ordered = read(sorted(cells, key=str))

    assert features == expected
    np.testing.assert_array_equal(np.sort(seconds), np.sort(ordered))


@given(
    st.lists(st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)), min_size=1),
    st.sampled_from(["datetime64[us]", "datetime64[ms]", "datetime64[s]"]),
)
def test_types_of_pandas_are_read_as_their_texts(
    moments: list[dt.datetime], dtype: Any
) -> None:
    column = pd.Series(np.array(moments, dtype="datetime64[us]")).astype(dtype)
    zoned = DateForm("date", "%Y-%m-%dT%H:%M:%S%z")
    plain = DateForm("date", "%Y-%m-%d")
    texts = [plain.parse(cell.isoformat()) for cell in column]

    utc = column.dt.tz_localize("UTC")
    for typed, form in ((column, plain), (utc, zoned), (utc, plain)):
        assert read_seconds(typed, form)[0].tolist() == texts
    assert read_seconds(column, zoned)[1].all()


BAD_FORMATS = ["", "%", "%d", "%Q/%m/%Y", "%Y %y %m", "%a %a %m/%Y", "%m/%Y\x00"]
BAD_FORMATS += ["%m/%Y\ud800", "%H:%M %m/%Y %H:%M", "%H:%M:%S"]
BAD_FORMATS += ["%Y-%m" + "-" * 100]


@pytest.mark.parametrize("format_", BAD_FORMATS)
def test_what_is_no_format_of_dates_is_refused(format_: str) -> None:
    with pytest.raises(ValueError, match="has|is no format"):
        DateForm("date", format_)
    if format_:
        with pytest.raises(DataError, match="schema: format of 'c': "):
            parse_overrides({"c": {"kind": "date", "format": format_}})


def test_a_clock_may_come_before_the_date(tmp_path: Path) -> None:
    cells = ["10:30 05/06/2024", "11:00 pm 28/02/2023"] * 4
    dataset = load_csv(tmp_path, cells, kind="date", format="%H:%M %d/%m/%Y")

    assert write_cells(dataset)[:2] == ["2024-06-05T10:30:00", "2023-02-28T23:00:00"]


def test_durations_are_no_dates_whatever_the_schema_file_says() -> None:
    frame = pd.DataFrame({"c": pd.to_timedelta(range(8), unit="h")})

    with pytest.raises(DataError, match="column 'c' holds durations, but the schema"):
        read_columns(frame, {"c": Override("date")}, ())


@pytest.mark.parametrize("kind", ["date", "time"])
def test_a_stated_column_without_a_value_is_dropped(kind: str, tmp_path: Path) -> None:
    dataset = load_csv(tmp_path, [None] * 8, kind=kind)

    assert dataset.dropped["c"] == "it has no value"


DAMAGED = {
    "no parts": ("%Y-%m-%d", []),
    "a part twice": ("%Y-%m-%d", [1, 1]),
    "no such part": ("%Y-%m-%d", [99]),
    "a part that is not set": ("%Y-%m-%d", [0]),
    "a part of times": ("%Y-%m-%d", [6]),
    "no format": ("", [1]),
    "no format of dates": ("%Q", [1]),
    "a long format": ("%Y-%m-%d" + " " * 100, [1]),
    "a character": ("%Y-%m-%d\0", [1]),
}


@pytest.mark.parametrize(("format_", "parts"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_date_of_an_artifact_is_refused(
    format_: str, parts: list[Any]
) -> None:
    message = model_artifact_pb2.InputSchema()
    date = message.features.add(name="born").date
    date.format = format_
    date.parts.extend(parts)

    with pytest.raises(ArtifactCorrupt, match="born"):
        InputSchema.from_message(message)
