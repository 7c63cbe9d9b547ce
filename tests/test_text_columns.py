"""Columns of text: numbers in the forms of people, gaps, dates; what is decided is said."""

import datetime
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from date_columns.forms import DateForm
from training.data.columns import read_columns
from training.data.dataset import Dataset, LoadOptions, load_dataset
from training.data.dates import is_date
from training.data.roles import RoleNames
from training.data.schema import Feature, Kind
from training.data.schema_file import Override, format_schema, parse_overrides
from training.data.text_columns import read_feature, read_label
from training.errors import DataError


def text(*cells: str) -> "pd.Series[Any]":
    """Return a column of text."""
    return pd.Series(list(cells), name="c", dtype="str")


def numbers(column: "pd.Series[Any]") -> list[float | None]:
    """Return the cells of a column that was read, with None for gaps."""
    return [None if pd.isna(cell) else float(cell) for cell in column]


NUMBERS: dict[str, tuple[tuple[str, ...], list[float | None], str]] = {
    "money": (
        ("$1,200.50", "$3", "-$4.5", "($7)"),
        [1200.5, 3, -4.5, -7],
        "4 of 4 cells are numbers, with separators of thousands, the unit '$', parentheses",
    ),
    "money behind": (("1.200,50 €", "3 €"), [1200.5, 3], "decimal commas"),
    "percent": (("12.5%", "7 %", "-1%"), [12.5, 7, -1], "the unit '%'"),
    "thousands": (("1,200", "950", "1,000,000"), [1200, 950, 1e6], "thousands"),
    "decimal commas": (("3,5", "-4,25", "10"), [3.5, -4.25, 10], "decimal commas"),
    "both marks": (("1.234,5", "7"), [1234.5, 7], "such as '1.234,5' for 1234.5"),
    "Swiss": (("1'234.50", "7.5"), [1234.5, 7.5], "thousands"),
    "spaces": (("1 234,5", "12\u202f345,5"), [1234.5, 12345.5], "decimal commas"),
    "unit": (("70.1 kg", "82 kg", "64.5kg"), [70.1, 82, 64.5], "the unit 'kg'"),
    "speed": (("50 km/h", "7.5 km/h"), [50, 7.5], "the unit 'km/h'"),
    "dashes": (("1", "2", "-", "4"), [1, 2, None, 4], "count as gaps: row 3: '-'"),
    "question marks": (("?", "?", "3", "4", "5"), [None, None, 3, 4, 5], "'?'"),
    "a word": (("x", *"1234567890"), [None, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0], "'x'"),
    "minus sign": (("−1.5", "2"), [-1.5, 2], ""),
    "minus behind": (("778.66-", "2"), [-778.66, 2], "a minus behind them"),
    "Fortran": (("1.5D+03", "2.5d-01"), [1500, 0.25], "exponents of Fortran"),
    "about": (("~1798", "~20"), [1798, 20], "marks around them, such as '~1798'"),
    "Excel's text": (('="1.5"', '="2.5"'), [1.5, 2.5], "marks around them"),
    "lists of one": (("[1.5]", "[2.5]"), [1.5, 2.5], "marks around them"),
    "rupees": (("₹1,798", "₹17,97,780"), [1798, 1797780], "thousands"),
    "rupees as a word": (("Rs. 1,798.50", "Rs. 3"), [1798.5, 3], "the unit 'Rs.'"),
    "millions": (("€110.5M", "€3M"), [110.5, 3], "the unit '€M'"),
    "area": (("50 sq. m", "7.5 sq. m"), [50, 7.5], "the unit 'sq. m'"),
    "use": (("5.5 l/100km", "7 l/100km"), [5.5, 7], "the unit 'l/100km'"),
    "commas behind 0": (("0,779", "1,798"), [0.779, 1.798], "decimal commas"),
    "points": (
        ("1.234", "950"),
        [1.234, 950],
        'decimal = "," in the schema file reads',
    ),
    "mostly gaps": (("?", "?", "?", "3", "4"), [None, None, None, 3, 4], "'?'"),
    "NULL of MySQL": (("\\N", "\\N", "3", "4"), [None, None, 3, 4], "gaps: row 1"),
}


@pytest.mark.parametrize(("cells", "expected", "note"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_read_in_the_forms_of_people(
    cells: tuple[str, ...], expected: list[float | None], note: str
) -> None:
    read = read_feature(text(*cells), Override())

    assert numbers(read.cells) == expected
    assert note in "; ".join(read.notes)


def test_plain_numbers_are_read_to_the_bit_and_without_a_word() -> None:
    values = [0.1, 5e-324, 1e300, 123456789.123456789, -0.0]

    read = read_feature(text(*map(repr, values)), Override())

    assert read.cells.tolist() == values
    assert read.notes == ()


def test_a_text_of_many_spaces_takes_no_time() -> None:
    """A pattern that backs up over them would take a minute."""
    cells = [f"1{' ' * 20_000}{number}" for number in (1, 2)]
    start = time.process_time()

    assert read_feature(text(*cells), Override()).cells.tolist() == cells
    assert not is_date(cells[0])
    assert time.process_time() - start < 2


STAYS_TEXT = {
    "zip codes": ("01234", "10115", "90210"),
    "zip codes as Excel's text": ('="01234"', '="10115"', '="01234"'),
    "quoted names": ("'a'", "'b'", "'a'"),
    "hexadecimal": ("0x1F", "0x2A", "0x2A"),
    "rooms": ("1 room", "2 rooms", "1 room"),
    "addresses": ("10.0.0.1", "10.0.0.2", "10.0.0.1"),
    "versions": ("1.2.3", "1.2.4", "1.2.3"),
    "codes": ("A1", "B2", "A1"),
    "ranges": ("1-5", "6-10", "1-5"),
    "half": ("1", "x"),
}


@pytest.mark.parametrize("cells", STAYS_TEXT.values(), ids=STAYS_TEXT)
def test_text_that_is_no_number_stays_text(cells: tuple[str, ...]) -> None:
    read = read_feature(text(*cells), Override())

    assert read.cells.tolist() == list(cells)
    assert read.notes == ()


def test_cells_that_are_no_numbers_are_named_with_the_cure() -> None:
    with pytest.raises(DataError) as caught:
        read_feature(text("$1", "$2", "red"), Override())

    assert "'c' has a cell that is not a number: row 3: 'red'" in str(caught.value)
    assert 'gaps = ["red"] or kind = "categorical"' in str(caught.value)


def test_a_word_for_a_gap_may_fill_most_of_a_column_of_numbers() -> None:
    cells = [*map(str, range(20)), *["N/R"] * 80]

    with pytest.raises(DataError, match="cell that is not a number: row 21: 'N/R'"):
        read_feature(text(*cells), Override())


def test_numbers_with_several_units_are_an_error() -> None:
    cells = [f"{n}.5 {'kg' if n % 3 else 'lb'}" for n in range(200)]

    with pytest.raises(DataError, match="'c' holds numbers with the units 'kg', 'lb'"):
        read_feature(text(*cells), Override())


def test_the_schema_file_overrules_what_cells_suggest() -> None:
    column = text("1,234", "5,678")

    as_point = read_feature(column, Override())
    as_comma = read_feature(column, Override(decimal=","))
    as_text = read_feature(column, Override("categorical"))
    as_thousands = read_feature(text("1.234", "950"), Override(decimal=","))

    assert numbers(as_point.cells) == [1234, 5678]
    assert 'decimal = "," in the schema file' in as_point.notes[0]
    assert numbers(as_comma.cells) == [1.234, 5.678]
    assert as_text.cells.tolist() == ["1,234", "5,678"]
    assert numbers(as_thousands.cells) == [1234, 950]


def test_other_columns_decide_about_a_mark_that_may_be_either() -> None:
    frame = pd.DataFrame(
        {"a": text("1.234", "950"), "b": text("1,234", "2,345"), "x": text("1,5", "2")}
    )
    with_points = frame.assign(y=text("0.5", "1.25"))

    european, _, _ = read_columns(frame, {}, ())
    mixed, _, _ = read_columns(with_points, {}, ())

    assert european["a"].tolist() == [1234, 950]
    assert european["b"].tolist() == [1.234, 2.345]
    assert mixed["a"].tolist() == [1.234, 950]
    assert mixed["b"].tolist() == [1234, 2345]


GAPS = [
    "",
    " ",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "NaN",
    "nan",
    "NULL",
    "null",
    "<NA>",
    "NaT",
]


@pytest.mark.parametrize("gap", GAPS)
def test_gaps_are_the_same_in_all_columns_and_the_label(gap: str) -> None:
    as_number = read_feature(text("1", gap, "3"), Override())
    as_money = read_feature(text("$1", gap, "$3"), Override())
    as_text = read_feature(text("a", gap, "b"), Override())
    as_label = read_label(text("a", gap, "b"))
    as_truth = read_label(text("True", gap, "False"))

    assert numbers(as_number.cells) == [1, None, 3]
    assert numbers(as_money.cells) == [1, None, 3]
    for read in (as_text, as_label, as_truth):
        assert read.cells.isna().tolist() == [False, True, False]
        assert any(repr(gap) in note for note in read.notes) == bool(gap.strip())


def test_a_gap_that_is_a_category_is_said_and_can_be_kept() -> None:
    column = text("EU", "NA", "AS")

    by_default = read_feature(column, Override())
    kept = read_feature(column, Override(gaps=()))

    assert by_default.cells.isna().tolist() == [False, True, False]
    assert by_default.notes == (
        "column 'c': 'NA' in 1 of 3 cells counts as a gap; if it is a category, set gaps = [] in "
        "the schema file",
    )
    assert kept.cells.tolist() == ["EU", "NA", "AS"]


def test_a_category_that_may_be_a_gap_is_said_and_can_be_one() -> None:
    column = text("None", "Basic", "?")

    by_default = read_feature(column, Override())
    stated = read_feature(column, Override(gaps=("?",)))

    assert by_default.cells.tolist() == ["None", "Basic", "?"]
    assert 'set gaps = ["None"]' in by_default.notes[0]
    assert stated.cells.isna().tolist() == [False, False, True]


def test_a_class_that_may_be_a_gap_is_said() -> None:
    read = read_label(text("yes", "?", "no"))

    assert read.cells.tolist() == ["yes", "?", "no"]
    assert 'set gaps = ["?"]' in read.notes[0]


def test_spaces_at_the_ends_do_not_make_another_class() -> None:
    read = read_label(text("yes", "yes ", "no"))

    assert read.cells.tolist() == ["yes", "yes", "no"]
    assert "spaces at the ends of 1 cells are left out: row 2: 'yes '" in read.notes[0]


# Cells, the form that reads them, and the first as ISO 8601.
FORMS = {
    "ISO": ("2024-01-31", "%Y-%m-%d", "2024-01-31T00:00:00"),
    "ISO with slashes": ("2024/1/31", "%Y/%m/%d", "2024-01-31T00:00:00"),
    "ISO with a clock": ("2023-02-28 11:00", "%Y-%m-%d", "2023-02-28T11:00:00"),
    "UTC": (
        "2024-01-31T10:00:00.5Z",
        "%Y-%m-%dT%H:%M:%S%z",
        "2024-01-31T10:00:00.500000Z",
    ),
    "offset": ("2024-01-31T10:00+02:00", "%Y-%m-%dT%H:%M:%S%z", "2024-01-31T08:00:00Z"),
    "day first": ("31.1.2024", "%d.%m.%Y", "2024-01-31T00:00:00"),
    "spaces": ("31. 1. 2024", "%d. %m. %Y", "2024-01-31T00:00:00"),
    "month first": ("08/19/24", "%m/%d/%y", "2024-08-19T00:00:00"),
    "last century": ("08/19/70 1:05 pm", "%m/%d/%y", "1970-08-19T13:05:00"),
    "name": ("19-Aug-2024", "%d-%b-%Y", "2024-08-19T00:00:00"),
    "American": ("Aug 19, 2024", "%b %d, %Y", "2024-08-19T00:00:00"),
    "weekday": ("Thu, 02 May 2013", "%a, %d %b %Y", "2013-05-02T00:00:00"),
    "German": ("2. Mai 2013", "%d. %b %Y", "2013-05-02T00:00:00"),
    "month": ("2024-08", "%Y-%m", "2024-08-01T00:00:00"),
    "month in slashes": ("08/2024", "%m/%Y", "2024-08-01T00:00:00"),
    "name of a month": ("Sep 2023", "%b %Y", "2023-09-01T00:00:00"),
    "compact": ("20240131T101010", "%Y%m%dT%H%M%S", "2024-01-31T10:10:10"),
    "digits": ("20240131", "%Y%m%d", "2024-01-31T00:00:00"),
    "clock": ("13:45:01", "%H:%M:%S", "13:45:01"),
    "hour": ("7 PM", "%H:%M:%S", "19:00:00"),
    "SAS": ("02MAY2013", "%d%b%Y", "2013-05-02T00:00:00"),
    "SAS with a clock": ("02MAY13:10:30:00", "%d%b%y", "2013-05-02T10:30:00"),
    "ctime": (
        "Thu May  2 10:30:00 2013",
        "%a %b %d %H:%M:%S %Y",
        "2013-05-02T10:30:00",
    ),
    "web server": (
        "02/May/2013:10:30:00 +0200",
        "%d/%b/%YT%H:%M:%S%z",
        "2013-05-02T08:30:00Z",
    ),
    "comma": ("2 May, 2013", "%d %b, %Y", "2013-05-02T00:00:00"),
}


@pytest.mark.parametrize(("cell", "format_", "iso"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("gap", ["", "NA", "-"])
def test_dates_are_columns_of_their_own_also_with_gaps(
    cell: str, format_: str, iso: str, gap: str, tmp_path: Path
) -> None:
    dataset = load(tmp_path, {}, c=[cell, gap, *[cell] * 10])

    feature = dataset.schema.features[1]
    form = DateForm(feature.kind, feature.format)
    assert feature.format == format_ and feature.nullable
    assert form.write(dataset.X[0, 1]) == iso
    assert np.isnan(dataset.X[1, 1]) and np.isfinite(dataset.X[2:, 1]).all()
    assert any(repr("c") in note for note in dataset.notes)


NOT_ONE_FORM = {
    "day or month": (["1/1/13 22:33", "05/06/13"], "both %d/%m/%y and %m/%d/%y"),
    "day or year": (["10-11-12"], "both %d-%m-%y and"),
    "no form": (["12 déc. 2020", "May-13"], "no known form reads all cells"),
    "Oracle": (["02-MAY-13 10.30.00.000000 PM"], "no known form"),
    "zone of a place": (["2024-01-31 10:00:00 Europe/Berlin"], "no known form"),
    "zone in letters": (["2024-01-31 10:00:00 CET"], "no known form"),
    "Japanese": (["2024年1月31日"], "no known form"),
    "hyphens of a book": (["2024\u201001\u201031"], "no known form"),
    "quarters": (["2024Q1"], "no known form"),
    "weeks": (["2024-W05"], "no known form"),
    "durations": (["0 days 10:11:12"], "no known form"),
    "two forms": (["2024-01-31", "31.1.2024"], "no known form"),
    "no such day": (
        ["0000-00-00", *["2024-01-31", "2023-02-28", "2022-02-01"] * 3],
        "not in the form %Y-%m-%d: row 1: '0000-00-00'",
    ),
    "zones": (
        ["2024-01-31T10:00Z", "2024-01-31T10:00"],
        "an offset from UTC, and others",
    ),
}


@pytest.mark.parametrize(("cells", "why"), NOT_ONE_FORM.values(), ids=NOT_ONE_FORM)
def test_dates_without_one_form_are_an_error_with_the_cure(
    cells: list[str], why: str, tmp_path: Path
) -> None:
    column = [*(cells[row % len(cells)] for row in range(11)), None]
    with pytest.raises(DataError, match="column 'c' looks like dates") as found:
        load(tmp_path, {}, c=column)

    assert why in str(found.value) and 'kind = "date"' in str(found.value)
    assert not load(tmp_path, {"c": Override("drop")}, c=column).schema.temporal


def test_the_schema_file_states_a_form(tmp_path: Path) -> None:
    cells = ["05/06/2013", "07/08/2014"] * 6
    overrides = parse_overrides({"c": {"kind": "date", "format": "%d/%m/%Y"}})
    dataset = load(tmp_path, overrides, c=cells)

    feature = dataset.schema.features[1]
    again = parse_overrides(tomllib.loads(format_schema([feature], {})))
    assert feature.parts == ("days", "year", "month", "weekday")
    assert feature.format == "%d/%m/%Y"
    assert DateForm("date", feature.format).write(dataset.X[0, 1])[:10] == "2013-06-05"
    assert load(tmp_path, again, c=cells).schema == dataset.schema
    for wrong in ({"format": "%d"}, {"format": "%Q", "kind": "date"}, {"format": 3}):
        with pytest.raises(DataError, match="schema: .*'c'"):
            parse_overrides({"c": wrong})


NO_DATES = (
    "abc 1.2.3 10.0.0.1 12.5 1,200 A-12 decide may 555-12-1234 99-34-56 1/2 2:1 Q1 10-12 2024 - ?"
).split() + ["5 kg", "Mark 12", "Maria 12", "3 rooms", "12 months", "Main Street 5"]


@pytest.mark.parametrize("word", NO_DATES)
def test_other_text_is_not_taken_for_a_date(word: str) -> None:
    assert not is_date(word)


def load(folder: Path, overrides: dict[str, Override], **columns: Any) -> Dataset:
    """Write columns of 12 rows to a CSV file, beside a number and the label, and load it."""
    table = {"x": [n * n / 4 for n in range(12)], **columns, "target": ["a", "b"] * 6}
    path = folder / "table.csv"
    pd.DataFrame(table).to_csv(path, index=False)
    return load_dataset(str(path), "target", LoadOptions(overrides))


def days(n_gaps: int, *cells: Any) -> list[Any]:
    """Return 12 cells with gaps at the beginning."""
    return [None] * n_gaps + [cells[n % len(cells)] for n in range(12 - n_gaps)]


TEMPORAL = {
    "days": (datetime.date(2024, 1, 31), datetime.date(2023, 2, 1)),
    "times": (datetime.datetime(2024, 1, 31, 10), datetime.datetime(2023, 2, 1)),
    "clock": (datetime.time(10, 30), datetime.time(11)),
    "durations": (pd.Timedelta("1D"), pd.Timedelta("2D")),
    "quarters": (pd.Period("2024Q1"), pd.Period("2024Q2")),
    "with zone": (pd.Timestamp("2024-01-31", tz="UTC"), pd.Timestamp(0, tz="UTC")),
}


@pytest.mark.parametrize(("name", "cells"), TEMPORAL.items())
@pytest.mark.parametrize("n_gaps", [0, 1])
def test_dates_of_parquet_are_of_a_kind_of_their_own_also_with_gaps(
    n_gaps: int, name: str, cells: tuple[Any, ...], tmp_path: Path
) -> None:
    path = tmp_path / "table.parquet"
    table = {"x": range(12), "c": days(n_gaps, *cells), "target": ["a", "b"] * 6}
    pd.DataFrame(table).to_parquet(path)

    if name == "durations":
        with pytest.raises(DataError, match="column 'c' holds dates or durations"):
            load_dataset(str(path), "target")
    else:
        feature = load_dataset(str(path), "target").schema.features[1]
        assert feature.kind == ("time" if name == "clock" else "date")
        assert feature.nullable == bool(n_gaps)
        assert ("%z" in feature.format) == (name == "with zone")
    with pytest.raises(DataError, match="column 'c' holds dates or durations"):
        load_dataset(str(path), "target", LoadOptions({"c": Override("numeric")}))
    for kind in ("drop", "categorical"):
        dataset = load_dataset(str(path), "target", LoadOptions({"c": Override(kind)}))
        assert len(dataset.schema.features) == 1 + (kind == "categorical")


@pytest.mark.parametrize(
    ("last", "others", "gap"),
    [
        ("9999-12-31", ("2024-01-31", "2023-02-01"), "9999-12-31"),
        ("99991231", ("20240131", "20230201"), "99991231"),
        ("", (20240131103000, 20230201000000), ""),
        (99991231235959, (20240131103000, 20230201000000), "99991231235959"),
    ],
)
def test_a_date_that_stands_for_no_end_is_said_and_can_be_a_gap(
    last: Any, others: tuple[Any, ...], gap: str, tmp_path: Path
) -> None:
    cells = [*days(1, *others)[1:], last]

    dataset = load(tmp_path, {}, c=cells)
    stated = load(tmp_path, {"c": Override(gaps=(gap,))}, c=cells)

    assert [feature.kind for feature in dataset.schema.features] == ["numeric", "date"]
    assert any(f'set gaps = ["{gap}"]' in note for note in dataset.notes) == bool(gap)
    assert np.isnan(stated.X[:, 1]).tolist() == [False] * 11 + [True]
    assert dataset.X[0, 1] == stated.X[0, 1] > 1.6e9


def test_dates_as_numbers_are_said_and_may_stay_numbers(tmp_path: Path) -> None:
    for cells in (days(0, 20240131), days(2, 20240131, 20230228)):
        column = [*cells[:-1], 20230228]
        dataset = load(tmp_path, {}, c=column)
        numbers = load(tmp_path, {"c": Override("numeric")}, c=column)

        assert dataset.schema.features[1].format == "%Y%m%d"
        assert "20240131 are read as dates" in dataset.notes[0]
        assert numbers.schema.features[1].kind == "numeric"


@pytest.mark.parametrize(
    "mark",
    ["1.79769313486e+308", "-1.7976931348623157e308", "3.40282347e+38", "3.4028235e38"],
)
def test_marks_for_unknown_are_named(mark: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path, {}, c=[mark, *map(str, range(11))])

    assert "'c' has a cell that is a mark rather than a number" in str(caught.value)
    assert "row 1: " in str(caught.value)
    gaps = {"c": Override(gaps=(mark,))}
    assert load(tmp_path, gaps, c=[mark, *map(str, range(11))]).schema.nullable[1]


def test_a_label_with_a_gap_keeps_its_classes(tmp_path: Path) -> None:
    for labels, expected in (
        (["1", "0", "NA"], (0, 1)),
        (["True", "False", ""], (0, 1)),
        (["yes ", "no", "null"], ("no", "yes")),
        (["01", "1", "N/A"], ("01", "1")),
    ):
        rows = "".join(f"{n}.5,{labels[n % 3]}\n" for n in range(12))
        (tmp_path / "table.csv").write_text("a,target\n" + rows)

        dataset = load_dataset(str(tmp_path / "table.csv"), "target")

        assert dataset.schema.class_labels == expected
        assert len(dataset.y) == 8
        assert "4 rows have no label, first row 3; they are left out" in dataset.notes


def test_a_label_may_keep_what_looks_like_a_gap(tmp_path: Path) -> None:
    rows = "".join(f"{n}.5,{('NA', 'EU')[n % 2]}\n" for n in range(12))
    (tmp_path / "table.csv").write_text("a,target\n" + rows)
    path = str(tmp_path / "table.csv")

    overrides = {"target": Override(gaps=())}
    dataset = load_dataset(path, "target", LoadOptions(overrides))

    assert dataset.schema.class_labels == ("EU", "NA")
    with pytest.raises(DataError, match="'target' is the label, which takes gaps only"):
        load_dataset(path, "target", LoadOptions({"target": Override("numeric")}))


def test_columns_that_steer_training_may_hold_dates(tmp_path: Path) -> None:
    rows = "".join(f"{n},2024-01-{12 - n:02d},{'ab'[n % 2]}\n" for n in range(12))
    (tmp_path / "table.csv").write_text("a,day,target\n" + rows)

    roles = LoadOptions(roles=RoleNames(time="day"))
    dataset = load_dataset(str(tmp_path / "table.csv"), "target", roles)

    assert np.asarray(dataset.X)[:, 0].tolist() == list(range(11, -1, -1))


def test_the_logged_schema_file_keeps_how_cells_are_read() -> None:
    features = (
        Feature("a", Kind.CATEGORICAL, gaps=("?", 'say "x"')),
        Feature("b", decimal=",", redaction="hash"),
        Feature("c", gaps=()),
    )

    overrides = parse_overrides(tomllib.loads(format_schema(features, {})))

    assert overrides["a"].gaps == ("?", 'say "x"')
    assert overrides["b"] == Override("numeric", decimal=",", log="hash")
    assert overrides["c"].gaps == ()


@pytest.mark.parametrize("gaps", ["?", [1], {"x": 1}])
def test_gaps_have_to_be_a_list_of_texts(gaps: Any) -> None:
    with pytest.raises(DataError, match="gaps of 'c' is .* a list of texts"):
        parse_overrides({"c": {"gaps": gaps}})
