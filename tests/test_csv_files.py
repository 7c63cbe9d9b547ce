"""CSV files as people have them: read as what they are, or refused with what to do."""

import bz2
import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from table_files.csv_layout import Format, find_layout
from training.data.csv_file import CsvTable, read_csv_file
from training.data.dataset import load_dataset
from training.errors import DataError

from csv_forms import PLAIN, SAME, archive


def show(table: CsvTable) -> list[list[str]]:
    """Return the cells of a table that is in memory."""
    assert isinstance(table.cells, pd.DataFrame)
    cells: list[list[str]] = table.cells.to_numpy().tolist()
    return cells


def read(folder: Path, content: str | bytes, name: str = "table.csv") -> CsvTable:
    """Write a file and read it."""
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(data)
    return read_csv_file(folder / name)


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_the_form_of_a_file_does_not_change_its_cells(
    content: bytes, tmp_path: Path
) -> None:
    table = read(tmp_path, content)

    assert list(table.cells.columns) == ["age", "city", "target"]
    assert show(table) == [
        ["1.5", "Köln", "yes"],
        ["2.5", "Oslo", "no"],
        ["3.5", "Köln", "yes"],
    ]


NOTES = {
    "as it is": [],
    "byte order mark": [],
    "cp1252": ["table.csv: encoding cp1252, as in 'Köln'"],
    "semicolons": ["table.csv: separator ';'"],
    "tabs": ["table.csv: separator 'tab'"],
    "stated separator": ["table.csv: separator ';', line 2 is the header"],
    "remarks": ["table.csv: line 3 is the header"],
    "index of to_csv": ["column 1 has no name and begins with '0', and has no two "],
    "separators at all ends": ["column 4 has neither a name nor a cell"],
}


@pytest.mark.parametrize("name", NOTES)
def test_what_is_not_plain_is_said(name: str, tmp_path: Path) -> None:
    notes = read(tmp_path, SAME[name]).notes

    assert len(notes) == len(NOTES[name])
    for note, begin in zip(notes, NOTES[name], strict=True):
        assert note.startswith(begin)


@pytest.mark.parametrize("name", ["table.CSV.GZ", "table.csv.gz", "TABLE.TSV", "t.txt"])
def test_the_case_of_a_name_changes_nothing(name: str, tmp_path: Path) -> None:
    text = "zip,target\n01234,a\n10115,b\n01234,a\n"
    data = text.replace(",", "\t") if name.endswith("TSV") else text
    content = gzip.compress(data.encode()) if "gz" in name.lower() else data.encode()
    (tmp_path / name).write_bytes(content)

    dataset = load_dataset(str(tmp_path / name), "target")

    assert dataset.schema.features[0].categories == ("01234", "10115")


OTHER_KINDS = {
    "page": (b"<!DOCTYPE html>\n<html><body>Sign in, please", "it is an HTML page; "),
    "page after a mark": (b"\xef\xbb\xbf\n <HTML>\n<p>,</p>", "it is an HTML page; "),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "workbook": (
        archive(**{"[Content_Types].xml": "", "xl/workbook.xml": ""}),
        "it is a workbook of a spreadsheet; export",
    ),
    "archive of two": (
        archive(a=PLAIN, b=PLAIN),
        "it is a zip archive of 2 files; unp",
    ),
    "archive of a folder": (
        archive(**{"a/": ""}),
        "it is a zip archive of 0 files; unpack",
    ),
    "broken archive": (b"PK\x03\x04\x14\x00", "its zip data cannot be unpacked: "),
    "archive with a password": (
        archive(a=PLAIN).replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
        "its zip data cannot be unpacked: ",
    ),
    "packed twice": (gzip.compress(bz2.compress(PLAIN.encode())), "packed twice; unp"),
    "cut and filled up": (
        gzip.compress(random.Random(1).randbytes(1000))[:500] + b"\0" * 600,
        "its gzip data cannot be unpacked: ",
    ),
    # A header, and a block of a type that there is not.
    "damage": (
        gzip.compress(b"")[:10] + b"\x07" * 20,
        "its gzip data cannot be unpacked: ",
    ),
    "damage of xz": (
        lzma.compress(random.Random(1).randbytes(1000))[:500] + b"\0" * 600,
        "its xz data cannot be unpacked: ",
    ),
    "cut bzip2": (
        bz2.compress(PLAIN.encode())[:-5],
        "its bzip2 data cannot be unpacked",
    ),
    "old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1", "it is an Excel workbook; export"),
    "Parquet": (b"PAR1\x15\x04", "it is a Parquet file; rename it"),
    "JSON": (b'[{"a": 1}]', "it is JSON; export"),
    "JSON in lines": (b'[\n {"a": 1},\n {"a": 2}]', "it is JSON; export"),
    "error of S3": (b"<Error><Code>AccessDenied</Code></Error>", "it is an HTML page"),
    "page after a remark": (b"<!-- x -->\n<html>,</html>\n", "it is an HTML page"),
    "DVC": (b"outs:\n- md5: a304\n  path: a.csv\n", "fetch the table with dvc pull"),
    "git-annex": (b"/annex/objects/MD5E-s1\n", "fetch the table with git annex get"),
    "tar": (gzip.compress(b"table.csv".ljust(257, b"\0") + b"ustar"), "a tar archive"),
    "Arrow": (b"ARROW1\0\0", "it is an Arrow file; write it as Parquet"),
    "joined": (b"a,b\n1,2\na,b\n3,4\n", "row 2 is the header again, as in files that"),
    "two encodings": (
        "a,b\nü,1\nö,2\nA,3\n".encode() + b"\xfc,1\n",
        "it is in UTF-8, but 1 of its lines are not, first line 5; save those",
    ),
    "title": (
        b"Customer export\na,b,c\n1,2,3\n4,5,6\n",
        "line 1 is 'Customer export', which is no header for the 3 cells of the lines below; "
        "remove the lines above",
    ),
    "filled title": (b"Export,,\n,,\na,b,c\n1,2,3\n4,5,6\n", "line 1 is 'Export'"),
    "title after a remark": (b"# x\nExport\na,b,c\n1,2,3\n4,5,6\n", "line 2 is 'Exp"),
    "long row": (
        b"a,b\n1,2\n3,4,5\n",
        "its rows have 2 cells, but one has 3: '3,4,5'; correct that row",
    ),
    "short row": (b"a,b\n1,2\n3", "its rows have 2 cells, but one has 1: '3'"),
    "open quote": (b'a,b\n"1,2\n3,4\n', "its rows have 2 cells, but one has 1"),
    "open quote in the last cell": (
        b'a,b\n1,2\n3,"4\n5,6\n',
        "nothing closes the quote before '4\\n5,6\\n'; correct it",
    ),
    "no text": (b"a,b\n\x81\x8d,\x90\n", "neither UTF-8 nor UTF-16 nor cp1252; save"),
    "cut": (
        gzip.compress(bytes(range(256)) * 40)[:90],
        "its gzip data cannot be unpacked: Compressed",
    ),
    "long cell": (b'a,b\n1,"' + b"x" * 2**24 + b"\n", "closes"),
    "long cell later": (
        b"a,b\n" + b"1,2\n" * 1_000_000 + b'1,"' + b"x\n" * 2**24,
        "a row has over 16 MiB, as after a quote that nothing closes",
    ),
    "one line": (b"hello\n", "it has no lines below a line with names"),
    "mark alone": (b"\xef\xbb\xbf", "it has no lines below a line with names"),
    "columns by spaces": (b"a  b\n1  2\n1  3\n", "table.csv: column 2 has no name"),
    "blank": (b"\n\n", "it has no lines below a line with names"),
}


@pytest.mark.parametrize(("content", "message"), OTHER_KINDS.values(), ids=OTHER_KINDS)
def test_a_file_that_is_no_table_is_named_with_the_cure(
    content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unnamed_column_that_names_no_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 1 has no name"):
        read(tmp_path, ",a\n1,2\n1,3\n")


def test_commas_in_decimal_numbers_do_not_separate_cells(tmp_path: Path) -> None:
    """Each line of this file has one comma and one semicolon."""
    table = read(tmp_path, "height, cm;age\n180,5;30\n170,5;31\n")

    assert list(table.cells.columns) == ["height, cm", "age"]
    assert table.cells["height, cm"].tolist() == ["180,5", "170,5"]


def test_very_wide_tables_are_read(tmp_path: Path) -> None:
    header = ",".join(
        f"a_name_as_long_as_a_sentence_may_be_number_{n:09}" for n in range(25_000)
    )
    row = ",".join("1" * 25_000)

    assert read(tmp_path, f"{header}\n{row}\n").cells.shape == (1, 25_000)


@pytest.mark.parametrize(
    "text", ["<DATE>,<OPEN>\n1,2\n", "rdate,x\n1,2\n", "a,b\n1,b\n"]
)
def test_a_table_that_resembles_another_kind_is_read(text: str, tmp_path: Path) -> None:
    assert len(read(tmp_path, text).cells) == 1


@pytest.mark.parametrize("separator", ["^", "~", ":", "\x01"])
def test_rare_separators_are_found(separator: str, tmp_path: Path) -> None:
    table = read(tmp_path, "a,b\n1,x y\n2,z\n".replace(",", separator))

    assert table.cells["b"].tolist() == ["x y", "z"]
    assert table.notes == (f"table.csv: separator {separator!r}",)


def test_a_name_may_begin_with_a_hash(tmp_path: Path) -> None:
    assert list(read(tmp_path, "#id,a\n1,2\n3,4\n").cells.columns) == ["#id", "a"]


def test_quotes_and_line_ends_within_cells_are_kept(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n"x, ""y""","1\n2"\nz,"\u2028"\n')

    assert show(table) == [['x, "y"', "1\n2"], ["z", "\u2028"]]


def test_escaped_quotes_are_found(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n"x, \\"y\\"",1\n"say \\"hi\\"",0\n' + '"z",1\n' * 9)

    assert table.cells["a"].tolist()[:2] == ['x, "y"', 'say "hi"']
    assert "escape" in table.notes[0]


def test_quotes_are_found_although_a_row_is_too_long(tmp_path: Path) -> None:
    rows = "'a; b';1\n'it''s';2\n" * 5

    with pytest.raises(DataError, match="rows have 2 cells, but one has 3: '3;4;5'"):
        read(tmp_path, f"name;n\n{rows}3;4;5\n")
    assert read(tmp_path, f"name;n\n{rows}").cells["name"].tolist()[:2] == [
        "a; b",
        "it's",
    ]


def test_a_short_row_is_not_taken_for_the_header_of_write_table(tmp_path: Path) -> None:
    """The rows have a cell more than the header, for their names."""
    rows = "".join(f'"{number}" 1.5 "x"\n' for number in range(2000))

    with pytest.raises(DataError, match="rows have 3 cells, but one has 2"):
        read(tmp_path, f'"a" "b"\n{rows}"y" 2.5\n')


cells = st.text(
    st.characters(
        codec="utf-8", exclude_characters="\x00\r", exclude_categories=["Cs"]
    ),
    max_size=6,
)


@given(rows=st.lists(st.tuples(cells, cells, st.sampled_from("xyz")), min_size=1))
@settings(deadline=None)
def test_what_a_writer_quotes_is_read_back(
    rows: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    quote = '"{}"'.format
    lines = [
        ",".join(quote(cell.replace('"', '""')) for cell in row)
        for row in [("a", "b", "c"), *rows]
    ]
    text = "\n".join(lines) + "\n"

    table = read(tmp_path_factory.mktemp("csv"), text)

    assert [tuple(row) for row in show(table)] == rows


TABLE = "n,money,euro,flag,city,when,target\n" + "".join(
    f'{i},"${i * 1234:,}","{i},5",{i % 2 == 0},city {i % 3},{i * 7 % 20},{"ab"[i % 2]}\n'
    for i in range(1, 41)
)


def drop_a_cell(text: str) -> str:
    """Empty the first cell of the third line."""
    lines = text.split("\n")
    lines[2] = "," + lines[2].split(",", 1)[1]
    return "\n".join(lines)


METAMORPHOSES: dict[str, Callable[[str], str]] = {
    "one more row": lambda text: text + '99,"$9","9,5",True,city 1,3,a\n',
    "no last line end": str.rstrip,
    "another order": lambda text: "\n".join(
        [text.split("\n")[0], *sorted(text.split("\n")[1:-1], reverse=True), ""]
    ),
    "other line ends": lambda text: text.replace("\n", "\r\n"),
    "one empty cell": drop_a_cell,
    "one empty label": lambda text: text.replace(",b\n", ",\n", 1),
    "one label NA": lambda text: text.replace(",b\n", ",NA\n", 1),
    "one gap in truth values": lambda text: text.replace("True", "", 1),
    "one space": lambda text: text.replace("city 1", "city 1 ", 1),
}


@pytest.mark.parametrize("change", METAMORPHOSES.values(), ids=METAMORPHOSES)
def test_a_small_change_does_not_change_what_columns_are(
    change: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.csv").write_bytes(change(TABLE).encode())

    before, after = (
        load_dataset(str(tmp_path / name), "target") for name in ("a.csv", "b.csv")
    )

    assert after.schema.class_labels == before.schema.class_labels == ("a", "b")
    assert [(f.name, f.kind, f.categories) for f in after.schema.features] == [
        (f.name, f.kind, f.categories) for f in before.schema.features
    ]
    n_gaps = int(np.isnan(after.X).sum())
    assert n_gaps == sum(f.nullable for f in after.schema.features) <= 1


def test_the_layout_of_a_plain_table_is_the_default() -> None:
    layout = find_layout(PLAIN)

    assert layout.format == Format()
    assert layout.names == ("age", "city", "target")
    assert (layout.n_above, layout.n_skipped, layout.is_empty) == (0, 1, False)


@pytest.mark.parametrize("name", ["PAR1", "Rar!", "ARROW1", "par1"])
def test_a_column_may_be_named_as_files_of_another_kind_begin(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{name},target\n1,a\n2,b\n")

    assert list(read_csv_file(path).cells.columns) == [name, "target"]
